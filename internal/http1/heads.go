package http1

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/internal/pace"
)

// A header up to these limits is small. It has room on every connection, so that an
// ordinary client is served whatever others do. A larger one takes memory from the
// budgets of Config.HeaderMemory until its request is answered. One whose rest, or whose
// body, is waited for takes it from less on, since nobody knows for how long.
const (
	smallHead   = bufferSize // bytes
	smallFields = 64
	smallPart   = 4 << 10 // bytes, of a header that is waited for
	partFields  = 32
)

// mostFields is far above what clients and proxies send.
const mostFields = 256

// A header field takes about this much memory beside its text, in bytes. The text is
// there up to three times: in net/http's buffer, in the request, and decoded.
const (
	fieldMemory = 256
	textMemory  = 3
)

func (h head) memory() int64 { return int64(h.size*textMemory + h.lines*fieldMemory) }

var (
	errHeaderTooLarge = apierror.New(apierror.HeaderTooLarge, "the header of the request is too large, or has too many fields: send a long text as the body")
	// ErrNoRoom refuses a request with a large header.
	ErrNoRoom  = apierror.RetryIn(time.Second, apierror.Unavailable, "there are too many requests with large headers at once: try again, or send a long text as the body")
	errUnclear = apierror.New(apierror.BadRequest, "it is not clear how long the body of the request is: send one Content-Length, or chunks over HTTP/1.1, and no folded header lines")
)

// headMemory is the memory that the headers on one connection take of the budgets.
type headMemory struct {
	largest int // header, in bytes
	budgets func(net.Addr) []*memlimit.Budget
	remote  net.Addr

	mu     sync.Mutex
	held   *memlimit.Reservation // nil until a header is not small
	closed bool
}

// take makes room for a header, as far as it has been read. waits says that its rest, or its
// body, has not come.
func (m *headMemory) take(h head, waits bool) *apierror.Error {
	size, fields := smallHead, smallFields
	if waits {
		size, fields = smallPart, partFields
	}
	switch {
	case h.size > m.largest || h.lines > mostFields+1:
		return errHeaderTooLarge
	case h.size <= size && h.lines <= fields+1:
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrNoRoom
	}
	if m.held == nil {
		m.held = memlimit.Reserve(m.budgets(m.remote)...)
	}
	if !m.held.Grow(h.memory()) {
		return ErrNoRoom
	}
	return nil
}

// HeadMemory is what the header of the request of a context takes of Config.HeaderMemory, in
// bytes, until it is answered.
func HeadMemory(ctx context.Context) int64 {
	h, ok := ctx.Value(handedKey{}).(*handed)
	if !ok {
		return 0 // another server has read it
	}
	m := h.heads
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil {
		return 0
	}
	return m.held.Size()
}

// release gives the room back; there is no further header if it is the last.
func (m *headMemory) release(last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = m.closed || last
	if m.held != nil {
		m.held.Release()
	}
}

// refuse answers a request whose header is not read to its end, and returns an error
// that net/http does not answer. It reads what the client still sends, as pace.Bodies
// does: many clients look at an answer only then.
func (c *handed) refuse(e *apierror.Error) error {
	if c.sayNo(e) {
		_, _ = io.CopyN(io.Discard, c.Conn, pace.LeftoverBytes) // the connection ends in any case
	}
	return os.ErrDeadlineExceeded
}

// sayNo is refuse without the reading, for which it sets a deadline. It says whether the
// client may still be there.
func (c *handed) sayNo(e *apierror.Error) bool {
	a := early{header: http.Header{"Connection": lastAnswer}}
	apierror.WriteEarly(&a, c.refused(c.RemoteAddr(), e), e)
	_, err := c.Write(a.bytes())
	return err == nil && c.CloseWrite() == nil && c.Conn.SetReadDeadline(time.Now().Add(pace.LeftoverTime)) == nil
}

// early is an answer to a request that net/http has not read.
type early struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *early) Header() http.Header               { return a.header }
func (a *early) WriteHeader(status int)            { a.status = status }
func (a *early) Write(b []byte) (n int, err error) { return a.body.Write(b) }

// bytes is the answer as it is sent.
func (a *early) bytes() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	a.header.Set("Content-Length", strconv.Itoa(a.body.Len()))
	_ = a.header.Write(&out) // which takes everything
	out.WriteString("\r\n")
	return append(out.Bytes(), a.body.Bytes()...)
}

// checkFraming refuses chunks over HTTP/1.0, before the handler reads anything of them.
// It closes connections after chunks, since only net/http knows where those end.
func checkFraming(next http.Handler, refused func(net.Addr, *apierror.Error) string) http.Handler {
	refuse := pace.Bodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		apierror.WriteEarly(w, refused(handedOf(r).RemoteAddr(), errUnclear), errUnclear)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !handedOf(r).framing.last.chunked {
			next.ServeHTTP(w, r)
			return
		}
		w.Header()["Connection"] = lastAnswer
		if r.ProtoAtLeast(1, 1) {
			next.ServeHTTP(w, r)
		} else {
			refuse.ServeHTTP(w, r)
		}
	})
}
