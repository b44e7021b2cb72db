package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Wrong keys that one address may send: a burst, and then one every two
// seconds. Guessing 128 bits is hopeless at any rate; this keeps it cheap.
const (
	failureBurst = 30
	failureEvery = 2 * time.Second
	// failureAddresses bounds the memory; the least recently seen is forgotten.
	failureAddresses = 1 << 14
)

// failures counts wrong keys by client address.
type failures struct {
	byAddress *lru.Cache[string, *rate.Limiter]
	now       func() time.Time
}

func newFailures(now func() time.Time) *failures {
	c, err := lru.New[string, *rate.Limiter](failureAddresses)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return &failures{byAddress: c, now: now}
}

// add counts a wrong key, and says how long its sender has to wait, 0 if not at all.
func (f *failures) add(address string) time.Duration {
	limiter, ok := f.byAddress.Get(address)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(failureEvery), failureBurst)
		f.byAddress.Add(address, limiter)
	}
	now := f.now()
	r := limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// FailedKey counts a wrong management key against its sender, and says how
// long that one has to wait before the next, 0 if not at all.
func (g *Gateway) FailedKey(r *http.Request) time.Duration { return g.failures.add(clientAddress(r)) }

// clientAddress is who sent the request. Behind a proxy on this host it is
// whom that proxy names last; a client further away could claim anything. An
// IPv6 client has 64 bits to choose from, so that they count as one.
func clientAddress(r *http.Request) string {
	host := remoteHost(r)
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		if named := lastForwarded(r.Header); named != "" {
			host = named
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() && !addr.Is4In6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return host
}

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
