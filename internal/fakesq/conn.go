package fakesq

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

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
