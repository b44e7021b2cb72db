package http1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// Config is what a Server is made of.
type Config struct {
	// Fallback serves the connections that are not plain, with its own limits. Its
	// handler, and its idle and header timeouts, are those of plain requests too.
	Fallback *http.Server
	// Plain says whether a request for a path may be served here. Its answer is
	// then held in memory until the handler returns, unless the handler announced
	// its length or flushes it.
	Plain func(path string) bool
	// Endless says whether the answer at a path may have no end. The context of its
	// request ends when the client leaves. nil = none has none.
	Endless func(path string) bool
	// Opened is called for each connection, here or at Fallback, and returns what
	// is called when it is closed; nil refuses it.
	Opened func(remote net.Addr) (closed func())
	// HeaderMemory returns the budgets, in bytes, of which large headers on a
	// connection take, and requests whose rest is waited for. It is asked at the first
	// one; nil = there are none.
	HeaderMemory func(remote net.Addr) []*memlimit.Budget
	// Refused is told of each request that is refused here, before the handler sees it,
	// and returns what its answer has as X-Request-Id.
	Refused func(remote net.Addr, e *apierror.Error) (id string)
	// Turns is where answers wait for their turn to be sent. A request has the Turn
	// of its connection in its context. The handler says whose it is, and may take
	// it: it is given back when the handler has returned. nil = nobody waits.
	Turns  *fairqueue.Queue
	Logger *slog.Logger
}

// Server serves listeners. Its methods may be called at any time.
type Server struct {
	cfg     Config
	handler http.Handler
	rest    *handover
	largest int // header, in bytes

	closing atomic.Bool // set under mu

	mu        sync.Mutex
	listeners []net.Listener
	accepting sync.WaitGroup // Serve, for each of them
	conns     map[*conn]struct{}
	group     sync.WaitGroup // of the connections here, and of Fallback's Serve
}

// New makes a Server; it starts nothing. It changes Fallback, which must not be
// used elsewhere.
func New(c Config) *Server {
	handler, observe := c.Fallback.Handler, c.Fallback.ConnState
	c.Fallback.Handler, c.Fallback.ConnContext = loggingPanics(checkFraming(givingTurns(handler), c.Refused), c.Logger), withHanded
	c.Fallback.ConnState = func(nc net.Conn, state http.ConnState) {
		if state == http.StateIdle {
			nc.(*handed).heads.release(false)
		}
		if observe != nil {
			observe(nc, state)
		}
	}
	if c.HeaderMemory == nil {
		c.HeaderMemory = func(net.Addr) []*memlimit.Budget { return nil }
	}
	largest := cmp.Or(c.Fallback.MaxHeaderBytes, http.DefaultMaxHeaderBytes) + slack
	c.Fallback.MaxHeaderBytes = largest + slack
	return &Server{cfg: c, handler: handler, rest: newHandover(), largest: largest, conns: map[*conn]struct{}{}}
}

// slack is by how much net/http lets a header be larger than MaxHeaderBytes. Its
// limit is set a little higher than the one here, which has an answer that says more.
const slack = 4 << 10

func (s *Server) newHanded(nc net.Conn, read []byte, turn *fairqueue.Turn, closed func()) *handed {
	heads := &headMemory{largest: s.largest, budgets: s.cfg.HeaderMemory, remote: nc.RemoteAddr()}
	return newHanded(nc, read, turn, heads, s.cfg.Refused, closed)
}

// Serve accepts connections until Shutdown or Close, and then returns
// http.ErrServerClosed. If the listener fails, it returns that error. Several
// listeners may be served at once.
func (s *Server) Serve(l net.Listener) error {
	if !s.begin(l) {
		return http.ErrServerClosed
	}
	defer s.accepting.Done()
	var pause time.Duration
	for {
		c, err := l.Accept()
		if err == nil {
			pause = 0
			s.serve(c)
			continue
		}
		if s.closing.Load() {
			return http.ErrServerClosed
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return err
		}
		pause = min(max(2*pause, shortestPause), longestPause)
		s.cfg.Logger.Warn("no connection could be accepted", "error", err, "retry", pause)
		time.Sleep(pause) // as net/http does: a file descriptor may be free again then
	}
}

// How long to wait when a connection cannot be accepted.
const (
	shortestPause = 5 * time.Millisecond
	longestPause  = time.Second
)

func (s *Server) begin(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.listeners = append(s.listeners, l)
	s.accepting.Add(1)
	if len(s.listeners) > 1 {
		return true // Fallback serves already
	}
	s.rest.addr = l.Addr()
	s.group.Go(func() { _ = s.cfg.Fallback.Serve(s.rest) }) // ends with ErrServerClosed: there is no other way
	return true
}

// serve begins to serve a connection: here, if it is a TCP connection.
func (s *Server) serve(nc net.Conn) {
	closed := s.cfg.Opened(nc.RemoteAddr())
	if closed == nil {
		_ = nc.Close() // nothing was read from it
		return
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok || !plainRequests {
		if h := s.newHanded(nc, nil, s.cfg.Turns.Turn(""), closed); !s.rest.give(h) {
			_ = h.Close() // nothing was read from it
		}
		return
	}
	c, err := newConn(s, tcp, closed)
	if err != nil || !s.admit(c) {
		_ = nc.Close() // nothing was read from it
		closed()
	}
}

func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.conns[c] = struct{}{}
	s.group.Go(c.serve)
	return true
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// StopAccepting closes the listeners, and returns when Opened was called for the last
// connection that was accepted. Connections go on being served.
func (s *Server) StopAccepting() {
	s.mu.Lock()
	for _, l := range s.listeners {
		_ = l.Close() // it may be closed already
	}
	s.mu.Unlock()
	s.accepting.Wait()
}

// Shutdown stops accepting, closes idle connections and waits for the requests
// in flight. If ctx ends first, it returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop(func(c *conn) { c.closeIdle() })
	if err := s.awaitPlain(ctx); err != nil {
		return err
	}
	err := s.cfg.Fallback.Shutdown(ctx)
	if err == nil {
		s.group.Wait()
	}
	return err
}

// awaitPlain returns when no connection is served here any more.
func (s *Server) awaitPlain(ctx context.Context) error {
	for {
		s.mu.Lock()
		var one *conn
		for one = range s.conns {
			break
		}
		s.mu.Unlock()
		if one == nil {
			return nil
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close closes all connections at once. Handlers may still run for a while.
func (s *Server) Close() error {
	s.stop(func(c *conn) { _ = c.tcp.Close() }) // its goroutine notices
	return s.cfg.Fallback.Close()
}

func (s *Server) stop(each func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	for _, l := range s.listeners {
		_ = l.Close() // it may be closed already
	}
	for c := range s.conns {
		each(c)
	}
}

// loggingPanics logs a panic of a handler that net/http calls, which would log it among what
// clients do wrong.
func loggingPanics(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				logPanic(log, v, debug.Stack(), r.RemoteAddr)
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func logPanic(log *slog.Logger, value any, stack []byte, remote string) {
	if value != http.ErrAbortHandler {
		log.Error("a request panicked", "remote", remote, "panic", fmt.Sprint(value), "stack", string(stack))
	}
}
