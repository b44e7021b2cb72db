package http1

import (
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// TestAnIdleConnectionIsClosed unless a request has come that nobody has read yet.
func TestAnIdleConnectionIsClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, request := range []string{"", "POST"} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		c := &conn{tcp: server.(*net.TCPConn)}
		if _, err := io.WriteString(client, request); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); c.hasUnread() != (request != ""); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%q has not come", request)
			}
		}
		c.closeIdle()
		_ = server.SetReadDeadline(time.Now().Add(time.Minute)) // a TCP connection takes deadlines
		if request == "" {
			if _, err := server.Read(make([]byte, 8)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("an idle one: %v", err)
			}
			continue
		}
		b := make([]byte, 8)
		if n, err := server.Read(b); string(b[:n]) != request || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
	}
}
