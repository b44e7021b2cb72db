package legacysq

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of SQ (LEGACY.md).
const (
	mostConnections = 512
	ioTimeout       = 32 * time.Second
	largestHeader   = 64 << 10
	largestBody     = 64 << 20
)

// Config is the command line of one SQ process.
type Config struct {
	Release string // Release053 or Release056
	Key     string
	HasKey  bool // without a key everything is let in
	DataDir string
	Log     io.Writer // standard error
}

// Server is one SQ process.
type Server struct {
	config  Config
	store   store
	active  atomic.Int64
	serving sync.WaitGroup
}

// New makes a server; Serve runs it.
func New(c Config) *Server {
	return &Server{config: c, store: store{release: c.Release}}
}

// Serve answers one request on each connection until the listener is closed,
// and returns when the last of them is answered.
func (s *Server) Serve(l net.Listener) {
	defer s.serving.Wait()
	id := uint64(0)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if s.active.Load() >= mostConnections {
			respond(conn, 503, "Service Unavailable: connection limit reached")
			_ = conn.Close() // nobody is told in SQ either
			continue
		}
		id++
		s.active.Add(1)
		this := id
		s.serving.Go(func() { s.serve(conn, this) })
	}
}

func (s *Server) serve(conn net.Conn, id uint64) {
	defer s.active.Add(-1)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(ioTimeout)) // a TCP connection takes deadlines
	r, err := readRequest(conn)
	if err != nil {
		if tooMuch, ok := err.(tooMuchError); ok {
			respond(conn, 413, string(tooMuch))
		}
		return
	}
	defer func() {
		// SQ catches its panics and answers 500; what they did to its lock stays.
		if p := recover(); p != nil {
			fmt.Fprintf(s.config.Log, "[#%d] panic: %v\n", id, p)
			respond(conn, 500, "Internal Server Error")
		}
	}()
	s.answer(conn, id, r)
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
