package http1

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAnswers(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 1<<16)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Split", "a\r\nX-Evil: b")
		switch r.URL.Path {
		case "/large":
			h.Set("Content-Length", strconv.Itoa(len(large)))
			_, _ = io.WriteString(w, large[:len(large)/2])
			_, _ = w.Write([]byte(large[len(large)/2:]))
		case "/unannounced":
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, large)
		case "/not-modified":
			h.Set("Content-Length", "3")
			w.WriteHeader(http.StatusNotModified)
			if _, err := w.Write([]byte("abc")); err != http.ErrBodyNotAllowed {
				t.Errorf("a body: %v", err)
			}
		case "/last":
			h.Set("Connection", "close")
		case "/short":
			h.Set("Content-Length", "4")
			_, _ = io.WriteString(w, "abc")
		case "/long":
			h.Set("Content-Length", "2")
			if _, err := io.WriteString(w, "abc"); err != http.ErrContentLength {
				t.Errorf("too long a body: %v", err)
			}
		}
	})
	c := s.dial(t)
	for range 2 {
		c.send(get("/large"))
		c.expect(200, large)
		c.send(get("/unannounced"))
		if r := c.expect(418, large); r.Header.Get("X-Evil") != "" || r.ContentLength != int64(len(large)) {
			t.Errorf("%+v", r)
		}
		c.send(get("/not-modified"))
		c.expect(304, "")
		c.send(get("/nothing"))
		c.expect(200, "")
	}
	c.send(get("/last"))
	c.expect(200, "")
	c.expectEnd()
	c = s.dial(t)
	c.send(get("/short"))
	if b, err := io.ReadAll(c.in); err != nil || !strings.HasSuffix(string(b), "\r\n\r\nabc") {
		t.Errorf("%q, %v", b, err)
	}
	c = s.dial(t)
	c.send(get("/long"))
	if b, _ := io.ReadAll(c.in); strings.Contains(string(b), "abc") {
		t.Errorf("%q", b)
	}
}

func TestAPanicEndsOneConnection(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("at the disco")
		}
		echo(w, r)
	})
	c := s.dial(t)
	c.send(get("/panic"))
	c.expectEnd()
	c = s.dial(t)
	c.send(get("/a"))
	c.expect(200, "GET /a a ")
	s.stop(t)
	if !strings.Contains(s.log.String(), "at the disco") {
		t.Errorf("log: %s", &s.log)
	}
}

func TestAClientThatDoesNotReadIsGivenUp(t *testing.T) {
	failed := make(chan error, 1)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		body := make([]byte, 64<<20) // more than the buffers of both ends
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		_, err := w.Write(body)
		failed <- err
	})
	s.dial(t).send(get("/a"))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestADeadlineIsThatOfOneAnswer has the next one come when it has passed.
func TestADeadlineIsThatOfOneAnswer(t *testing.T) {
	const timeout = time.Second // ample for the large answer, which its client takes
	large := strings.Repeat("x", 4*smallAnswer)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout))
			w.Header().Set("Content-Length", strconv.Itoa(len(large)))
			_, _ = io.WriteString(w, large)
			return
		}
		<-time.After(timeout) // what was a deadline is past
		_, _ = io.WriteString(w, "small")
	})
	c := s.dial(t)
	c.send(get("/large"))
	c.expect(200, large)
	c.send(get("/small"))
	c.expect(200, "small")
}

func TestAnAnswerWithoutALengthIsGivenUpToo(t *testing.T) {
	body := make([]byte, 64<<20)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
	})
	c := s.dial(t)
	c.send(get("/a"))
	<-s.closed
	if n, _ := io.Copy(io.Discard, c.in); n >= int64(len(body)) {
		t.Errorf("%d bytes came", n)
	}
}
