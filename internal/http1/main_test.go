package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/apierror"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a server under test.
type served struct {
	*Server
	addr    string
	open    atomic.Int64
	rest    atomic.Int64 // requests that came by way of net/http
	refused atomic.Int64
	log     strings.Builder
	closed  chan bool // gets the first that ends
	served  chan error
}

func serve(t *testing.T, h http.HandlerFunc, change ...func(*http.Server)) *served {
	return serveWith(t, h, func(c *Config) {
		for _, f := range change {
			f(c.Fallback)
		}
	})
}

func serveWith(t *testing.T, h http.HandlerFunc, change func(*Config)) *served {
	s := &served{served: make(chan error, 1), closed: make(chan bool, 1)}
	rest := &http.Server{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, plain := w.(*writer); !plain {
			s.rest.Add(1)
		}
		h(w, r)
	})}
	config := Config{Fallback: rest, Plain: func(path string) bool { return path != "/not-here" },
		Refused: func(remote net.Addr, e *apierror.Error) string {
			if !strings.HasPrefix(remote.String(), "127.0.0.1:") {
				t.Errorf("refused: %v", remote)
			}
			s.refused.Add(1)
			return "id of " + e.Code
		},
		Opened: func(net.Addr) func() { s.open.Add(1); return s.ended }, Logger: slog.New(slog.NewTextHandler(&s.log, nil))}
	change(&config)
	s.Server = New(config)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	go func() { s.served <- s.Serve(l) }()
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *served) ended() {
	s.open.Add(-1)
	select {
	case s.closed <- true:
	default:
	}
}

// stop ends the server, which must have kept count.
func (s *served) stop(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-s.served; err != http.ErrServerClosed {
		t.Errorf("serve: %v", err)
	}
	s.served <- http.ErrServerClosed // for a second stop
	if n := s.open.Load(); n != 0 {
		t.Errorf("%d connections are counted as open", n)
	}
}

// client is one connection, read byte for byte.
type client struct {
	*testing.T
	net.Conn
	in *bufio.Reader
}

func (s *served) dial(t *testing.T) *client {
	c, err := net.Dial("tcp4", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) send(text string) {
	c.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.Fatal(err)
	}
}

// answer reads the next answer.
func (c *client) answer() (*http.Response, string) {
	c.Helper()
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.Fatal(err)
	}
	return r, string(b)
}

func (c *client) expect(status int, body string) *http.Response {
	c.Helper()
	r, got := c.answer()
	if r.StatusCode != status || got != body {
		c.Fatalf("%d %.80q, not %d %.80q", r.StatusCode, got, status, body)
	}
	return r
}

func (c *client) expectEnd() {
	c.Helper()
	if b, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		c.Fatalf("%q, %v instead of the end", b, err)
	}
}

// echo answers with what it was asked, and a length if the query says so.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	text := r.Method + " " + r.URL.Path + " " + r.Header.Get("X-A") + " " + string(b)
	if r.URL.RawQuery == "length" {
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	}
	_, _ = io.WriteString(w, text)
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\nX-A: a\r\n\r\n" }

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}
