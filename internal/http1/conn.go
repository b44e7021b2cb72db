package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// conn is one connection, served by one goroutine.
type conn struct {
	server *Server
	tcp    *net.TCPConn
	raw    syscall.RawConn
	turn   *fairqueue.Turn
	remote string
	of     string        // owner of the turns of all requests so far
	mixed  bool          // there are several, or none yet
	base   *http.Request // what all requests of the connection have in common
	closed func()        // from Config.Opened
	done   chan struct{}
	state  atomic.Int32

	buf     *[bufferSize]byte // nil while idle
	n       int               // bytes of it that were read
	readErr error
	waited  bool                  // for what is read
	room    *memlimit.Reservation // for buf; nil = no request has come in pieces
	ready   func(fd uintptr) bool
	fields  *fields
	until   time.Time // read deadline that is set
}

// States of a connection.
const (
	idle   int32 = iota // nothing of a request has come
	active              // a request is being read or served
	ended               // it is being closed
)

func newConn(s *Server, tcp *net.TCPConn, closed func()) (*conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{server: s, tcp: tcp, raw: raw, turn: s.cfg.Turns.Turn(""), remote: tcp.RemoteAddr().String(), closed: closed, done: make(chan struct{})}
	c.base = (&http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: c.remote}).WithContext(fairqueue.WithTurn(context.Background(), c.turn))
	c.ready, c.mixed = c.readReady, true
	return c, nil
}

// noteOwner notes whose request was answered. first says that there was none before.
func (c *conn) noteOwner(first bool) {
	owner := c.turn.Owner()
	c.mixed = !first && (c.mixed || owner != c.of)
	c.of = owner
}

// serve answers requests until the connection ends or is handed to net/http.
func (c *conn) serve() {
	defer close(c.done)
	defer c.server.forget(c)
	defer c.dropBuffer()
	handedOver := false
	defer func() {
		if handedOver {
			return
		}
		c.turn.Give()
		_ = c.tcp.Close() // what was to be sent was sent
		c.closed()
	}()
	timeout := c.server.cfg.Fallback.ReadHeaderTimeout
	for first := true; c.await(timeout); first = false {
		p, v := c.read()
		if v != complete || !c.server.cfg.Plain(p.path) {
			handedOver = c.handOver()
			return
		}
		if !c.answer(p) {
			return
		}
		c.dropBuffer()
		c.noteOwner(first)
		timeout = c.server.cfg.Fallback.IdleTimeout
		if !c.state.CompareAndSwap(active, idle) || c.server.closing.Load() {
			return
		}
	}
}

// closeIdle ends the connection if nothing of a request has come. One that has come, and is not
// read yet, would be lost, and nobody may repeat it if it is a POST.
func (c *conn) closeIdle() {
	if c.hasUnread() {
		return // it is answered, and the connection ends then
	}
	if c.state.CompareAndSwap(idle, ended) {
		_ = c.tcp.Close() // its goroutine notices
	}
}

// hasUnread says whether the kernel has bytes of the client.
func (c *conn) hasUnread() bool {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	failed := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return failed == nil && err == nil && n > 0
}

// await waits for the first bytes of a request, or returns false if the
// connection has ended.
func (c *conn) await(timeout time.Duration) bool {
	c.setReadDeadline(timeout)
	if c.mixed {
		c.turn.SetOwner(c.remote)
	}
	return c.fill() == nil && c.state.CompareAndSwap(idle, active)
}

// read reads until it is known what has arrived. The rest of a request has to
// arrive within restTimeout, however small the pieces. Until then, the buffer takes
// memory as large headers do.
func (c *conn) read() (plain, verdict) {
	for waited := false; ; waited = true {
		p, v := parse(c.buf[:c.n], c.fields)
		if v != incomplete || c.n == bufferSize {
			return p, v
		}
		if !waited {
			if c.room == nil {
				c.room = memlimit.Reserve(c.server.cfg.HeaderMemory(c.tcp.RemoteAddr())...)
			}
			rest := restTimeout
			if !c.room.Grow(bufferSize) {
				rest = briefly
			}
			defer c.room.Release()
			c.setReadDeadline(rest)
		}
		if c.fill() != nil {
			return p, unusual
		}
	}
}

// An idle connection keeps its last header if that is no larger. Parsed, it takes
// many times its bytes.
const (
	keptHead   = 1 << 10 // bytes
	keptFields = 16
)

// answer serves a request, and returns false if the connection must end.
func (c *conn) answer(p plain) (goOn bool) {
	c.turn.Give() // in which the request was read and parsed
	defer func() {
		if v := recover(); v != nil {
			goOn = false
			logPanic(c.server.cfg.Logger, v, debug.Stack(), c.remote)
		}
	}()
	if c.fields = nil; len(p.head.raw) <= keptHead && len(p.head.header) <= keptFields {
		c.fields = p.head
	}
	r := c.request(p)
	if c.server.cfg.Endless != nil && c.server.cfg.Endless(p.path) {
		ctx, left := context.WithCancel(r.Context())
		defer c.watch(left)()
		if r = r.WithContext(ctx); len(p.body) == 0 {
			c.dropBuffer()
		}
	}
	w := newWriter(c)
	c.server.handler.ServeHTTP(w, r)
	defer w.free() // but not after a panic: somebody may still hold it
	return w.end()
}

func (c *conn) request(p plain) *http.Request {
	r := new(http.Request)
	*r = *c.base
	r.Method, r.RequestURI, r.Host, r.Header = p.method, p.target, p.head.host, p.head.header
	r.URL = &url.URL{Path: p.path, RawQuery: p.query}
	r.Body = http.NoBody
	if len(p.body) > 0 {
		r.ContentLength = int64(len(p.body))
		r.Body = io.NopCloser(bytes.NewReader(p.body))
	}
	return r
}

// handOver gives the connection to net/http, with what was read from it.
func (c *conn) handOver() bool {
	c.turn.Give()
	if err := c.tcp.SetDeadline(time.Time{}); errors.Is(err, os.ErrClosed) {
		return false
	}
	h := c.server.newHanded(c.tcp, bytes.Clone(c.buf[:c.n]), c.turn, c.closed)
	c.dropBuffer()
	if err := h.makeRoom(); err != nil {
		if h.read = nil; h.sayNo(err) {
			c.discard()
		}
		_ = h.Close() // what was to be sent was sent
		return true
	}
	return c.server.rest.give(h)
}
