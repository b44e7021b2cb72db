package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/memlimit"
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

// TestAHeaderWithoutHost is read by net/http as one with an empty Host, however it comes, and one
// with a Host as it is.
func TestAHeaderWithoutHost(t *testing.T) {
	long := strings.Repeat("x", 4096-8) // ends where net/http's buffer does
	for name, request := range map[string]string{
		"without":          "HEAD /a HTTP/1.1\r\nA: b\r\n\r\n",
		"no field":         "HEAD /a HTTP/1.1\r\n\r\n",
		"line feeds":       "HEAD /a HTTP/1.1\nA: b\n\n",
		"mixed":            "HEAD /a HTTP/1.1\r\nA: b\r\n\n",
		"with":             "HEAD /a HTTP/1.1\r\nhost: h\r\nA: b\r\n\r\n",
		"a body":           "POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
		"chunks":           "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n",
		"a long line":      "HEAD /a HTTP/1.1\r\nA: " + long + "\r\n\r\n",
		"a longer line":    "HEAD /a HTTP/1.1\r\nA: " + long + "12345\r\n\r\n",
		"an old one":       "HEAD /a HTTP/1.0\r\nA: b\r\n\r\n",
		"an absolute path": "HEAD http://h/a HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for cut := range len(request) {
				if cut > 40 && cut < len(request)-40 {
					continue
				}
				for _, first := range []string{request[:cut], ""} { // what came before net/http had the connection
					parts := []string{request[len(first):cut], request[cut:]}
					if cut == 0 {
						parts = strings.Split(request, "")
					}
					heads := &headMemory{largest: 1 << 20, budgets: func(net.Addr) []*memlimit.Budget { return nil }}
					h := newHanded(&inParts{parts: parts}, []byte(first), nil, heads, nil, func() {})
					var raw strings.Builder
					r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(h, &raw)))
					if err != nil {
						t.Fatalf("cut at %d: %v", cut, err)
					}
					body, err := io.ReadAll(r.Body)
					if n := strings.Count(strings.ToLower(raw.String()), "\nhost:"); err != nil || n != 1 || r.URL.Path != "/a" || r.Method == "POST" && string(body) != "\r\n\r\n" {
						t.Fatalf("cut at %d: %d times Host, %q, %v", cut, n, raw.String(), err)
					}
					if want := map[bool]string{true: "h"}[name == "with" || name == "an absolute path"]; r.Host != want {
						t.Fatalf("cut at %d: %q", cut, r.Host)
					}
				}
			}
		})
	}
}

// inParts is a connection on which a request comes in parts.
type inParts struct {
	net.Conn
	parts []string
}

func (c *inParts) RemoteAddr() net.Addr { return nil }

func (c *inParts) Read(b []byte) (n int, err error) {
	for n == 0 {
		if len(c.parts) == 0 {
			return 0, io.EOF
		}
		n = copy(b, c.parts[0])
		if c.parts[0] = c.parts[0][n:]; c.parts[0] == "" {
			c.parts = c.parts[1:]
		}
	}
	return n, nil
}
