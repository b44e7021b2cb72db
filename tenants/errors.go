package tenants

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/strictjson"
)

// Errors of Edit and Create. All but ErrNoTenant and ErrExists come wrapped,
// with the cause and with what an operator is told.
var (
	ErrBroken   = errors.New("the tenants file on disk has a mistake: mend it first") // made by hand, before the edit
	ErrInvalid  = errors.New("this would not be a valid tenants file")                // because of the edit
	ErrNoTenant = apierror.New(apierror.NotFound, "there is no such tenant")
	ErrExists   = apierror.New(apierror.Conflict, "there is such a tenant already")
	ErrDiskFull = errors.New("the tenants file could not be written: the disk is full")
	// ErrMeanwhile is returned by Options.Agree.
	ErrMeanwhile = errors.New("somebody else has changed the same tenant meanwhile")
)

// refusalRetry is when a caller should look whether the tenants file is mended.
const refusalRetry = 5 * time.Second

// refusal is what callers are told of the cause why no tenants file is in force. They
// may be anybody, so it names no tenant and no path.
func refusal(cause error) *apierror.Error {
	what := "cannot be read"
	var format *FormatError
	var field *FieldError
	switch {
	case errors.Is(cause, fs.ErrNotExist):
		what = "is missing"
	case errors.Is(cause, fs.ErrPermission):
		what = "may not be read by sqgate"
	case errors.As(cause, &format):
		what = "is not right (" + format.Error() + ")"
	case errors.As(cause, &field):
		what = "has a mistake in one of its fields"
	}
	return apierror.RetryIn(refusalRetry, apierror.Unavailable,
		"no tenant is served, because the tenants file %s: the operator finds the reason in the log, and has to mend it", what)
}

// editError is an error of Edit with what the operator is told of it.
type editError struct {
	error
	answer *apierror.Error
}

func (e *editError) Unwrap() error { return e.error }

// APIError is what the operator is told.
func (e *editError) APIError() *apierror.Error { return e.answer }

// Broken is ErrBroken with its cause. Options.Agree returns it for a mistake that it finds.
func Broken(cause error) error {
	err := fmt.Errorf("%w: %w", ErrBroken, cause)
	return &editError{err, apierror.New(apierror.Conflict, err.Error())}
}

// invalid tells the operator the first field that is wrong, which is one that
// the edit has set.
func invalid(cause error) error {
	err := fmt.Errorf("%w: %w", ErrInvalid, cause)
	message := err.Error()
	var field *FieldError
	if errors.As(cause, &field) {
		message = field.Error()
	}
	return &editError{err, apierror.New(apierror.BadRequest, message)}
}

func notWritten(cause error) error {
	if errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT) {
		err := fmt.Errorf("%w (%w)", ErrDiskFull, cause)
		return &editError{err, apierror.New(apierror.DiskFull, err.Error())}
	}
	return fmt.Errorf("the tenants file could not be written: %w", cause)
}

// notFollowed is an edit that Agree took, and that is not in the file.
func notFollowed(cause error) error {
	err := fmt.Errorf("the change is made, but not in the tenants file here, which follows as soon as it can be written: %w", cause)
	return &editError{err, apierror.New(apierror.NotKnown, err.Error())}
}

// FieldError is one mistake in a tenants file. Its text names the tenant, the
// field and the remedy. A key may stand in any wrong place, so the text repeats
// no value except an id that is valid or too short to be a key.
type FieldError struct {
	Tenant  string // id, or "" if there is no valid one
	Index   int    // position in the file, from 1; 0 for the file itself
	Field   string // "" if the name could be a key
	Problem string // what is wrong; reads on from the field's name
	Fix     string // what to do about it
	other   string // id of another tenant, with which this one cannot be together; "" = there is none
}

func (e *FieldError) Error() string {
	text := fmt.Sprintf("field %q %s: %s", e.Field, e.Problem, e.Fix)
	if e.Field == "" {
		text = fmt.Sprintf("a field %s: %s", e.Problem, e.Fix)
	}
	if e.Index == 0 {
		return text
	}
	return describeTenant(e.Tenant, e.Index) + ": " + text
}

// describeTenant names a tenant by its id or, without one, by its position in
// the file.
func describeTenant(id string, index int) string {
	if id == "" {
		return fmt.Sprintf("tenant number %d", index)
	}
	return fmt.Sprintf("tenant %q", id)
}

// FormatError says why and where a text is not a tenants file at all.
type FormatError = strictjson.Mistake

// ValueError says what is wrong with an id or a key. Its text reads on from the
// field's name and repeats no value that could be a key.
type ValueError struct {
	Problem string
	Fix     string
}

func (e *ValueError) Error() string { return e.Problem + ": " + e.Fix }
