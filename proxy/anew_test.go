package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// recorded reads one request, and gives its bytes.
func recorded(t *testing.T, c *net.TCPConn) string {
	var all strings.Builder
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, &all)))
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	if err != nil {
		t.Error(err)
	}
	return all.String()
}

// TestWireHoldsTheLastByteBack compares what a backend gets before and after
// release with what it gets of the same request otherwise.
func TestWireHoldsTheLastByteBack(t *testing.T) {
	for name, body := range map[string][]byte{
		"no body": nil, "one byte": []byte("x"), "small": []byte("hello"), "large": []byte(strings.Repeat("0123456789", 10000)),
	} {
		w := newWire(time.Minute)
		plain := make(chan string, 1)
		addr := backend(t, func(c *net.TCPConn) {
			plain <- recorded(t, c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})
		if _, err := whole(w.RoundTrip(wireRequest(t.Context(), addr, body))); err != nil {
			t.Fatal(err)
		}
		want := <-plain
		got := make(chan string, 1)
		addr = backend(t, func(c *net.TCPConn) {
			b := make([]byte, len(want)) // ReadFull says what is missing
			_, _ = io.ReadFull(c, b[:len(want)-1])
			got <- string(b[:len(want)-1])
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if n, err := c.Read(b[len(want)-1:]); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %d bytes came that were held back, %v", name, n, err)
			}
			got <- ""
			_ = c.SetReadDeadline(time.Time{})
			_, _ = io.ReadFull(c, b[len(want)-1:])
			got <- string(b[len(want)-1:])
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
		})
		held, err := w.send(t.Context(), wireRequest(t.Context(), addr, body), w.heldMutation())
		if err != nil {
			t.Fatal(err)
		}
		if before := <-got; before != want[:len(want)-1] {
			t.Errorf("%s: what came is not what comes otherwise", name)
		}
		<-got
		if err := held.release(); err != nil {
			t.Fatal(err)
		}
		if last := <-got; last != want[len(want)-1:] {
			t.Errorf("%s: %q came last", name, last)
		}
		if text, err := whole(w.answer(held)); err != nil || text != "hi" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		held.end()
	}
}

// lineWriter is a log that somebody reads line by line.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) { w <- string(b); return len(b), nil }

// TestWhatIsHeldAndEndedIsForgotten has the stand-in get all but the last byte
// of an update, of a file that is not there any more.
func TestWhatIsHeldAndEndedIsForgotten(t *testing.T) {
	lines := make(lineWriter, 16)
	addr, w := benchSQWith(t, lines), newWire(time.Minute)
	ask := func(method, target, body string) *http.Request {
		r := wireRequest(t.Context(), addr, []byte(body))
		if method == "GET" {
			r = wireRequest(t.Context(), addr, nil)
		}
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
		return r
	}
	for _, target := range []string{"/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.1", "/api/v2/insert?p=n&c=1.1.1/1.1.1/1.1.1"} {
		held, err := w.send(t.Context(), ask("POST", target, "must not stand"), w.heldMutation())
		if err != nil {
			t.Fatal(err)
		}
		held.end()
		if line := <-lines; !strings.Contains(line, "read error") {
			t.Fatalf("of a call that was cut off: %s", line)
		}
	}
	if text, err := whole(w.RoundTrip(ask("GET", "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.1", ""))); err != nil || text != "" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAReleaseAfterTheEnd(t *testing.T) {
	addr := backend(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithCancel(t.Context())
	w := newWire(0)
	held, err := w.send(ctx, wireRequest(ctx, addr, []byte("x")), w.heldMutation())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	held.end()
	if err := held.release(); err == nil {
		t.Error("a byte went out on a connection that is closed")
	}
}

// TestWhatCanBeMadeAnew: removing a file must change nothing for anybody.
func TestWhatCanBeMadeAnew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "n.phext")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	again := func() {
		t.Helper()
		must(os.RemoveAll(path))
		must(os.WriteFile(path, []byte("x"), 0o666))
	}
	again()
	if !fsutil.CanBeRecreated(path) {
		t.Fatal("not even a file that was just made")
	}
	for name, change := range map[string]func(){
		"another mode":  func() { must(os.Chmod(path, 0o600)) },
		"a second name": func() { must(os.Link(path, filepath.Join(dir, "b.phext"))) },
		"a link":        func() { must(os.Rename(path, path+".real")); must(os.Symlink(path+".real", path)) },
		"no file":       func() { must(os.Remove(path)) },
		"a directory":   func() { must(os.Remove(path)); must(os.Mkdir(path, 0o777)) },
		"an attribute": func() {
			if unix.Setxattr(path, "user.note", []byte("x"), 0) != nil {
				must(os.Remove(path)) // this file system has none
			}
		},
	} {
		again()
		change()
		if fsutil.CanBeRecreated(path) {
			t.Errorf("%s: it would not be the same", name)
		}
	}
}
