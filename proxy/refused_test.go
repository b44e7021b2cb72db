package proxy

import (
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
)

// TestRefusedRequestsDoNotFloodTheLog has a thousand in a second: all are counted, and
// the log has the first ones and how many are left out.
func TestRefusedRequestsDoNotFloodTheLog(t *testing.T) {
	w := newWorld(t, options{})
	now := time.Unix(1_700_000_000, 0)
	w.now = func() time.Time { return now }
	remote, tooLarge := &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 2}, apierror.New(apierror.HeaderTooLarge, "too large")
	refuse := func(times int) (last string) {
		for range times {
			id := w.Refused(remote, tooLarge)
			if id == last || !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(id) {
				t.Errorf("the id %q", id)
			}
			last = id
		}
		return last
	}
	before := w.log.String()
	first := refuse(1)
	if got, want := strings.TrimPrefix(w.log.String(), before), "level=INFO msg=request request="+first+" remote=2001:db8::1 status=431 code=header_too_large\n"; !strings.HasSuffix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	refuse(999)
	if n := strings.Count(w.log.String(), "code=header_too_large"); n != refusedBurst {
		t.Errorf("%d lines", n)
	}
	now = now.Add(time.Second)
	id := refuse(1)
	refuse(10)
	if want := "request=" + id + " remote=2001:db8::1 status=431 code=header_too_large left_out=940\n"; !strings.HasSuffix(w.log.String(), want) {
		t.Errorf("%q, want %q", w.log, want)
	}
	want := "||" + http.StatusText(http.StatusRequestHeaderFieldsTooLarge) + "|header_too_large"
	if len(w.observed) != 1011 || w.observed[0] != want {
		t.Errorf("%d observed: %q, want %q", len(w.observed), w.observed[0], want)
	}
}
