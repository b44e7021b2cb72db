package webhooks

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits of connections. Many tenants may have one receiver, and a tenant may have many
// names for the address of somebody who is none.
const (
	mostToHost    = 16 // connections to a name and port; further requests wait
	mostToAddress = 32 // to an IPv4 address, or an IPv6 network of 64 bits; further ones fail
	keptAtHost    = 2  // of those to a name and port that nothing is sent on now
	keptFor       = 5 * time.Second
	longestHeader = 16 << 10 // bytes of an answer's
)

var errTooManyToAddress = errors.New("too many webhooks are sent to this address at once")

// byScheme chooses a transport. A Dial has to know whether TLS is to follow.
type byScheme map[string]http.RoundTripper

// RoundTrip is a method of http.RoundTripper.
func (t byScheme) RoundTrip(r *http.Request) (*http.Response, error) {
	return t[r.URL.Scheme].RoundTrip(r)
}

// newTransport takes no proxy from the environment, and speaks HTTP/1.1, with one request
// at a time on a connection.
func newTransport(dial func(ctx context.Context, address string, secure bool) (net.Conn, error)) byScheme {
	open := &connections{open: map[netip.Addr]int{}}
	transport := func(secure bool) *http.Transport {
		return &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				c, err := dial(ctx, address, secure)
				if err != nil {
					return nil, err
				}
				return open.count(c)
			},
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: attemptTimeout, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
			DisableCompression: true, MaxConnsPerHost: mostToHost, MaxIdleConnsPerHost: keptAtHost, MaxIdleConns: mostAtOnce, IdleConnTimeout: keptFor,
			MaxResponseHeaderBytes: longestHeader,
		}
	}
	return byScheme{"https": transport(true), "http": transport(false)}
}

// connections counts those that are open, by address.
type connections struct {
	mu   sync.Mutex
	open map[netip.Addr]int
}

// count is c as long as there are not too many to its address. Otherwise it is closed.
func (all *connections) count(c net.Conn) (net.Conn, error) {
	to := addressOf(c)
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.open[to] >= mostToAddress {
		return nil, errors.Join(errTooManyToAddress, c.Close())
	}
	all.open[to]++
	return &counted{Conn: c, release: sync.OnceFunc(func() {
		all.mu.Lock()
		defer all.mu.Unlock()
		if all.open[to]--; all.open[to] == 0 {
			delete(all.open, to)
		}
	})}, nil
}

// addressOf is the other end of a connection, without the port.
func addressOf(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	to := tcp.AddrPort().Addr().Unmap()
	if to.Is6() {
		to = netip.PrefixFrom(to.WithZone(""), 64).Masked().Addr()
	}
	return to
}

type counted struct {
	net.Conn
	release func()
}

// Close is a method of net.Conn.
func (c *counted) Close() error {
	c.release()
	return c.Conn.Close()
}
