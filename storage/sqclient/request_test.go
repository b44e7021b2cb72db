package sqclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fakesq"
	"mirrorborn.us/sqgate/rewrite"
)

const headOfGet = "GET /api/v2/select?p=a%20b HTTP/1.1\r\n" +
	"Host: sq\r\nUser-Agent: sqgate\r\nConnection: close\r\nAuthorization: Bearer k\r\n\r\n"

func headOfPost(length int) string {
	return "POST /api/v2/update?p=a%20b HTTP/1.1\r\n" +
		"Host: sq\r\nUser-Agent: sqgate\r\nConnection: close\r\nAuthorization: Bearer k\r\n" +
		fmt.Sprintf("Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n", length)
}

// TestRequest compares every byte that SQ gets.
func TestRequest(t *testing.T) {
	got := make(chan string, 1)
	addr := backend(t, func(c *net.TCPConn) {
		got <- recorded(t, c)
		_, _ = io.WriteString(c, empty)
	})
	check := func(name string, out rewrite.Outgoing, want string) {
		t.Run(name, func(t *testing.T) {
			if _, err := do(t.Context(), childAt(t, addr), out); err != nil {
				t.Fatal(err)
			}
			if request := <-got; request != want {
				t.Errorf("%d bytes came, want %d: %.400q", len(request), len(want), request)
			}
		})
	}
	check("GET", get(), headOfGet)
	for _, size := range []int{0, 1, smallBody - 1, smallBody, smallBody + 1, 5 << 20} {
		body := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		check(fmt.Sprintf("POST of %d bytes", size), post(body), headOfPost(size)+string(body))
	}
}

// TestLoad sends SQ the load call of a phext.
func TestLoad(t *testing.T) {
	got := make(chan string, 1)
	addr := backend(t, func(c *net.TCPConn) {
		got <- recorded(t, c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nLoaded")
	})
	head, err := rewrite.ParseHead("GET", "/select", "p=a%20b", rewrite.Tenant{ID: "will"})
	if err != nil {
		t.Fatal(err)
	}
	call, err := head.Call(nil)
	if err != nil {
		t.Fatal(err)
	}
	child := childAt(t, addr)
	if err := child.Load(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(headOfGet, "select?p=a%20b", "load?p=a%20b&c=will.1.1.1/1.1.1/1.1.1", 1)
	if request := <-got; request != want {
		t.Errorf("%q, want %q", request, want)
	}
	wantAllFree(t, child.client)
}

// waiting is how many bytes have come on a connection and were not read.
func waiting(t *testing.T, c *net.TCPConn) (n int) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	if err != nil {
		t.Error(err)
	}
	return n
}

// TestTheLastByteIsHeldBack compares what SQ gets before and after SendRest
// with what it gets of the same request otherwise.
func TestTheLastByteIsHeldBack(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789"), 10000)
	for _, test := range []struct {
		name string
		out  rewrite.Outgoing
		want string
	}{
		{"no body", get(), headOfGet},
		{"an empty body", post(nil), headOfPost(0)},
		{"one byte", post([]byte("x")), headOfPost(1) + "x"},
		{"a small body", post([]byte("hello")), headOfPost(5) + "hello"},
		{"a body that is just small", post(large[:smallBody]), headOfPost(smallBody) + string(large[:smallBody])},
		{"one byte more", post(large[:smallBody+1]), headOfPost(smallBody+1) + string(large[:smallBody+1])},
		{"a large body", post(large), headOfPost(len(large)) + string(large)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, look := make(chan string), make(chan struct{})
			addr := backend(t, func(c *net.TCPConn) {
				b := make([]byte, len(test.want)) // ReadFull says what is missing
				_, _ = io.ReadFull(c, b[:len(b)-1])
				got <- string(b[:len(b)-1])
				<-look // by now all has come that was sent
				if n := waiting(t, c); n > 0 {
					t.Errorf("%d bytes came that were held back", n)
				}
				got <- ""
				_, _ = io.ReadFull(c, b[len(b)-1:])
				got <- string(b[len(b)-1:])
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
			})
			conn, err := childAt(t, addr).Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			sent := make(chan error)
			go func() { sent <- conn.SendHeld(test.out) }()
			if before := <-got; before != test.want[:len(test.want)-1] {
				t.Errorf("what came is not what comes otherwise: %.400q", before)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			look <- struct{}{}
			<-got
			if err := conn.SendRest(); err != nil {
				t.Fatal(err)
			}
			if last := <-got; last != test.want[len(test.want)-1:] {
				t.Errorf("%q came last", last)
			}
			held := conn.child.client.Hold("/data")
			defer held.Release()
			if body, err := conn.Receive(held); err != nil || string(body) != "hi" {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}

// lineWriter is a log that somebody reads line by line.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) { w <- string(b); return len(b), nil }

// standIn is the stand-in for SQ, with its log.
func standIn(t testing.TB, log io.Writer) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sq := fakesq.New(fakesq.Config{Key: childKey, HasKey: true, DataDir: t.TempDir(), Log: log})
	served := make(chan struct{})
	go func() { sq.Serve(l); close(served) }()
	t.Cleanup(func() { l.Close(); <-served })
	return l.Addr().String()
}

// TestWhatIsHeldAndNotSentIsForgotten has SQ get all but the last byte of a
// write: nothing is stored, since the connection is reset and does not end.
func TestWhatIsHeldAndNotSentIsForgotten(t *testing.T) {
	lines := make(lineWriter, 16)
	child := childAt(t, standIn(t, lines))
	for _, path := range []string{"/api/v2/update", "/api/v2/insert"} {
		conn, err := child.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = conn.SendHeld(rewrite.Outgoing{Method: "POST", Path: path, Query: "p=n&c=1.1.1/1.1.1/1.1.1", Body: []byte("must not stand")})
		conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		if line := <-lines; !strings.Contains(line, "read error") {
			t.Fatalf("of a call that was cut off: %s", line)
		}
	}
	text, err := do(t.Context(), child, rewrite.Outgoing{Method: "GET", Path: "/api/v2/select", Query: "p=n&c=1.1.1/1.1.1/1.1.1"})
	if err != nil || text != "" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestSendRestAfterTheEnd(t *testing.T) {
	addr := backend(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := childAt(t, addr).Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SendHeld(post([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	conn.Close()
	if err := conn.SendRest(); err == nil {
		t.Error("a byte went out on a connection that is closed")
	}
}
