package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
)

// withTurns has a server send in the turns of a queue.
func withTurns(t *testing.T, turns int) (*fairqueue.Queue, func(*Config)) {
	q, err := fairqueue.New(turns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q, func(c *Config) { c.Turns = q }
}

// mine has the turns of a request be those of an owner, and takes one.
func mine(r *http.Request, owner string) *fairqueue.Turn {
	turn := fairqueue.FromContext(r.Context())
	turn.SetOwner(owner)
	_ = turn.Take(r.Context())
	return turn
}

// unread is more than the system takes for a client that does not read, in bytes.
const unread = 16 << 20

// Clients that do not read their answers, which they asked for in three ways, have
// no turn while the server waits for them.
func TestAClientThatDoesNotReadHasNoTurn(t *testing.T) {
	large := make([]byte, unread)
	begun := make(chan bool, 3)
	_, queue := withTurns(t, 1)
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		mine(r, r.URL.Path)
		if r.URL.Path == "/other" {
			echo(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(large)))
		begun <- true
		_, _ = w.Write(large)
	}, queue)
	here, there := s.dial(t), s.dial(t)
	here.send(get("/large"))
	<-begun
	there.send("GET /large HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n")
	<-begun
	secretly := s.dialTLS(t)
	secretly.send(get("/large"))
	<-begun
	c := s.dial(t)
	for range 3 {
		c.send(get("/other"))
		c.expect(200, "GET /other a ")
	}
	here.Close()
	there.Close()
	secretly.Conn.(*tls.Conn).NetConn().Close() // without a word to whoever does not read
}

// dialTLS makes a client of another listener of the server, over TLS.
func (s *served) dialTLS(t *testing.T) *client {
	other := httptest.NewTLSServer(nil) // which has a certificate
	other.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(tls.NewListener(l, &tls.Config{Certificates: other.TLS.Certificates})) }() // until the server is shut down
	c, err := tls.Dial("tcp4", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, c, bufio.NewReader(c)}
}

// sink is a connection that takes everything, and sees that nobody has a turn
// between the attempts to send.
type sink struct {
	*testing.T
	syscall.RawConn
	queue    *fairqueue.Queue
	attempts int
}

func (s *sink) Write(f func(fd uintptr) bool) error {
	s.attempts++
	other := s.queue.Turn("other")
	if err := other.Take(s.Context()); err != nil {
		return err
	}
	other.Give()
	if !f(uintptr(s.fd())) {
		s.Error("nothing was sent")
	}
	return nil
}

// fd is a file that takes everything.
func (s *sink) fd() int {
	fd, err := syscall.Open(os.DevNull, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = syscall.Close(fd) })
	return fd
}

func TestALargeAnswerIsSentInSeveralTurns(t *testing.T) {
	q, _ := withTurns(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	raw := &sink{T: t, queue: q}
	n, err := (&sender{raw, q.Turn("mine")}).send(ctx, make([]byte, 100), make([]byte, 3*largestChunk))
	if n != 100+3*largestChunk || err != nil || raw.attempts != 4 {
		t.Errorf("%d bytes in %d attempts, %v", n, raw.attempts, err)
	}
}

// The wait for a turn ends with the answer's deadline.
func TestAnAnswerDoesNotWaitForItsTurnForEver(t *testing.T) {
	q, queue := withTurns(t, 1)
	ended, come, goOn := make(chan error, 1), make(chan bool), make(chan bool)
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		come <- true
		<-goOn
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		w.Header().Set("Content-Length", strconv.Itoa(unread))
		_, err := w.Write(make([]byte, unread))
		ended <- err
	}, queue)
	c := s.dial(t)
	c.send(get("/large"))
	<-come
	turn := q.Turn("other")
	if err := turn.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	goOn <- true
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	turn.Give()
}

// A turn that a handler took comes back, whatever becomes of the request.
func TestNoTurnIsLost(t *testing.T) {
	q, queue := withTurns(t, 1)
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		mine(r, "a")
		switch r.URL.Path {
		case "/panic":
			panic(http.ErrAbortHandler)
		case "/nothing":
			return
		}
		w.Header().Set("Content-Length", "9")
		_, _ = w.Write([]byte("abc")) // which is too short
	}, queue)
	for _, path := range []string{"/panic", "/nothing", "/short"} {
		for _, headers := range []string{"", "Pragma: no-cache\r\n"} {
			c := s.dial(t)
			c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n" + headers + "\r\n")
			_, _ = c.in.ReadByte() // the beginning of an answer, or the end
			turn := q.Turn("b")
			if err := turn.Take(t.Context()); err != nil {
				t.Fatal(err)
			}
			turn.Give()
		}
	}
}

// A request is read in a turn of whoever has asked on its connection. So many requests of
// one tenant that have arrived do not come before the one of another, nor before one that
// comes through a proxy.
func TestARequestIsReadInATurn(t *testing.T) {
	const many = 10
	q, queue := withTurns(t, 1)
	read := make(chan string, 2*(many+2))
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		read <- r.URL.Path
		mine(r, r.URL.Path)
		echo(w, r)
	}, queue)
	var all []*client
	for range many {
		all = append(all, s.dial(t))
	}
	other, proxy := s.dial(t), s.dial(t)
	ask := func(then func(c *client, path string)) {
		for _, c := range all {
			then(c, "/many")
		}
		then(other, "/other")
		then(proxy, "/proxied")
	}
	first := func(c *client, path string) {
		c.send(get(path))
		c.expect(200, "GET "+path+" a ")
		<-read
	}
	ask(first)
	first(proxy, "/many")
	busy := q.Turn("somebody else")
	defer busy.Give()
	take := func() {
		if err := busy.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	take()
	ask(func(c *client, path string) { c.send(get(path)) })
	for q.Waiting() < many+2 {
		runtime.Gosched()
	}
	if len(read) > 0 {
		t.Fatalf("%s was read without a turn", <-read)
	}
	busy.Give()
	take() // each tenant has had its turn, and so has the proxy
	for seen := map[string]bool{}; !seen["/other"] || !seen["/proxied"]; {
		select {
		case path := <-read:
			seen[path] = true
		case <-time.After(10 * time.Second):
			t.Fatal("one tenant's request waits for many of another's")
		}
	}
	busy.Give()
	ask(func(c *client, path string) { c.expect(200, "GET "+path+" a ") })
}
