package http1

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestAnAnswerThatIsNotTakenIsGivenUp writes to a client that does not read, as
// net/http does for a handler with and without a deadline of its own.
func TestAnAnswerThatIsNotTakenIsGivenUp(t *testing.T) {
	for name, test := range map[string]struct {
		own  time.Duration
		size int
		want time.Duration
	}{
		"small":            {0, 100, 30 * time.Second},
		"large":            {0, 160 << 10, 40 * time.Second},
		"with its own":     {90 * time.Second, 100, 90 * time.Second},
		"with a short one": {time.Second, 100, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				defer client.Close()
				h := newHanded(server, nil, nil, new(headMemory), nil, func() {})
				defer h.Close()
				for range 2 { // for the next request, the deadline begins anew
					began := time.Now()
					if test.own > 0 {
						_ = h.SetWriteDeadline(began.Add(test.own))
					}
					_, err := h.Write(make([]byte, test.size))
					if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != test.want {
						t.Errorf("%v after %v, want %v", err, took, test.want)
					}
					_ = h.SetWriteDeadline(time.Time{})
				}
			})
		})
	}
}
