package http1

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestAnAnswerInParts is told to a client as it is made, and leaves the connection as it was.
func TestAnAnswerInParts(t *testing.T) {
	parts := make(chan string)
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/parts" {
			echo(w, r)
			return
		}
		out := http.NewResponseController(w)
		for part := <-parts; part != "end"; part = <-parts {
			for _, half := range []string{part[:len(part)/2], part[len(part)/2:]} {
				if n, err := io.WriteString(w, half); n != len(half) || err != nil {
					t.Errorf("%d of %d: %v", n, len(half), err)
				}
			}
			if err := out.Flush(); err != nil {
				t.Error(err)
			}
		}
		_, _ = io.WriteString(w, "the rest") // is not flushed
	}, func(c *Config) { c.Endless = func(path string) bool { return path == "/parts" } })
	c := s.dial(t)
	for range 2 {
		c.send(get("/before"))
		c.expect(200, "GET /before a ")
		c.send(get("/parts"))
		parts <- ""
		r, err := http.ReadResponse(c.in, nil)
		if err != nil || r.StatusCode != 200 || r.ContentLength != -1 {
			t.Fatal(r, err)
		}
		for _, part := range []string{"one", "t\r\nwo", strings.Repeat("three ", 1<<18), "4"} {
			parts <- part
			got := make([]byte, len(part))
			if _, err := io.ReadFull(r.Body, got); err != nil || string(got) != part {
				t.Fatalf("%.40q and not %.40q: %v", got, part, err)
			}
		}
		parts <- "end"
		if rest, err := io.ReadAll(r.Body); err != nil || string(rest) != "the rest" {
			t.Fatalf("%q, %v", rest, err)
		}
	}
	if n := s.rest.Load(); n != 0 {
		t.Errorf("net/http answered %d", n)
	}
}

// TestAnAnswerWithALengthIsFlushed as it is, and one that has no body has none.
func TestAnAnswerWithALengthIsFlushed(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNoContent)
		} else {
			w.Header().Set("Content-Length", "6")
			_, _ = io.WriteString(w, "abc")
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		if r.URL.Path != "/none" {
			_, _ = io.WriteString(w, "def")
		}
	})
	c := s.dial(t)
	for range 2 {
		c.send(get("/"))
		if r := c.expect(200, "abcdef"); r.TransferEncoding != nil {
			t.Error(r.TransferEncoding)
		}
		c.send(get("/none"))
		c.expect(204, "")
	}
}

// TestAClientLeavesAnEndlessAnswer closes its connection, or its side of it, or sends more.
func TestAClientLeavesAnEndlessAnswer(t *testing.T) {
	left, more := make(chan struct{}, 1), make(chan struct{})
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			echo(w, r)
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			left <- struct{}{}
		case <-more:
		}
	}, func(c *Config) { c.Endless = func(path string) bool { return path == "/endless" } })
	begin := func() *client {
		c := s.dial(t)
		c.send(get("/endless"))
		if r, err := http.ReadResponse(c.in, nil); err != nil || r.StatusCode != 200 {
			t.Fatal(r, err)
		}
		return c
	}
	c := begin()
	_ = c.Close()
	<-left
	c = begin()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-left
	c = begin()
	if err := c.Conn.(*net.TCPConn).SetLinger(0); err != nil { // a reset
		t.Fatal(err)
	}
	_ = c.Close()
	<-left
	c = begin()
	c.send(get("/next"))
	more <- struct{}{}
	end := []byte("0\r\n\r\n")
	if got := make([]byte, len(end)); !readsAs(c.in, got, end) {
		t.Errorf("the answer ends with %q", got)
	}
	c.expect(200, "GET /next a ")
}

func readsAs(in io.Reader, got, want []byte) bool {
	_, err := io.ReadFull(in, got)
	return err == nil && bytes.Equal(got, want)
}

// TestAPartThatNobodyTakes ends the answer at the deadline of the part, and a part that was
// taken leaves none.
func TestAPartThatNobodyTakes(t *testing.T) {
	failed := make(chan error)
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		_ = out.SetWriteDeadline(time.Now().Add(time.Millisecond))
		err := out.Flush()
		for n := 0; err == nil && n < 1000; n++ { // what the system buffers is taken
			_ = out.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			_, _ = w.Write(make([]byte, 1<<20))
			err = out.Flush()
		}
		failed <- err
	}, func(c *Config) { c.Endless = func(string) bool { return true } })
	c := s.dial(t)
	c.send(get("/"))
	if err := <-failed; err == nil {
		t.Error("a client that reads nothing has taken all")
	}
	<-s.closed
}
