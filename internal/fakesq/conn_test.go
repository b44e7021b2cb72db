package fakesq

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTimeouts pauses between reads: each has 32 s, however long all of them
// take together.
func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause time.Duration
		want  string
	}{
		{"slow", ioTimeout - time.Second, ok(Release060)},
		{"silent", ioTimeout + time.Second, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				server, client := New(Config{Release: Release060, Log: &log}), dialPipe()
				go func() { server.thread(timeoutConn{client.far}, 7); client.far.Close() }()
				for _, part := range []string{"GET /api/v2/ver", "sion HTTP/1.1\r\n", "\r\n"} {
					_, _ = io.WriteString(client.near, part) // fails once the server has given up
					if part != "\r\n" {
						time.Sleep(c.pause)
					}
				}
				got, err := io.ReadAll(client.near)
				if string(got) != c.want || err != nil {
					t.Errorf("answered %q, %v", got, err)
				}
				if gaveUp := strings.Contains(log.String(), "[#7] read error"); gaveUp != (c.want == "") {
					t.Errorf("logged %q", log.String())
				}
			})
		})
	}
}

type pipeEnds struct{ near, far net.Conn }

func dialPipe() pipeEnds {
	near, far := net.Pipe()
	return pipeEnds{near, far}
}

// TestTooManyConnections fills the server with idle connections.
func TestTooManyConnections(t *testing.T) {
	t.Chdir(t.TempDir())
	addr := startStandIn(t, Config{Release: Release060})
	idle := make([]net.Conn, maxConnections)
	for i := range idle {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle[i] = conn
	}
	const full = "HTTP/1.1 503 Service Unavailable\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 45\r\n\r\nService Unavailable: connection limit reached"
	conn, err := net.Dial("tcp", addr) // accepted after all the others
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testTimeout)) // a TCP connection has deadlines
	if got, err := io.ReadAll(conn); string(got) != full || err != nil {
		t.Errorf("one too many got %q, %v", got, err)
	}
	if _, err := io.WriteString(idle[0], "GET /api/v2/version HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(idle[0]); string(got) != ok(Release060) || err != nil {
		t.Errorf("the first got %q, %v", got, err)
	}
	got := string(exchange(t, addr, []byte("GET /api/v2/status HTTP/1.1\r\n\r\n")))
	if !strings.Contains(got, "Connection ID: 513\n") { // the one that was turned away has no number
		t.Errorf("the next got %q", got)
	}
}
