package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestOneConnectionManyRequests(t *testing.T) {
	s := serve(t, echo)
	c := s.dial(t)
	c.send("GET /no-host HTTP/1.1\r\n\r\n") // as small devices do
	c.expect(200, "GET /no-host  ")
	for i := range 50 {
		path := "/" + strconv.Itoa(i)
		c.send(get(path))
		c.expect(200, "GET "+path+" a ")
		c.send(post(path+"?length", "body"+path))
		r := c.expect(200, "POST "+path+"  body"+path)
		if when, err := http.ParseTime(r.Header.Get("Date")); err != nil || time.Since(when).Abs() > time.Minute {
			t.Fatalf("Date %v, %v", when, err)
		}
	}
	if n := s.rest.Load(); n != 0 {
		t.Errorf("%d requests went to net/http", n)
	}
}

// TestTwoListeners sends a plain request and another one over each.
func TestTwoListeners(t *testing.T) {
	s := serve(t, echo)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() { second <- s.Serve(l) }()
	for _, addr := range []string{s.addr, l.Addr().String()} {
		s.addr = addr
		c := s.dial(t)
		c.send(get("/1"))
		c.expect(200, "GET /1 a ")
		c.send("DELETE /2 HTTP/1.1\r\nHost: a\r\n\r\n")
		c.expect(200, "DELETE /2  ")
	}
	s.stop(t)
	if err := <-second; err != http.ErrServerClosed {
		t.Errorf("serve: %v", err)
	}
}

func TestWhatIsNotPlainIsServedByNetHTTP(t *testing.T) {
	s := serve(t, echo)
	for name, step := range map[string]func(c *client){
		"chunks": func(c *client) {
			c.send("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
			c.expect(200, "POST /a  abc")
		},
		"pipeline": func(c *client) {
			c.send(get("/1") + post("/2", "x") + get("/3"))
			c.expect(200, "GET /1 a ")
			c.expect(200, "POST /2  x")
			c.expect(200, "GET /3 a ")
		},
		"large body": func(c *client) {
			body := strings.Repeat("b", 3*bufferSize)
			c.send(post("/a", body))
			c.expect(200, "POST /a  "+body)
		},
		"other method": func(c *client) { c.send("DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n"); c.expect(200, "DELETE /a  ") },
		"not taken":    func(c *client) { c.send(get("/not-here")); c.expect(200, "GET /not-here a ") },
		"encoded path": func(c *client) { c.send(get("/%41")); c.expect(200, "GET /A a ") },
		"no host": func(c *client) {
			c.send("DELETE /a HTTP/1.1\r\nX-B: b\r\n\r\n")
			c.expect(200, "DELETE /a  ")
		},
		"no header": func(c *client) { c.send("DELETE /a HTTP/1.1\r\n\r\n"); c.expect(200, "DELETE /a  ") },
		"two hosts": func(c *client) {
			c.send("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
			r, _ := c.answer()
			c.is(r, 400)
		},
		"malformed": func(c *client) { c.send("GET /a\r\n\r\n"); r, _ := c.answer(); c.is(r, 400) },
		"HTTP/1.0":  func(c *client) { c.send("GET /a HTTP/1.0\r\n\r\n"); c.expect(200, "GET /a  "); c.expectEnd() },
		"Connection": func(c *client) {
			c.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			c.expect(200, "GET /a  ")
			c.expectEnd()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.dial(t)
			c.send(get("/first"))
			c.expect(200, "GET /first a ")
			before := s.rest.Load()
			step(c)
			if s.rest.Load() == before && name != "two hosts" && name != "malformed" {
				t.Error("it was not served by net/http")
			}
		})
	}
}

// TestASlowRequestIsNetHTTPs sends a beginning and then nothing, or a byte now
// and then.
func TestASlowRequestIsNetHTTPs(t *testing.T) {
	given := make(chan bool, 1)
	s := serve(t, echo, func(rest *http.Server) {
		rest.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				given <- true
			}
		}
	})
	c := s.dial(t)
	c.send("GET /a HTTP/1.1\r\nHost")
	<-given
	c.send(": a\r\n\r\n")
	c.expect(200, "GET /a  ")
	c = s.dial(t)
	c.send("GET /b HTTP/1.1\r\nHost: a\r\nX-Drip: ")
	drip, bytes := time.NewTicker(restTimeout/10), 0
	defer drip.Stop()
	for took := false; !took; {
		select {
		case took = <-given:
		case <-drip.C:
			if c.send("x"); bytes > 100 {
				t.Fatal("each byte buys more time")
			}
			bytes++
		}
	}
	c.send("\r\n\r\n")
	c.expect(200, "GET /b  ")
}

func (c *client) is(r *http.Response, status int) {
	c.Helper()
	if r.StatusCode != status {
		c.Errorf("status %d, not %d", r.StatusCode, status)
	}
}

func TestARequestInPieces(t *testing.T) {
	s := serve(t, echo)
	c := s.dial(t)
	_ = c.Conn.(*net.TCPConn).SetNoDelay(true)
	for range 3 {
		for _, b := range post("/pieces", "the body") {
			c.send(string(b))
		}
		c.expect(200, "POST /pieces  the body")
	}
}

func TestHalfARequestChangesNothing(t *testing.T) {
	asked := make(chan error, 1)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		asked <- err
	})
	c := s.dial(t)
	c.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	if err := <-asked; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the handler read it as if it were whole: %v", err)
	}
}

func TestShutdownFinishesWhatWasBegun(t *testing.T) {
	begun, goOn := make(chan bool, 2), make(chan bool)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" || r.URL.Path == "/not-here" {
			begun <- true
			<-goOn
		}
		echo(w, r)
	})
	idle, here, there := s.dial(t), s.dial(t), s.dial(t)
	idle.send(get("/a"))
	idle.expect(200, "GET /a a ")
	here.send(get("/slow"))
	there.send(get("/not-here"))
	<-begun
	<-begun
	stopped := make(chan bool)
	go func() { s.stop(t); close(stopped) }()
	idle.expectEnd()
	close(goOn)
	if r := here.expect(200, "GET /slow a "); !r.Close {
		t.Error("the last answer does not say that it is the last")
	}
	there.expect(200, "GET /not-here a ")
	here.expectEnd()
	there.expectEnd()
	<-stopped
}

// slowListener says when it has accepted a connection, and returns it when it may.
type slowListener struct {
	net.Listener
	accepted, goOn chan bool
}

func (l *slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted <- true
		<-l.goOn
	}
	return c, err
}

// TestAConnectionThatIsBeingAccepted while accepting stops is counted, and served.
func TestAConnectionThatIsBeingAccepted(t *testing.T) {
	s := serve(t, echo)
	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &slowListener{inner, make(chan bool), make(chan bool)}
	second := make(chan error, 1)
	go func() { second <- s.Serve(l) }()
	s.addr = inner.Addr().String()
	c := s.dial(t)
	<-l.accepted
	stopped := make(chan bool)
	go func() { s.StopAccepting(); close(stopped) }()
	if err := <-s.served; !errors.Is(err, net.ErrClosed) { // of the other listener, which has nothing to wait for
		t.Errorf("serve: %v", err)
	}
	s.served <- http.ErrServerClosed // what stop is told
	select {
	case <-stopped:
		t.Error("it is not waited for")
	case <-time.After(10 * time.Millisecond):
	}
	close(l.goOn)
	<-stopped
	if n := s.open.Load(); n != 1 {
		t.Errorf("%d connections are counted as open", n)
	}
	c.send(get("/a"))
	c.expect(200, "GET /a a ")
	if err := <-second; !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve: %v", err)
	}
}

func TestShutdownIsNotWaitedForLongerThanItsContext(t *testing.T) {
	begun, goOn := make(chan bool), make(chan bool)
	s := serve(t, func(http.ResponseWriter, *http.Request) { close(begun); <-goOn })
	c := s.dial(t)
	c.send(get("/slow"))
	<-begun
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	close(goOn)
}

func TestIdleConnectionsEnd(t *testing.T) {
	s := serve(t, echo, func(rest *http.Server) {
		rest.IdleTimeout, rest.ReadHeaderTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	s.dial(t).expectEnd() // never said anything
	c := s.dial(t)
	c.send(get("/a"))
	c.expect(200, "GET /a a ")
	c.expectEnd()
}
