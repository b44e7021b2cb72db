package admin

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/tenants"
)

// problem is an error in the form the operator is told.
type problem struct {
	status     int
	code       string
	message    string
	allow      []string
	retryAfter time.Duration
}

func (p *problem) Error() string { return p.message }

func bad(message string) error {
	return &problem{status: http.StatusBadRequest, code: "bad_request", message: message}
}

func conflict(message string) error {
	return &problem{status: http.StatusConflict, code: "conflict", message: message}
}

// toProblem is the one place where an error becomes what the operator is told.
func toProblem(err error) *problem {
	var ready *problem
	var field *tenants.FieldError
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.Is(err, tenants.ErrNoTenant):
		return &problem{status: http.StatusNotFound, code: "not_found", message: err.Error()}
	case errors.Is(err, tenants.ErrExists), errors.Is(err, tenants.ErrBroken):
		return &problem{status: http.StatusConflict, code: "conflict", message: err.Error()}
	case errors.Is(err, tenants.ErrInvalid) && errors.As(err, &field):
		return &problem{status: http.StatusBadRequest, code: "bad_request", message: field.Error()}
	case errors.Is(err, tenants.ErrInvalid):
		return &problem{status: http.StatusBadRequest, code: "bad_request", message: err.Error()}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &problem{status: http.StatusInsufficientStorage, code: "disk_full", message: err.Error()}
	}
	if e := apierror.From(err); e != nil {
		return &problem{status: e.Status, code: e.Code, message: err.Error(), retryAfter: e.RetryAfter}
	}
	return &problem{status: http.StatusInternalServerError, code: "internal", message: err.Error()}
}

func (a *API) refuse(w http.ResponseWriter, err error) {
	p := toProblem(err)
	h := w.Header()
	if p.status >= http.StatusInternalServerError {
		a.Logger.Error("a management call failed", "error", err)
	}
	if p.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="sqgate management"`)
	}
	if p.allow != nil {
		h.Set("Allow", strings.Join(p.allow, ", "))
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	writeJSON(w, p.status, struct {
		Error string `json:"error"`
		Code  string `json:"code"`
	}{p.message, p.code})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the answer could not be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the operator may have gone; the audit log has the change
}
