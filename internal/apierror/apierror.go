// Package apierror is the one place where an error gets its HTTP status and its
// code, for the tenant API and the management API alike. The table of kinds
// below is complete, except that net/http itself answers what it cannot read.
//
// It imports no other package of sqgate, so that all of them can return its
// errors. It decides nothing: whoever returns an error chooses the kind.
package apierror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kind is a row of the table: the HTTP status of an error and the code that a
// program can act on.
type Kind struct {
	Status int
	Code   string
}

// The table. The comment says when a caller meets the kind.
var (
	BadRequest     = Kind{http.StatusBadRequest, "bad_request"}                       // a parameter, a header, a body or a JSON field is wrong
	BadCoordinate  = Kind{http.StatusBadRequest, "bad_coordinate"}                    // a coordinate cannot be read
	BadPhext       = Kind{http.StatusBadRequest, "bad_phext"}                         // a phext name cannot be a file name
	HasDelimiters  = Kind{http.StatusBadRequest, "scroll_has_delimiters"}             // a scroll would move the scrolls behind it
	NotUTF8        = Kind{http.StatusBadRequest, "not_utf8"}                          // a text is not UTF-8
	Unauthorized   = Kind{http.StatusUnauthorized, "unauthorized"}                    // the key is missing or wrong
	Forbidden      = Kind{http.StatusForbidden, "forbidden"}                          // the key is good, and not for this
	TenantDisabled = Kind{http.StatusForbidden, "tenant_disabled"}                    // the operator disabled the tenant
	NotFound       = Kind{http.StatusNotFound, "not_found"}                           // no such operation, name, tenant or archive
	WrongMethod    = Kind{http.StatusMethodNotAllowed, "method_not_allowed"}          // the operation takes other methods
	Gone           = Kind{http.StatusGone, "cursor_expired"}                          // a cursor is from before the history
	LengthRequired = Kind{http.StatusLengthRequired, "length_required"}               // a write has no text and no length
	Conflict       = Kind{http.StatusConflict, "conflict"}                            // what is there already stands in the way
	Precondition   = Kind{http.StatusPreconditionFailed, "precondition_failed"}       // If-Match names another state
	TooLarge       = Kind{http.StatusRequestEntityTooLarge, "too_large"}              // a body, or the phext it would make
	Encoded        = Kind{http.StatusUnsupportedMediaType, "unsupported_media_type"}  // the body is compressed
	RateLimited    = Kind{http.StatusTooManyRequests, "rate_limited"}                 // calls, or wrong keys of one address
	HeaderTooLarge = Kind{http.StatusRequestHeaderFieldsTooLarge, "header_too_large"} // the request line and the fields
	Internal       = Kind{http.StatusInternalServerError, "internal"}                 // a management call failed on this host
	NotKnown       = Kind{http.StatusInternalServerError, "backend_failed"}           // whether a write was made, or is safe, is not known
	BackendFailed  = Kind{http.StatusBadGateway, "backend_failed"}                    // SQ, or a phext's file, is not as it should be
	Unavailable    = Kind{http.StatusServiceUnavailable, "unavailable"}               // for a moment: busy, starting, recovering, stopping
	BackendTimeout = Kind{http.StatusGatewayTimeout, "backend_timeout"}               // SQ did not answer in time
	QuotaExceeded  = Kind{http.StatusInsufficientStorage, "quota_exceeded"}           // the tenant's bytes or phexts
	DiskFull       = Kind{http.StatusInsufficientStorage, "disk_full"}                // the host's disk
)

// IsOperators says whether an error is for the operator to look after: it is neither
// the caller's, nor over in a moment.
func (k Kind) IsOperators() bool {
	return k.Status >= http.StatusInternalServerError && k != Unavailable && k != QuotaExceeded
}

// Error is an error in the form in which a caller is told of it. Message is a
// sentence that a person can act on; it holds no secret and no path.
type Error struct {
	Kind
	Message    string
	Allow      []string      // methods that would be right; with WrongMethod only
	RetryAfter time.Duration // 0 = the answer has no Retry-After
	Text       bool          // the answer is Message alone, as SQ gives it
	Coordinate string        // that the error is about, as the caller wrote it; in the published API only
	Operation  *int          // index of the operation of a batch that the error is about; nil = none
}

func (e *Error) Error() string { return e.Message }

// New is an error of a kind; message is formatted if there are args.
func New(kind Kind, message string, args ...any) *Error {
	if len(args) > 0 {
		message = fmt.Sprintf(message, args...)
	}
	return &Error{Kind: kind, Message: message}
}

// OfOperation is err as that of one operation of a batch, by its index. An error that no
// caller is told of stays what it is.
func OfOperation(index int, err error) error {
	e := From(err)
	if e == nil {
		return err
	}
	of := *e
	of.Operation, of.Message = &index, fmt.Sprintf("operations[%d]: %s", index, e.Message)
	return &of
}

// RetryIn is New for an error that a caller can wait out.
func RetryIn(after time.Duration, kind Kind, message string, args ...any) *Error {
	e := New(kind, message, args...)
	e.RetryAfter = after
	return e
}

// Describer is an error type of another package that knows what a caller is told.
type Describer interface {
	APIError() *Error
}

// From is what a caller is told of err, or nil if err is none that a caller
// can be told of: the package that answers decides what to say then.
func From(err error) *Error {
	var ready *Error
	var describer Describer
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &describer):
		return describer.APIError()
	case IsTimeout(err):
		return errTimeout
	}
	return nil
}

var errTimeout = New(BackendTimeout,
	"the database did not answer in time: a read can be repeated; a write was not stored, or will be whole: look it up before you repeat it")

// IsTimeout says whether err is a deadline that passed, of a context or of a connection.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
