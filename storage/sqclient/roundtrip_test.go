package sqclient

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
)

func TestHowALeaseEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		end  string
	}{
		{"well", nil, released},
		{"there was no memory", errNoMemory, released},
		{"SQ did not want it", StatusError(404), released},
		{"that was not our child, or not our key", StatusError(401), failed},
		{"SQ failed", StatusError(500), failed},
		{"another success", StatusError(204), failed},
		{"it was cut", io.ErrUnexpectedEOF, failed},
		{"it was given up", context.Canceled, failed},
		{"it took too long", context.DeadlineExceeded, failed},
		{"nobody was there", ErrUnreached, unreached},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, l := client("127.0.0.1:1")
			child, err := c.Lease(t.Context(), "/data")
			if err != nil {
				t.Fatal(err)
			}
			if child.Generation() != 1 || l.lent[0].dir != "/data" {
				t.Errorf("generation %d of %s", child.Generation(), l.lent[0].dir)
			}
			if test.err != nil {
				test.err = errors.Join(errors.New("around it"), test.err)
			}
			child.End(test.err)
			if l.ends() != test.end {
				t.Errorf("%s, want %s", l.ends(), test.end)
			}
		})
	}
}

func TestNoLease(t *testing.T) {
	c, l := client()
	l.err = errors.New("the supervisor's")
	if child, err := c.Lease(t.Context(), "/data"); child != nil || !errors.Is(err, l.err) {
		t.Errorf("%v", err)
	}
	if _, err := roundTrip(t.Context(), &Reads{Client: c, Dir: "/data"}); !errors.Is(err, l.err) {
		t.Errorf("%v", err)
	}
	wantAllFree(t, c)
}

// roundTrip reads through t what a client's request asks for, and the answer whole.
func roundTrip(ctx context.Context, reads http.RoundTripper) (string, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://sq/api/v2/select?p=a%20b", nil)
	if err != nil {
		return "", err
	}
	resp, err := reads.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// counting answers every request with text, and counts the requests by path.
func counting(t *testing.T, text string) (addr string, paths chan string) {
	paths = make(chan string, 16)
	return backend(t, func(c *net.TCPConn) {
		line, _, _ := strings.Cut(recorded(t, c), "?")
		paths <- strings.TrimPrefix(line, "GET /api/v2/")
		_, _ = io.WriteString(c, text)
	}), paths
}

func seen(paths chan string) string {
	var all []string
	for len(paths) > 0 {
		all = append(all, <-paths)
	}
	return strings.Join(all, " ")
}

const hello = "HTTP/1.1 200 OK\r\nServer: SQ\r\nContent-Length: 5\r\n\r\nhello"

// TestReadsTriesTheNextChildOnce, and only if the first has seen nothing.
func TestReadsTriesTheNextChildOnce(t *testing.T) {
	well, paths := counting(t, hello)
	cut, cutPaths := counting(t, hello[:len(hello)-1])
	angry, angryPaths := counting(t, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
	unwilling, unwillingPaths := counting(t, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
	reset := backend(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		cutPaths <- "select"
		_ = c.SetLinger(0)
	})
	for _, test := range []struct {
		name  string
		addrs []string
		ends  string
		asked string
		err   error // nil: "hello"
	}{
		{"the first is well", []string{well}, released, "select", nil},
		{"the first accepts no connection", []string{refusing(t), well}, unreached + ", " + released, "select", nil},
		{"neither accepts one", []string{refusing(t), refusing(t), well}, unreached + ", " + unreached, "", ErrUnreached},
		{"the answer is cut", []string{cut, well}, failed, "select", io.ErrUnexpectedEOF},
		{"the connection is reset", []string{reset, well}, failed, "select", syscall.ECONNRESET},
		{"SQ fails", []string{angry, well}, failed, "select", StatusError(500)},
		{"SQ refuses", []string{unwilling, well}, released, "select", StatusError(404)},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, l := client(test.addrs...)
			text, err := roundTrip(t.Context(), &Reads{Client: c, Dir: "/data"})
			if !errors.Is(err, test.err) || err == nil && text != "hello" {
				t.Errorf("%q, %v", text, err)
			}
			if l.ends() != test.ends {
				t.Errorf("the children were %s, want %s", l.ends(), test.ends)
			}
			asked := seen(paths) + seen(cutPaths) + seen(angryPaths) + seen(unwillingPaths)
			if asked != test.asked {
				t.Errorf("SQ was asked %q, want %q", asked, test.asked)
			}
			wantAllFree(t, c)
		})
	}
}

func TestReadsReloadsFirst(t *testing.T) {
	reload := &rewrite.Call{Op: rewrite.Select, Phext: "a b"}
	addr, paths := counting(t, hello)
	c, l := client(refusing(t), addr)
	if text, err := roundTrip(t.Context(), &Reads{Client: c, Dir: "/data", Reload: reload}); text != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if asked := seen(paths); asked != "load select" || l.ends() != unreached+", "+released {
		t.Errorf("SQ was asked %q, the children were %s", asked, l.ends())
	}

	// Without the reload, SQ would answer from memory.
	addr, paths = counting(t, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
	c, l = client(addr)
	if text, err := roundTrip(t.Context(), &Reads{Client: c, Dir: "/data", Reload: reload}); !isStatus(err, 500) {
		t.Errorf("%q, %v", text, err)
	}
	if asked := seen(paths); asked != "load" || l.ends() != failed {
		t.Errorf("SQ was asked %q, the children were %s", asked, l.ends())
	}
	wantAllFree(t, c)
}

// TestAReadThatIsSlow says nothing against the child. One that its client gave
// up leaves a child of which it is not known what it does.
func TestAReadThatIsSlow(t *testing.T) {
	addr, _, ended := silent(t, "")
	c, l := client(addr)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := roundTrip(ctx, &Reads{Client: c, Dir: "/data"}); !errors.Is(err, context.DeadlineExceeded) || l.ends() != released {
		t.Errorf("%v, the child was %s", err, l.ends())
	}
	<-ended

	addr, began, ended := silent(t, "")
	c, l = client(addr)
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := roundTrip(ctx, &Reads{Client: c, Dir: "/data"}); !errors.Is(err, context.Canceled) || l.ends() != failed {
		t.Errorf("%v, the child was %s", err, l.ends())
	}
	<-ended
	wantAllFree(t, c)
}

// TestReadsSendsNothingElse of a request than method, path, query and body, and
// returns nothing of SQ's answer but its body.
func TestReadsSendsNothingElse(t *testing.T) {
	got := make(chan string, 1)
	addr := backend(t, func(c *net.TCPConn) {
		got <- recorded(t, c)
		_, _ = io.WriteString(c, hello)
	})
	c, l := client(addr)
	r, err := http.NewRequestWithContext(t.Context(), "POST", "https://evil.example:1/api/v2/update?p=a%20b", strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	r.Header = http.Header{"Authorization": {"Bearer the client's"}, "Cookie": {"a=b"}, "X-Forwarded-For": {"1.2.3.4"}, "Content-Length": {"9"}}
	resp, err := (&Reads{Client: c, Dir: "/data"}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if request := <-got; request != headOfPost(4)+"text" {
		t.Errorf("SQ got %q", request)
	}
	if resp.StatusCode != 200 || len(resp.Header) > 0 || resp.ContentLength != 5 || resp.Request != r {
		t.Errorf("%+v", resp)
	}
	if l.ends() != released {
		t.Errorf("before the client has the answer, the child is %q", l.ends())
	}
	// The memory stays reserved until the answer was taken.
	if c.Hold("/data").Grow(memory - 4) {
		t.Error("the answer's memory was given back before it was taken")
	}
	if text, err := io.ReadAll(resp.Body); string(text) != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if err := errors.Join(resp.Body.Close(), resp.Body.Close()); err != nil {
		t.Error(err)
	}
	wantAllFree(t, c)
}

// brokenBody is a body that cannot be read to its end.
type brokenBody struct{ closed bool }

func (b *brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
func (b *brokenBody) Close() error             { b.closed = true; return nil }

// TestReadsSendsNothingThatIsNotWhole does not even lease a child for it.
func TestReadsSendsNothingThatIsNotWhole(t *testing.T) {
	c, l := client("127.0.0.1:1")
	for name, change := range map[string]func(*http.Request){
		"a header in the query": func(r *http.Request) { r.URL.RawQuery = "p=a\r\nX: y" },
		"a line in the query":   func(r *http.Request) { r.URL.RawQuery = "p=a\nX: y" },
		"a space in the query":  func(r *http.Request) { r.URL.RawQuery = "p=a HTTP/1.1" },
		"a body that is cut":    func(r *http.Request) { r.Method, r.Body = "POST", &brokenBody{} },
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://sq/api/v2/select", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		body, _ := r.Body.(*brokenBody)
		if _, err := (&Reads{Client: c, Dir: "/data"}).RoundTrip(r); err == nil || errors.Is(err, ErrUnreached) || len(l.lent) > 0 {
			t.Errorf("%s: %v, %d children were leased", name, err, len(l.lent))
		}
		if body != nil && !body.closed {
			t.Errorf("%s: it was not closed", name)
		}
	}
	wantAllFree(t, c)
}

// TestReadsHasALimit of its own, whatever the caller's.
func TestReadsHasALimit(t *testing.T) {
	var left time.Duration
	stop := errors.New("stop")
	c := New(func(ctx context.Context, _ string) (Lease, error) {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil, stop
	}, func(string) *memlimit.Reservation { return memlimit.Reserve() })
	if _, err := roundTrip(t.Context(), &Reads{Client: c}); !errors.Is(err, stop) || left <= Timeout-time.Minute || left > Timeout {
		t.Errorf("%v, %v are left", err, left)
	}
}
