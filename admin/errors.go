package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
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
	cause := err
	if u := apierror.AsUnfinished(err); u != nil {
		cause = u.Cause
	}
	e := apierror.New(apierror.Internal, "%v%s", err, remedy(cause))
	switch {
	case errors.Is(cause, syscall.ENOSPC), errors.Is(cause, syscall.EDQUOT):
		e.Kind = apierror.DiskFull
	case known != nil:
		e.Kind, e.Allow, e.RetryAfter = known.Kind, known.Allow, known.RetryAfter
	}
	return e
}

// remedy goes on from the text of an error about a place where sqgate may not write.
func remedy(err error) string {
	var failed *fs.PathError
	if !errors.As(err, &failed) {
		return ""
	}
	dir, missing := filepath.Dir(failed.Path), ""
	if failed.Op == "mkdir" {
		dir = failed.Path
		missing = fmt.Sprintf("make it for the user that sqgate runs as (`install -d -m 700 -o sq -g sq %s` with the package's unit), and ", dir)
	}
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("; %slet the unit write there (`systemctl edit sq`, ReadWritePaths=-%s below [Service], restart), or mount the disk for writing", missing, dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("; let the user that sqgate runs as write to %s", filepath.Dir(failed.Path))
	}
	return ""
}
