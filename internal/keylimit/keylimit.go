// Package keylimit slows down whoever guesses keys: each client address may send
// only so many wrong ones. Requests without a key are limited in the same way. It
// never looks at a key, and keeps nothing that a client sent, except for an address in
// its binary form.
package keylimit

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// One address may send burst wrong keys at once, and then one in each interval.
// Guessing 128 bits is hopeless at any rate: the limit keeps the attempt cheap
// for this host.
const (
	burst    = 30
	interval = 2 * time.Second
	// maxAddresses bounds the memory. The address that was seen least recently
	// is forgotten first.
	maxAddresses = 1 << 14
)

// Limiter counts wrong keys, or requests, by client address. Its methods may be
// called at any time.
type Limiter struct {
	byAddress *lru.Cache[netip.Addr, *rate.Limiter]
	burst     int // at once
	interval  time.Duration
	now       func() time.Time
}

// New makes a Limiter of wrong keys that takes the time from now.
func New(now func() time.Time) *Limiter { return newLimiter(burst, interval, now) }

// PerMinute makes a Limiter of requests, which may all come at once.
func PerMinute(requests int, now func() time.Time) *Limiter {
	return newLimiter(requests, time.Minute/time.Duration(requests), now)
}

func newLimiter(burst int, interval time.Duration, now func() time.Time) *Limiter {
	c, err := lru.New[netip.Addr, *rate.Limiter](maxAddresses)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return &Limiter{byAddress: c, burst: burst, interval: interval, now: now}
}

// Count counts a wrong key, or a request, against the sender of r. It returns how
// long that sender has to wait before the next one, or 0 if it need not wait.
func (l *Limiter) Count(r *http.Request) (wait time.Duration) { return l.add(Sender(r)) }

// Wait is what Count would return, and counts nothing.
func (l *Limiter) Wait(r *http.Request) time.Duration {
	limiter, ok := l.byAddress.Get(Sender(r))
	if !ok {
		return 0
	}
	missing := 1 - limiter.TokensAt(l.now())
	return time.Duration(max(0, missing) * float64(l.interval))
}

func (l *Limiter) add(address netip.Addr) (wait time.Duration) {
	limiter, ok := l.byAddress.Get(address)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(l.interval), l.burst)
		l.byAddress.Add(address, limiter)
	}
	now := l.now()
	r := limiter.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// Sender is the address that a request counts against.
func Sender(r *http.Request) netip.Addr {
	address := Client(r)
	if !address.IsValid() {
		return address // all clients of a Unix socket count as one
	}
	return Network(address)
}

// Client is the address that a request is from; it is invalid if it came over a Unix
// socket. Behind a proxy on this host it is the one that this proxy added last to
// X-Forwarded-For; a client elsewhere could claim anything there.
func Client(r *http.Request) netip.Addr {
	address, err := netip.ParseAddr(RemoteHost(r))
	if err != nil {
		return netip.Addr{}
	}
	if address.IsLoopback() {
		if forwarded, ok := lastForwarded(r.Header); ok {
			return forwarded
		}
	}
	return address
}

// Network is what stands for an address where clients are counted. It is a few
// bytes, whatever the client sent: an IPv6 zone may be as long as a header, so it
// is dropped. An IPv6 client has a whole /64 network to choose addresses from, so
// the network counts as one.
func Network(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if address.Is4() {
		return address
	}
	network, err := address.Prefix(64)
	if err != nil {
		return netip.Addr{} // only an invalid address has no prefix
	}
	return network.Addr()
}

// RemoteHost is the address at the other end of r's connection, without the
// port.
func RemoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// lastForwarded is the last address in X-Forwarded-For.
func lastForwarded(h http.Header) (netip.Addr, bool) {
	values := h.Values("X-Forwarded-For")
	if len(values) == 0 {
		return netip.Addr{}, false
	}
	last := values[len(values)-1]
	last = last[strings.LastIndexByte(last, ',')+1:]
	address, err := netip.ParseAddr(strings.TrimSpace(last))
	return address, err == nil
}
