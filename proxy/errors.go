package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants/quota"
)

// answer is an error in the form a client is told.
type answer struct {
	status     int
	code       string
	message    string
	allow      []string
	retryAfter time.Duration
}

func (a *answer) Error() string { return a.message }

// Told is the status and the slug with which a client is told of the error.
func (a *answer) Told() (status int, code string) { return a.status, a.code }

var (
	errBusy = &answer{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: time.Second,
		message: "too much is being sent at once to hold it all in memory: try again in a moment"}
	errQueue = &answer{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: time.Second,
		message: "too many requests of this tenant are waiting for its database: try again in a moment"}
	errAstray = &answer{status: http.StatusBadGateway, code: "backend_failed",
		message: "the database did not answer as it should: the operator's log says more"}
	errDisabled = &answer{status: http.StatusForbidden, code: "tenant_disabled",
		message: "this tenant is disabled: ask the operator of the service to enable it"}
	errGone = &answer{status: http.StatusUnauthorized, code: "unauthorized",
		message: "the tenant of this API key is gone"}
	errMoved = &answer{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: time.Second,
		message: "this tenant was just changed: try again"}
	errUnsettled = &answer{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: 5 * time.Second,
		message: "this tenant's files are being put in order after a failure: try again in a moment; the operator's log says more"}
	errDiskFull = &answer{status: http.StatusInsufficientStorage, code: "disk_full",
		message: "the disk has no room for this write: nothing was changed; the operator has to make room"}
	errNotDurable = &answer{status: http.StatusInternalServerError, code: "backend_failed",
		message: "the write was made, but could not be made safe against a power failure: look it up before you repeat it"}
	errUndecided = &answer{status: http.StatusInternalServerError, code: "backend_failed",
		message: "it is not known yet whether the write was made: it will be whole or not at all; look it up before you repeat it"}
	errChanged = &answer{status: http.StatusPreconditionFailed, code: "precondition_failed",
		message: "the scroll is not the one that If-Match names: read it again, and decide anew; nothing was changed"}
	errReused = &answer{status: http.StatusConflict, code: "conflict",
		message: "this Idempotency-Key was used for another request: nothing was changed; use a new key for a new request"}
	errNoRoomForNames = &answer{status: http.StatusInsufficientStorage, code: "quota_exceeded",
		message: "the last coordinate of the phext is taken, and new names come behind it: delete the scroll at 999.999.999/999.999.999/999.999.999"}
	errScrollAlone = &answer{status: http.StatusBadRequest, code: "bad_request",
		message: "one scroll is restored into its own phext: name the phext, and leave the other name out"}
	errNameMoved = &answer{status: http.StatusConflict, code: "conflict",
		message: "the coordinate that had this name then is another scroll's now: restore the whole phext under another name, and copy the scroll from there"}
	errTimeout = &answer{status: http.StatusGatewayTimeout, code: "backend_timeout",
		message: "the database did not answer in time: a read can be repeated; a write was not stored, or will be whole: look it up before you repeat it"}
)

func errNoName(name string) error {
	return &answer{status: http.StatusNotFound, code: "not_found",
		message: fmt.Sprintf("there is no scroll named %.80q in this phext: toc lists the names", name)}
}

func tooLarge(limit int64) error {
	return &answer{status: http.StatusRequestEntityTooLarge, code: "too_large",
		message: fmt.Sprintf("this is larger than %d bytes, or would make the phext so, which is the most there can be: store it in parts", limit)}
}

func tooManyFailures(wait time.Duration) error {
	return &answer{status: http.StatusTooManyRequests, code: "rate_limited", retryAfter: wait,
		message: "too many wrong API keys from this address: try again later, with the right one"}
}

func shortBody(err error) error {
	return &answer{status: http.StatusBadRequest, code: "bad_request",
		message: fmt.Sprintf("the body ended before it was complete (%v): nothing was changed, send it again", err)}
}

// toAnswer is the one place where an error becomes what a client is told.
func toAnswer(err error) *answer {
	var (
		ready   *answer
		refused *rewrite.Error
		crashes *supervisor.CrashLoopError
		start   *supervisor.StartError
		overuse *quota.ExceededError
		disk    *quota.DiskError
		limit   *quota.LimitError
	)
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &refused):
		return &answer{status: refused.Status, code: refused.Code, message: refused.Message, allow: refused.Allow}
	case errors.As(err, &overuse):
		return &answer{status: http.StatusInsufficientStorage, code: "quota_exceeded", message: overuse.Error()}
	case errors.As(err, &disk):
		return &answer{status: http.StatusInsufficientStorage, code: "disk_full", message: disk.Error()}
	case errors.As(err, &limit):
		return &answer{status: http.StatusTooManyRequests, code: "rate_limited", message: limit.Error(), retryAfter: limit.RetryAfter}
	case errors.As(err, &crashes):
		return &answer{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: crashes.RetryAfter,
			message: "this tenant's database keeps failing and is given a pause: try again later"}
	case errors.As(err, &start):
		return &answer{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: time.Second,
			message: "this tenant's database could not be started: the operator's log says why; try again"}
	case errors.Is(err, supervisor.ErrClosed):
		return &answer{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: time.Second,
			message: "the service is stopping: try again in a moment"}
	case isTimeout(err):
		return errTimeout
	}
	return errAstray
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// refuse writes an error answer and keeps its slug for the access log.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, err error) {
	a := toAnswer(err)
	visitOf(r).code = a.code
	if a == errAstray {
		g.log.LogAttrs(r.Context(), slog.LevelError, "a request failed", slog.String(keyRequest, visitOf(r).id), slog.Any(keyError, err))
	}
	h := w.Header()
	if a.allow != nil {
		h.Set("Allow", strings.Join(a.allow, ", "))
	}
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(a.retryAfter.Seconds()))))
	}
	writeJSON(w, a.status, struct {
		Error string `json:"error"`
		Code  string `json:"code"`
	}{a.message, a.code})
}
