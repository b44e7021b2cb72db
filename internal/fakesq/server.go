package fakesq

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Config is the command line of one SQ process.
type Config struct {
	Release string // Release053 or Release056
	Key     string
	HasKey  bool      // without a key everything is let in
	DataDir string    // empty: the working directory, and any path for a name
	Out     io.Writer // standard output; nil discards
	Log     io.Writer // standard error; nil discards
}

// Server is one SQ process.
type Server struct {
	config Config
	store  store
	active atomic.Int64 // connections that count against mostConnections
	say    sync.Mutex   // one line of the log at a time

	mu      sync.Mutex
	closed  bool
	open    map[io.Closer]struct{} // listeners and connections
	serving sync.WaitGroup
}

// New makes a server; Serve runs it.
func New(c Config) *Server {
	if c.Out == nil {
		c.Out = io.Discard
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	s := &Server{config: c, open: map[io.Closer]struct{}{}}
	s.store = store{release: c.Release, out: c.Out, logf: s.logf}
	return s
}

// Serve answers one request on each connection of l, until Close.
func (s *Server) Serve(l net.Listener) {
	if !s.hold(l) {
		_ = l.Close() // nothing was ever accepted from it
		return
	}
	defer s.release(l)
	for id := uint64(1); ; {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.logf("Accept error: %v", err)
		case s.admit(conn, id):
			id++
		}
	}
}

// admit serves conn in a goroutine of its own, unless there are too many.
func (s *Server) admit(conn net.Conn, id uint64) bool {
	if n := s.active.Load(); n >= mostConnections {
		s.logf("[!] Connection limit reached (%d/%d), rejecting", n, mostConnections)
		respond(conn, 503, "Service Unavailable: connection limit reached")
		_ = conn.Close() // nobody is told in SQ either
		return false
	}
	if !s.hold(conn) {
		_ = conn.Close() // the server is closing
		return false
	}
	s.active.Add(1)
	go func() {
		defer s.release(conn)
		s.thread(patient{conn}, id)
	}()
	return true
}

// Close stops Serve, cuts every connection, and waits until nothing runs any more.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		_ = c.Close() // it is released, and closed again, by who serves it
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *Server) hold(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[c] = struct{}{}
	s.serving.Add(1)
	return true
}

func (s *Server) release(c io.Closer) {
	defer s.serving.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	_ = c.Close() // Close may have been there first
}

// logf writes a line to standard error. Like Rust's eprintln it panics when
// nobody reads there.
func (s *Server) logf(format string, args ...any) {
	s.say.Lock()
	defer s.say.Unlock()
	if _, err := fmt.Fprintf(s.config.Log, format+"\n", args...); err != nil {
		panic(panicked("failed printing to stderr"))
	}
}
