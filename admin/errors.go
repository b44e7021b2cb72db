package admin

import (
	"errors"
	"net/http"
	"syscall"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/tenants"
)

func badRequest(format string, args ...any) error {
	return apierror.New(apierror.BadRequest, format, args...)
}

// fail answers with an error. One that is not the caller's is logged too.
func (a *API) fail(w http.ResponseWriter, err error) {
	e := describe(err)
	if e.Status >= http.StatusInternalServerError {
		a.Logger.Error("a management call failed", "error", err)
	}
	if e.Kind == apierror.Unauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sqgate management"`)
	}
	apierror.Write(w, e)
}

// describe is what the operator is told of an error. Unlike a tenant, the
// operator is told the whole text, with every cause and path in it.
func describe(err error) *apierror.Error {
	known := apierror.From(err)
	if known != nil && errors.Is(err, tenants.ErrInvalid) {
		return known // it names the field without ErrInvalid's words in front
	}
	e := apierror.New(apierror.Internal, "%s", err)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Kind = apierror.DiskFull
	case known != nil:
		e.Kind, e.Allow, e.RetryAfter = known.Kind, known.Allow, known.RetryAfter
	}
	return e
}
