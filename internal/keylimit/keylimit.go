// Package keylimit slows down whoever guesses keys: each address may send only
// so many wrong ones. It never looks at a key, and a right key is never held up.
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

// Limiter counts wrong keys by client address. Its methods may be called at
// any time.
type Limiter struct {
	byAddress *lru.Cache[string, *rate.Limiter]
	now       func() time.Time
}

// New makes a Limiter that takes the time from now.
func New(now func() time.Time) *Limiter {
	c, err := lru.New[string, *rate.Limiter](maxAddresses)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return &Limiter{byAddress: c, now: now}
}

// Failed counts a wrong key against the sender of r. It returns how long that
// sender has to wait before the next one, or 0 if it need not wait.
func (l *Limiter) Failed(r *http.Request) (wait time.Duration) { return l.add(clientAddress(r)) }

func (l *Limiter) add(address string) (wait time.Duration) {
	limiter, ok := l.byAddress.Get(address)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(interval), burst)
		l.byAddress.Add(address, limiter)
	}
	now := l.now()
	r := limiter.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// clientAddress is the address that a request counts against. Behind a proxy
// on this host it is the one that this proxy added last to X-Forwarded-For; a
// client elsewhere could claim anything there. An IPv6 client has a whole /64
// network to choose addresses from, so the network counts as one.
func clientAddress(r *http.Request) string {
	host := RemoteHost(r)
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		if forwarded := lastForwarded(r.Header); forwarded != "" {
			host = forwarded
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() && !addr.Is4In6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return host
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

// lastForwarded is the last address in X-Forwarded-For, or "" if there is none.
func lastForwarded(h http.Header) string {
	values := h.Values("X-Forwarded-For")
	if len(values) == 0 {
		return ""
	}
	all := strings.Split(values[len(values)-1], ",")
	last := strings.TrimSpace(all[len(all)-1])
	if _, err := netip.ParseAddr(last); err != nil {
		return ""
	}
	return last
}
