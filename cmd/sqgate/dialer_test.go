package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/s3test"
)

// TestDialer reaches S3 from a network of sqgate's own. The process that connects does so
// to the bucket's server alone, and ends with sqgate.
func TestDialer(t *testing.T) {
	server := s3test.Start(t)
	g := newGate(t, builtin, "will")
	g.asSomebody()
	g.makeDataDir("will")
	g.args = []string{"--bucket", server.URL}
	g.start()
	if !g.inOwnNetwork() {
		t.Fatal("sqgate has no network of its own")
	}
	g.must("will", "POST", at("update", "n", origin), "text", 200)
	socket := filepath.Join(g.dir, "state", "bucket", ".dialer")
	if n := len(processesWith("\x00" + socket + "\x00")); n != 1 {
		t.Fatalf("there are %d dialers", n)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := dialThrough(socket)
	if c, err := dial(t.Context(), "tcp", l.Addr().String()); err == nil || !strings.Contains(err.Error(), "and not to") {
		t.Errorf("the dialer connects to anybody: %v, %v", c, err)
	}
	u := strings.TrimPrefix(server.URL[strings.Index(server.URL, "http://"):], "http://")
	c, err := dial(t.Context(), "tcp", u)
	if err != nil || c.RemoteAddr().String() != u {
		t.Fatalf("%v, %v", c, err)
	}
	_ = c.Close() // nothing was sent
	server.Kill()
	if _, err := dial(t.Context(), "tcp", u); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a server that does not run: %v", err)
	}
	g.kill()
	eventually(t, "the dialer ends with sqgate", func() bool { return len(processesWith("\x00"+socket+"\x00")) == 0 })
}
