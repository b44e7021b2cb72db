// Package fakesq stands in for `sq host PORT --key K --data-dir D`, so that
// sqgate can be tried and tested on a machine without SQ.
//
// It is SQ 0.6.0 unless told otherwise, and can be 0.5.6 and 0.5.3. It answers
// the recordings of all three in testdata byte for byte, and breaks where they
// break. It never improves on SQ: sqgate has to protect itself from SQ's
// faults, so the tests need them. It knows no --config and no --mesh-config,
// and it must not serve data that anybody wants to keep.
package fakesq

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The releases of SQ that the stand-in can be.
const (
	Release053 = "0.5.3"
	Release056 = "0.5.6"
	Release060 = "0.6.0"
)

var releases = []string{Release053, Release056, Release060}

// Main is the program: `[--release R] host PORT [--key K] [--data-dir D]`, or
// `[--release R] version`. It returns the exit status. As in SQ, `host` serves
// until it is killed.
func Main(args []string, stdout, stderr io.Writer) int {
	release := Release060
	if len(args) >= 2 && args[0] == "--release" {
		release, args = args[1], args[2:]
	}
	if !slices.Contains(releases, release) {
		fmt.Fprintf(stderr, "there is no stand-in for SQ %s: use one of %s\n", release, strings.Join(releases, ", "))
		return 2
	}
	_ = os.Mkdir(".sq", 0o755) // SQ ignores the error too
	switch {
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintln(stdout, release)
		return 0
	case len(args) >= 2 && args[0] == "host":
		return host(args[1], configOf(release, args[2:], stdout, stderr))
	}
	fmt.Fprintln(stderr, "usage: host PORT [--key K] [--data-dir D]")
	return 2
}

func configOf(release string, args []string, stdout, stderr io.Writer) Config {
	c := Config{Release: release, Out: stdout, Log: stderr}
	for i := 0; i+1 < len(args); i++ {
		switch args[i] {
		case "--key":
			c.Key, c.HasKey = args[i+1], true
			i++
		case "--data-dir":
			c.DataDir = args[i+1]
			_ = os.MkdirAll(c.DataDir, 0o755) // SQ ignores the error too
			i++
		}
	}
	return c
}

// host serves until the process is killed, or until a panic that SQ has too.
func host(port string, c Config) (status int) {
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		fmt.Fprintln(c.Log, "not a port:", port)
		return 2
	}
	// A Rust program survives a write to a closed pipe. It gets an error, and
	// SQ panics over it.
	signal.Ignore(syscall.SIGPIPE)
	if c.HasKey {
		fmt.Fprintln(c.Out, "Auth enabled (pmb-v1 key required)")
	}
	if c.DataDir != "" {
		fmt.Fprintln(c.Out, "Tenant data directory:", c.DataDir)
	}
	l, err := net.Listen("tcp4", "0.0.0.0:"+port)
	if err != nil {
		fmt.Fprintln(c.Log, err)
		return panicStatus
	}
	fmt.Fprintf(c.Out, "SQ v%s listening on port %s (max %d concurrent connections)...\n", c.Release, port, maxConnections)
	defer onPanic(func(rustPanic) { status = panicStatus })
	New(c).Serve(l)
	return 0
}

// panicStatus is the exit status of a Rust program that rustPanic.
const panicStatus = 101

// Config is the command line of one SQ process, and its output.
type Config struct {
	Release string // one of the Release constants; empty means Release060
	Key     string
	HasKey  bool      // whether requests need Key
	DataDir string    // if empty, phexts are in the working directory and names may be paths
	Out     io.Writer // standard output; nil discards it
	Log     io.Writer // standard error; nil discards it
}

// Server is what one SQ process does with its connections and its memory.
type Server struct {
	config Config
	store  store
	active atomic.Int64 // connections that count towards maxConnections
	logMu  sync.Mutex   // keeps lines of the log apart
}

// New makes a server. Serve runs it.
func New(c Config) *Server {
	if c.Out == nil {
		c.Out = io.Discard
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	if c.Release == "" {
		c.Release = Release060
	}
	s := &Server{config: c}
	s.store = store{release: c.Release, out: c.Out, logf: s.logf}
	return s
}

// Serve answers one request on each connection of l. It returns once l is
// closed and every connection has been served.
func (s *Server) Serve(l net.Listener) {
	var serving sync.WaitGroup
	for id := uint64(1); ; {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			serving.Wait()
			return
		case err != nil:
			s.logf("Accept error: %v", err)
		case s.admit(conn):
			connection := id
			serving.Go(func() {
				defer conn.Close() // SQ ignores the error too
				s.thread(timeoutConn{conn}, connection)
			})
			id++
		}
	}
}

// admit counts conn, or turns it away if there are too many already.
func (s *Server) admit(conn net.Conn) bool {
	if n := s.active.Load(); n >= maxConnections {
		s.logf("[!] Connection limit reached (%d/%d), rejecting", n, maxConnections)
		respond(conn, 503, "Service Unavailable: connection limit reached")
		_ = conn.Close() // SQ ignores the error too
		return false
	}
	s.active.Add(1)
	return true
}

// logf writes a line to standard error. Like Rust's eprintln, it panics if the
// write fails.
func (s *Server) logf(format string, args ...any) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if _, err := fmt.Fprintf(s.config.Log, format+"\n", args...); err != nil {
		panic(rustPanic("failed printing to stderr"))
	}
}

// SQ's limits (LEGACY.md). Sizes are in bytes.
const (
	maxConnections = 512
	ioTimeout      = 32 * time.Second // of each read and each write
	maxHeader      = 64 << 10
	maxBody        = 64 << 20
)

// timeoutConn gives each read and each write ioTimeout, as SQ's sockets do. So
// a slow client is served, and a silent one is not.
type timeoutConn struct{ net.Conn }

func (p timeoutConn) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(ioTimeout)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// writeChunk is how many bytes have to be written within one timeout.
const writeChunk = 64 << 10

func (p timeoutConn) Write(b []byte) (written int, err error) {
	for written < len(b) && err == nil {
		if err = p.SetWriteDeadline(time.Now().Add(ioTimeout)); err != nil {
			break
		}
		var n int
		n, err = p.Conn.Write(b[written:min(len(b), written+writeChunk)])
		written += n
	}
	return written, err
}

// rustPanic is the value of a panic that SQ has too. Any other panic is a bug
// in the stand-in, and is not recovered.
type rustPanic string

// thread serves one connection. The only panic that reaches it is that of a
// failed write to the log. It ends SQ's thread: the client gets no answer, and
// the connection is never taken off the count.
func (s *Server) thread(conn net.Conn, id uint64) {
	defer onPanic(func(rustPanic) {})
	s.serve(conn, id)
	s.active.Add(-1)
}

// serve answers one request. As in SQ, a panic is answered with 500. If it
// poisoned the store's lock, the lock stays poisoned.
func (s *Server) serve(conn net.Conn, id uint64) {
	defer onPanic(func(p rustPanic) {
		s.logf("[#%d] panic: %s", id, p)
		respond(conn, 500, "Internal Server Error")
	})
	r, err := readRequest(conn)
	var tooLarge tooLargeError
	switch {
	case errors.As(err, &tooLarge):
		s.logf("[#%d] rejected: %v", id, err)
		respond(conn, 413, string(tooLarge))
	case err != nil:
		s.logf("[#%d] read error: %v", id, err)
	default:
		s.answer(conn, id, r)
	}
}

// onPanic calls do if the function that defers it has panicked as SQ does.
func onPanic(do func(rustPanic)) {
	switch p := recover().(type) {
	case nil:
	case rustPanic:
		do(p)
	default:
		panic(p)
	}
}

var statusText = map[int]string{
	200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
	413: "Payload Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
}

func respond(w io.Writer, status int, body string) {
	// SQ ignores the error too.
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: %d\r\n\r\n%s",
		status, statusText[status], len(body), body)
}

const preflight = "HTTP/1.1 204 No Content\r\n" +
	"Access-Control-Allow-Origin: *\r\n" +
	"Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n" +
	"Access-Control-Allow-Headers: Authorization, Content-Type\r\n" +
	"Access-Control-Max-Age: 86400\r\n\r\n"
