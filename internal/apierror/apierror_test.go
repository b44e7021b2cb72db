package apierror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

type described struct{}

func (described) Error() string    { return "described" }
func (described) APIError() *Error { return New(DiskFull, "no room") }

func TestFrom(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"wrapped", fmt.Errorf("with context: %w", New(Conflict, "it is there")), 409, "conflict"},
		{"described", fmt.Errorf("with context: %w", described{}), 507, "disk_full"},
		{"context", context.DeadlineExceeded, 504, "backend_timeout"},
		{"connection", os.ErrDeadlineExceeded, 504, "backend_timeout"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if e := From(test.err); e == nil || e.Status != test.status || e.Code != test.code {
				t.Errorf("%+v", e)
			}
		})
	}
	if e := From(errors.New("anything else")); e != nil {
		t.Errorf("%+v", e)
	}
}

func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	e := RetryIn(1500*time.Millisecond, RateLimited, "wait for %d s", 2)
	e.Allow = []string{http.MethodGet, http.MethodHead}
	Write(w, e)
	if w.Code != 429 || w.Body.String() != `{"error":"wait for 2 s","code":"rate_limited"}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{"Allow": "GET, HEAD", "Retry-After": "2", "Content-Type": JSON} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
