package keylimit

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func request(remote, forwarded string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = remote
	if forwarded != "" {
		r.Header.Set("X-Forwarded-For", forwarded)
	}
	return r
}

func TestClientAddress(t *testing.T) {
	for _, test := range []struct{ name, remote, forwarded, want string }{
		{"direct", "192.0.2.1:5", "", "192.0.2.1"},
		{"remote claims another", "192.0.2.1:5", "198.51.100.1", "192.0.2.1"},
		{"local", "127.0.0.1:5", "", "127.0.0.1"},
		{"local proxy", "127.0.0.1:5", "203.0.113.9, 198.51.100.1", "198.51.100.1"},
		{"local proxy, no address", "127.0.0.1:5", "garbage", "127.0.0.1"},
		{"local proxy, IPv6", "[::1]:5", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:5", "", "192.0.2.1"},
		{"local proxy, IPv4 in IPv6, zone", "127.0.0.1:5", "::ffff:192.0.2.1%eth0", "192.0.2.1"},
		{"local proxy, zone", "[::ffff:127.0.0.1]:5", "fe80::1%eth0", "fe80::"},
		{"local proxy, mixed list", "127.0.0.1:5", "192.0.2.1,garbage", "127.0.0.1"},
		{"Unix socket", "@", "192.0.2.1", "invalid IP"},
		{"IPv6", "[2001:db8:1:2:9::1]:5", "", "2001:db8:1:2::"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Sender(request(test.remote, test.forwarded)).String(); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestWrongKeysAreLimitedAndForgiven(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	l := New(func() time.Time { return now })
	one, other := request("192.0.2.1:5", ""), request("192.0.2.2:5", "")
	for i := range burst {
		if wait := l.Count(one); wait != 0 {
			t.Fatalf("failure %d waits %v", i, wait)
		}
	}
	if wait := l.Count(one); wait != interval {
		t.Errorf("one more waits %v", wait)
	}
	if wait := l.Count(other); wait != 0 {
		t.Errorf("another address waits %v", wait)
	}
	now = now.Add(interval)
	if wait := l.Count(one); wait != 0 {
		t.Errorf("after the interval it still waits %v", wait)
	}
}

// TestZonesDoNotFillMemory sends one address with many long zones, which used to
// be kept: 3,000 of them took 1.2 GB.
func TestZonesDoNotFillMemory(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	l := New(func() time.Time { return now })
	for i := range burst + 1 {
		zone := strings.Repeat("z", 250_000) + strconv.Itoa(i)
		if wait := l.Count(request("127.0.0.1:5", "::ffff:192.0.2.1%"+zone)); (wait > 0) != (i == burst) {
			t.Fatalf("failure %d waits %v", i, wait)
		}
	}
	if n := l.byAddress.Len(); n != 1 {
		t.Errorf("one address is kept %d times", n)
	}
}
