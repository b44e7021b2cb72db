package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// errUnsendable is a request that SQ would take for another one.
var errUnsendable = errors.New("SQ cannot be sent this request")

// sendable refuses what has no place in a request to SQ, before anything of it
// is sent. A body must have a length: SQ would store the framing of chunks.
func sendable(r *http.Request) error {
	empty := r.Body == nil || r.Body == http.NoBody
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return fmt.Errorf("%w: its method is %q", errUnsendable, r.Method)
	case !strings.HasPrefix(r.URL.Path, "/"):
		return fmt.Errorf("%w: its path is %q", errUnsendable, r.URL.Path)
	case r.ContentLength < 0 || empty != (r.ContentLength == 0) || len(r.TransferEncoding) > 0:
		return fmt.Errorf("%w: its body has no length", errUnsendable)
	case !printable(r.URL.RawQuery) || strings.Contains(r.URL.RawQuery, " ") || !printable(r.Host):
		return fmt.Errorf("%w: its first line or host has a character that must not be there", errUnsendable)
	}
	for name, values := range r.Header {
		if !isToken(name) {
			return fmt.Errorf("%w: %q is not a header's name", errUnsendable, name)
		}
		for _, v := range values {
			if !printable(v) {
				return fmt.Errorf("%w: header %s has a control character", errUnsendable, name)
			}
		}
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// heads keeps buffers for the heads of requests and answers. Those of SQ are
// far shorter; one that had to grow is not kept.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, headSize); return &b }}

const headSize = 4 << 10

// smallBody is copied behind the head; of a larger one, its beginning is.
const smallBody = headSize / 2

// send writes r in one write, or two if it is large: a head that comes alone costs SQ another read, and
// the network another packet.
func send(x *exchange, r *http.Request) error {
	head := appendHead((*x.head)[:0], r)
	*x.head = head[:0]
	if r.ContentLength == 0 {
		return x.write(head, true)
	}
	g := &gatherer{exchange: x, head: head, length: r.ContentLength}
	if _, err := io.Copy(g, r.Body); err != nil {
		return err
	}
	return g.finish()
}

// write sends a part of a request. Of the last one, the last byte is held back
// if it is to be; what comes in another packet must not wait for the first to
// be acknowledged then.
func (x *exchange) write(part []byte, last bool) error {
	if x.holds && last {
		x.conn.noDelay()
		end := len(part) - 1
		x.last[0], part = part[end], part[:end]
	}
	_, err := x.conn.Write(part)
	return err
}

func appendHead(b []byte, r *http.Request) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.URL.EscapedPath()...)
	b = append(b, '?')
	b = append(b, r.URL.RawQuery...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if r.Host != "" {
		b = append(b, r.Host...)
	} else {
		b = append(b, r.URL.Host...)
	}
	b = append(b, "\r\nConnection: close\r\n"...)
	if r.Method == http.MethodPost {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.ContentLength, 10)
		b = append(b, "\r\n"...)
	}
	for name, values := range r.Header {
		if framing(name) {
			continue
		}
		for _, v := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// framing are the headers that follow from the request itself.
func framing(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Host", "Connection", "Content-Length", "Transfer-Encoding", "Trailer":
		return true
	}
	return false
}

// gatherer sends a head and a body once all of the body is there: SQ stores a
// short body as it is (LEGACY.md), so that nothing may go out before it is
// known to be complete. A body that comes in one piece, as one in memory does,
// is not copied.
type gatherer struct {
	exchange *exchange
	head     []byte
	length   int64
	parts    []byte
	sent     bool
}

func (g *gatherer) Write(b []byte) (int, error) {
	switch have := int64(len(g.parts)) + int64(len(b)); {
	case g.sent && len(b) > 0 || have > g.length:
		return 0, fmt.Errorf("%w: its body is longer than its length", errUnsendable)
	case g.parts == nil && have == g.length:
		g.sent = true
		return len(b), g.flush(b)
	}
	g.parts = append(g.parts, b...)
	return len(b), nil
}

func (g *gatherer) finish() error {
	switch {
	case g.sent:
		return nil
	case int64(len(g.parts)) < g.length:
		return fmt.Errorf("%w: its body ends after %d of %d bytes: %w", errUnsendable, len(g.parts), g.length, io.ErrUnexpectedEOF)
	}
	return g.flush(g.parts)
}

func (g *gatherer) flush(body []byte) error {
	first := min(len(body), smallBody)
	if err := g.exchange.write(append(g.head, body[:first]...), first == len(body)); err != nil || first == len(body) {
		return err
	}
	g.exchange.conn.noDelay()
	return g.exchange.write(body[first:], true)
}

// hungUp says whether a write failed because the other side had closed. It may
// have answered before that.
func hungUp(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
