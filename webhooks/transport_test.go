package webhooks

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"mirrorborn.us/sqgate/tenants"
)

// sender makes requests to a URL with the real transport, from which loopback is allowed.
func sender(t *testing.T, url string) *hook {
	s := New(Config{Tenants: func() *tenants.Snapshot { return nil }, Dial: allow(t, "127.0.0.0/8").Dial})
	t.Cleanup(func() {
		for _, transport := range s.transport.(byScheme) {
			transport.(*http.Transport).CloseIdleConnections()
		}
	})
	return &hook{service: s, Webhook: fileWith(t, true, hookTo("a", url)).All()[0].Webhooks()[0],
		share: &share{semaphore.NewWeighted(mostOfTenant), rate.NewLimiter(rate.Inf, 1)}}
}

func (h *hook) try(t *testing.T) error {
	_, err := h.attempt(t.Context(), message{id: "m", body: []byte("{}")})
	return err
}

// TestRequest uses one connection for several requests, no proxy and no redirect, and does
// not read an answer that has no end.
func TestRequest(t *testing.T) {
	var connections, elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	t.Setenv("HTTP_PROXY", other.URL)
	t.Setenv("http_proxy", other.URL)
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/endless":
			for b := []byte(strings.Repeat("x", 1<<10)); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		case "/no-http":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte(strings.Repeat("é", 6<<10) + "\n\n"))
				_ = conn.Close() // it has said enough
			}
		case "/close":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil && connections.Load() == 1 { // the next one is answered
				_ = conn.Close() // as if it had been idle for too long
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
			_ = conn.Close() // it is answered
		}
	}))
	receiver.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	receiver.Start()
	defer receiver.Close()
	h := sender(t, receiver.URL)
	to := func(path string) error {
		one := *h.Webhook
		one.URL = receiver.URL + path
		return (&hook{service: h.service, Webhook: &one, share: h.share}).try(t)
	}
	for range 3 {
		if err := to("/"); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if err := to("/close"); err != nil {
		t.Errorf("a kept connection that the receiver closes: %v", err)
	}
	if err := to("/redirect"); err == nil || err.Error() != "the receiver answered 307" || elsewhere.Load() != 0 {
		t.Errorf("a redirect: %v", err)
	}
	if err := to("/no-http"); err == nil || len(err.Error()) > longestError+len("…") || !strings.HasPrefix(err.Error(), "net/http: HTTP/1.x transport connection broken") {
		t.Errorf("an answer that is no HTTP: %.1000v", err)
	}
	began := time.Now()
	if err := to("/endless"); err != nil || time.Since(began) > attemptTimeout/2 {
		t.Errorf("an endless answer: %v after %v", err, time.Since(began))
	}
}

// TestTLS refuses a receiver whose certificate nobody has signed.
func TestTLS(t *testing.T) {
	receiver := httptest.NewUnstartedServer(http.NotFoundHandler())
	receiver.Config.ErrorLog = log.New(io.Discard, "", 0)
	receiver.StartTLS()
	defer receiver.Close()
	if err := sender(t, receiver.URL).try(t); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	// The path of a URL may be a secret.
	h := sender(t, "https://127.0.0.1:1/token")
	if err := h.try(t); err == nil || strings.Contains(err.Error(), "token") {
		t.Error(err)
	}
}

// TestManyNames has one address under many names: it gets only so many connections.
func TestManyNames(t *testing.T) {
	all := &connections{open: map[netip.Addr]int{}}
	connect := func(address string) (net.Conn, error) {
		return all.count(fakeConn{to: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))})
	}
	var open []net.Conn
	for range mostToAddress {
		c, err := connect("[2600::1]:443")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if _, err := connect("[2600::ffff:1]:80"); !errors.Is(err, errTooManyToAddress) {
		t.Errorf("one more to the same network: %v", err)
	}
	if _, err := connect("8.8.8.8:443"); err != nil {
		t.Errorf("to another address: %v", err)
	}
	for range 2 { // which counts once
		if err := open[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := connect("[2600::1]:443"); err != nil {
		t.Errorf("when one has ended: %v", err)
	}
	if _, err := connect("[2600::1]:443"); !errors.Is(err, errTooManyToAddress) {
		t.Errorf("one more: %v", err)
	}
}

type fakeConn struct {
	net.Conn
	to net.Addr
}

func (c fakeConn) RemoteAddr() net.Addr { return c.to }
func (c fakeConn) Close() error         { return nil }

// TestAnswerThatDoesNotEnd ends with the attempt, whatever the status says of what follows.
func TestAnswerThatDoesNotEnd(t *testing.T) {
	for _, status := range []string{"101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x", "200 OK", "200 OK\r\nContent-Length: 5", "200 OK\r\nTransfer-Encoding: chunked", "103 Early Hints"} {
		t.Run(status[:3], func(t *testing.T) {
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\n\r\n")
				_, _ = io.Copy(io.Discard, conn) // until the sender leaves
				_ = conn.Close()
			}))
			defer receiver.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = sender(t, receiver.URL).attempt(ctx, message{id: "m", body: []byte("{}")})
			}()
			select {
			case <-ended:
			case <-time.After(attemptTimeout / 2):
				receiver.CloseClientConnections()
				t.Error("it goes on")
			}
		})
	}
}
