// Package fakesq stands in for `sq host PORT --key K --data-dir D`, so that
// sqgate can be tried and tested on a machine without SQ.
//
// It reproduces the recordings of SQ 0.5.3 and 0.5.6 in testdata byte for
// byte, their breakages included, and never improves on them: what sqgate must
// protect itself from has to be there to protect from. It is not for serving
// data that anybody cares about.
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

// The releases that the stand-in can be.
const (
	Release053 = "0.5.3"
	Release056 = "0.5.6"
	Release060 = "0.6.0"
)

var releases = []string{Release053, Release056, Release060}

// Main is the program: `[--release R] host PORT [--key K] [--data-dir D]` or
// `version`. It returns an exit status, or serves until it is killed, as SQ does.
func Main(args []string, stdout, stderr io.Writer) int {
	release := Release060
	if len(args) >= 2 && args[0] == "--release" {
		release, args = args[1], args[2:]
	}
	if !slices.Contains(releases, release) {
		fmt.Fprintf(stderr, "there is no stand-in for SQ %s: use one of %s\n", release, strings.Join(releases, ", "))
		return 2
	}
	_ = os.Mkdir(".sq", 0o755) // SQ makes it wherever it is started, and does not look whether it could
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
			_ = os.MkdirAll(c.DataDir, 0o755) // SQ does not look whether it could
			i++
		}
	}
	return c
}

// host serves until it is killed, or until a panic that SQ has too.
func host(port string, c Config) (status int) {
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		fmt.Fprintln(c.Log, "not a port:", port)
		return 2
	}
	// A Rust program lives on when nobody reads its output: it gets an error
	// from the write, which is what breaks SQ in its own way.
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
	fmt.Fprintf(c.Out, "SQ v%s listening on port %s (max %d concurrent connections)...\n", c.Release, port, mostConnections)
	defer onPanic(func(panicked) { status = panicStatus })
	New(c).Serve(l)
	return 0
}

// panicStatus is the exit status of a Rust program that panicked.
const panicStatus = 101

// Config is the command line of one SQ process.
type Config struct {
	Release string // empty means Release060
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
}

// New makes a server; Serve runs it.
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
				s.thread(patient{conn}, connection)
			})
			id++
		}
	}
}

// admit counts conn, or turns it away if there are too many.
func (s *Server) admit(conn net.Conn) bool {
	if n := s.active.Load(); n >= mostConnections {
		s.logf("[!] Connection limit reached (%d/%d), rejecting", n, mostConnections)
		respond(conn, 503, "Service Unavailable: connection limit reached")
		_ = conn.Close() // SQ ignores the error too
		return false
	}
	s.active.Add(1)
	return true
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

// Limits of SQ (LEGACY.md).
const (
	mostConnections = 512
	ioTimeout       = 32 * time.Second
	largestHeader   = 64 << 10
	largestBody     = 64 << 20
)

// patient gives each read and each write 32 s of its own, as SQ's sockets do:
// a client that is slow, but not silent, is served.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(ioTimeout)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// writeStep is how much has to get through within one timeout, in bytes.
const writeStep = 64 << 10

func (p patient) Write(b []byte) (written int, err error) {
	for written < len(b) && err == nil {
		if err = p.SetWriteDeadline(time.Now().Add(ioTimeout)); err != nil {
			break
		}
		var n int
		n, err = p.Conn.Write(b[written:min(len(b), written+writeStep)])
		written += n
	}
	return written, err
}

// panicked is the value of a panic that SQ has, too. Any other panic is a fault
// of the stand-in, and is let through.
type panicked string

// thread serves one connection. A panic that gets here, which is one about a
// log that nobody reads, ends SQ's thread: the client gets no answer, and the
// connection is counted for ever.
func (s *Server) thread(conn net.Conn, id uint64) {
	defer onPanic(func(panicked) {})
	s.serve(conn, id)
	s.active.Add(-1)
}

// serve answers one request. SQ catches a panic there and answers 500; what the
// panic did to its lock stays.
func (s *Server) serve(conn net.Conn, id uint64) {
	defer onPanic(func(p panicked) {
		s.logf("[#%d] panic: %s", id, p)
		respond(conn, 500, "Internal Server Error")
	})
	r, err := readRequest(conn)
	var tooMuch tooMuchError
	switch {
	case errors.As(err, &tooMuch):
		s.logf("[#%d] rejected: %v", id, err)
		respond(conn, 413, string(tooMuch))
	case err != nil:
		s.logf("[#%d] read error: %v", id, err)
	default:
		s.answer(conn, id, r)
	}
}

// onPanic is to be deferred.
func onPanic(do func(panicked)) {
	switch p := recover().(type) {
	case nil:
	case panicked:
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
	// A client that has gone is not noticed by SQ either.
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: %d\r\n\r\n%s",
		status, statusText[status], len(body), body)
}

const preflight = "HTTP/1.1 204 No Content\r\n" +
	"Access-Control-Allow-Origin: *\r\n" +
	"Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n" +
	"Access-Control-Allow-Headers: Authorization, Content-Type\r\n" +
	"Access-Control-Max-Age: 86400\r\n\r\n"
