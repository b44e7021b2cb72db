package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// backend serves each connection with serve, and closes it behind that. It
// returns its address; everything has ended when the test has.
func backend(t testing.TB, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String()
}

// answering reads a request and answers text, whatever was asked.
func answering(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(c, text)
		}
	}
}

func wireRequest(ctx context.Context, addr string, body []byte) *http.Request {
	r := &http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: addr, Path: "/api/v2/select", RawQuery: "p=a%20b"},
		Host: "sq", Header: http.Header{"Authorization": {"Bearer k"}}}
	if body != nil {
		r.Method, r.ContentLength, r.Body = "POST", int64(len(body)), io.NopCloser(bytes.NewReader(body))
	}
	return r.WithContext(ctx)
}

func whole(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestWireAnswers(t *testing.T) {
	long := strings.Repeat("x", 200000)
	for _, c := range []struct {
		name, answer string
		body         string
		err          error // nil: it is understood
	}{
		{"as SQ answers", "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nhi", "hi", nil},
		{"an empty body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", nil},
		{"a body larger than the buffer", "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + long, long, nil},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", nil},
		{"more than was announced", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, and then some", "hi", nil},
		{"a head of 60 KiB", "HTTP/1.1 200 OK\r\nX: " + long[:60000] + "\r\nContent-Length: 2\r\n\r\nhi", "hi", nil},
		{"a head of 70 KiB", "HTTP/1.1 200 OK\r\nX: " + long[:70000] + "\r\nContent-Length: 2\r\n\r\nhi", "", errGarbled},
		{"nothing", "", "", io.ErrUnexpectedEOF},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-Le", "", io.ErrUnexpectedEOF},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "", io.ErrUnexpectedEOF},
		{"no Content-Length", "HTTP/1.1 200 OK\r\n\r\nhi", "", errGarbled},
		{"two of them", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "", errGarbled},
		{"a negative one", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", "", errGarbled},
		{"a list as one", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", "", errGarbled},
		{"one with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", "", errGarbled},
		{"one past what a number can be", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nhi", "", errGarbled},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", "", errGarbled},
		{"a folded header", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi", "", errGarbled},
		{"a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi", "", errGarbled},
		{"a bare line end", "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nhi", "", errGarbled},
		{"no header", "HTTP/1.1 200 OK\r\nhello\r\n\r\n", "", errGarbled},
		{"an interim answer", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", errGarbled},
		{"another protocol", "SSH-2.0-OpenSSH\r\n\r\n", "", errGarbled},
		{"another version", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "", errGarbled},
		{"a status that is none", "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", "", errGarbled},
	} {
		addr := backend(t, answering(c.answer))
		body, err := whole(newWire(time.Minute).RoundTrip(wireRequest(t.Context(), addr, nil)))
		if !errors.Is(err, c.err) || err == nil && body != c.body {
			t.Errorf("%s: %d bytes, %v", c.name, len(body), err)
		}
	}
}

func TestWireRequest(t *testing.T) {
	type seen struct {
		request *http.Request
		body    []byte
		err     error
	}
	got := make(chan seen, 1)
	addr := backend(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		s := seen{request: r, err: err}
		if err == nil {
			s.body, s.err = io.ReadAll(r.Body)
		}
		got <- s
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	for _, size := range []int{-1, 0, 1, smallBody, smallBody + 1, 5 << 20} {
		var body []byte
		if size > 0 {
			body = bytes.Repeat([]byte{'b'}, size)
		}
		r := wireRequest(t.Context(), addr, body)
		if size == 0 {
			r.Method, r.Body = "POST", http.NoBody
		}
		if _, err := whole(newWire(0).RoundTrip(r)); err != nil {
			t.Fatal(size, err)
		}
		s := <-got
		if s.err != nil || s.request.Method != r.Method || s.request.URL.String() != "/api/v2/select?p=a%20b" ||
			s.request.Host != "sq" || s.request.Header.Get("Authorization") != "Bearer k" || !bytes.Equal(s.body, body) {
			t.Errorf("%d: %+v", size, s)
		}
		if want := max(size, 0); s.request.ContentLength != int64(want) || size >= 0 && s.request.Header.Get("Content-Length") != strconv.Itoa(want) {
			t.Errorf("%d: Content-Length %d", size, s.request.ContentLength)
		}
	}
}

// closeable is a body that notes whether it was closed, and comes in pieces.
type closeable struct {
	io.Reader
	closed bool
}

func (c *closeable) Close() error { c.closed = true; return nil }

func TestWireSendsNothingThatIsNotWhole(t *testing.T) {
	came := make(chan []byte, 1)
	addr := backend(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c) // a reset is what is expected
		came <- b
	})
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		dials  bool
	}{
		{"a body that stops short", func(r *http.Request) { r.ContentLength = 10 }, true},
		{"a body that goes on", func(r *http.Request) { r.ContentLength = 3 }, true},
		{"a body without a length", func(r *http.Request) { r.ContentLength = -1 }, false},
		{"a body of length 0", func(r *http.Request) { r.ContentLength = 0 }, false},
		{"another method", func(r *http.Request) { r.Method = "DELETE" }, false},
		{"a header in a value", func(r *http.Request) { r.Header.Set("X", "a\r\nAuthorization: b") }, false},
		{"a header in a name", func(r *http.Request) { r.Header["X: a\r\nY"] = []string{"b"} }, false},
		{"a header in the query", func(r *http.Request) { r.URL.RawQuery = "p=a\r\nX: y" }, false},
		{"a space in the query", func(r *http.Request) { r.URL.RawQuery = "p=a HTTP/1.1" }, false},
	} {
		body := &closeable{Reader: io.MultiReader(strings.NewReader("ab"), strings.NewReader("cd"))}
		r := wireRequest(t.Context(), addr, []byte("abcd"))
		r.Body = body
		c.change(r)
		if _, err := newWire(0).RoundTrip(r); !errors.Is(err, errUnsendable) || !body.closed {
			t.Errorf("%s: %v, closed %v", c.name, err, body.closed)
		}
		if c.dials {
			if b := <-came; len(b) > 0 {
				t.Errorf("%s: %q was sent", c.name, b)
			}
		}
	}
}

func TestWireDialError(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	for _, addr := range []string{free, "localhost:1", "nowhere"} {
		_, err := newWire(0).RoundTrip(wireRequest(t.Context(), addr, nil))
		var dial *net.OpError
		if !errors.As(err, &dial) || dial.Op != "dial" {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// silent takes a request and says nothing until the other side goes. It tells
// began when the request has come, and why the reading ended.
func silent(t *testing.T, text string) (addr string, began chan struct{}, ended chan error) {
	began, ended = make(chan struct{}, 1), make(chan error, 1)
	addr = backend(t, func(c *net.TCPConn) {
		if _, err := c.Read(make([]byte, 64<<10)); err != nil {
			return
		}
		_, _ = io.WriteString(c, text)
		began <- struct{}{}
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	return addr, began, ended
}

func TestWireIsCancelled(t *testing.T) {
	for name, text := range map[string]string{
		"before the answer":  "",
		"in the head":        "HTTP/1.1 200 OK\r\nConte",
		"in the body":        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi",
		"in the body, early": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
	} {
		for _, patience := range []time.Duration{0, time.Hour} {
			addr, began, ended := silent(t, text)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-began; cancel() }()
			if _, err := whole(newWire(patience).RoundTrip(wireRequest(ctx, addr, nil))); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
			<-ended
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newWire(0).RoundTrip(wireRequest(ctx, "127.0.0.1:1", nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("before it began: %v", err)
	}
}

func TestWireHasDeadlines(t *testing.T) {
	for name, c := range map[string]struct {
		patience, limit time.Duration
		text            string
		err             error
	}{
		"of the head":                {20 * time.Millisecond, time.Hour, "", nil},
		"of the context":             {time.Hour, 20 * time.Millisecond, "", context.DeadlineExceeded},
		"of the context in the body": {10 * time.Second, 20 * time.Millisecond, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", context.DeadlineExceeded},
	} {
		addr, _, ended := silent(t, c.text)
		ctx, cancel := context.WithTimeout(t.Context(), c.limit)
		_, err := whole(newWire(c.patience).RoundTrip(wireRequest(ctx, addr, nil)))
		cancel()
		if !isTimeout(err) || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
		<-ended
	}
}

// The patience for the head is not one for the body, which may be a large one.
func TestWirePatienceEndsWithTheHead(t *testing.T) {
	const patience = 200 * time.Millisecond
	waited := time.After(2 * patience)
	addr := backend(t, func(c *net.TCPConn) {
		answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")(c)
		<-waited
		_, _ = io.WriteString(c, "hi")
	})
	if body, err := whole(newWire(patience).RoundTrip(wireRequest(t.Context(), addr, nil))); body != "hi" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

// A write that is cut must look like an error to SQ, not like a short body.
func TestWireCutWriteIsAReset(t *testing.T) {
	addr, began, ended := silent(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := newWire(0).RoundTrip(wireRequest(ctx, addr, make([]byte, 1<<20))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("SQ saw %v", err)
	}
}

func TestWireEarlyAnswers(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   int // 0: an error
	}{
		{"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nfull", 503},
		{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfull", 0},
		{"", 0},
	} {
		addr := backend(t, func(conn *net.TCPConn) {
			_, _ = io.WriteString(conn, c.answer)
			_, _ = conn.Read(make([]byte, 1)) // the rest stays unread, so that closing is a reset
		})
		resp, err := newWire(0).RoundTrip(wireRequest(t.Context(), addr, make([]byte, 32<<20)))
		got := 0
		if err == nil {
			got = resp.StatusCode
			_ = resp.Body.Close()
		}
		if got != c.want || c.want == 0 && !hungUp(err) {
			t.Errorf("%q: %d, %v", c.answer, got, err)
		}
	}
}

// A reset is an error like any other, and the request is sent once.
func TestWireNeverRepeats(t *testing.T) {
	asked := make(chan struct{}, 8)
	addr := backend(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		asked <- struct{}{}
		_ = c.SetLinger(0)
	})
	if _, err := newWire(0).RoundTrip(wireRequest(t.Context(), addr, nil)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
	if n := len(asked); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
}

func TestWireBuffersAreNotMixedUp(t *testing.T) {
	addr := backend(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			t.Error(err)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	w := newWire(time.Minute)
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			for j := range 50 {
				text := strings.Repeat(strconv.Itoa(i), 1+997*j)
				body, err := whole(w.RoundTrip(wireRequest(t.Context(), addr, []byte(text))))
				if err != nil || body != text {
					t.Errorf("%d, %d: %d bytes, %v", i, j, len(body), err)
				}
			}
		})
	}
	workers.Wait()
}

// Closing a body while it is read is allowed.
func TestWireCloseWhileReading(t *testing.T) {
	addr, began, ended := silent(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi")
	resp, err := newWire(0).RoundTrip(wireRequest(t.Context(), addr, nil))
	if err != nil {
		t.Fatal(err)
	}
	<-began
	go resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	<-ended
}
