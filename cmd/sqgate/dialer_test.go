package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/s3test"
)

// TestDialer reaches S3 from a network of sqgate's own. The process that connects does so
// for sqgate alone, and ends with it.
func TestDialer(t *testing.T) {
	t.Parallel()
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
	socket := filepath.Join(g.dir, "state", ".dialer")
	if n := len(processesWith("cmdline", "\x00"+socket+"\x00")); n != 1 {
		t.Fatalf("there are %d dialers", n)
	}
	u := strings.TrimPrefix(server.URL[strings.Index(server.URL, "http://"):], "http://")
	if c, err := dialThrough(socket)(t.Context(), "tcp", u); err == nil || !strings.Contains(err.Error(), "for its sqgate, and not for process") {
		t.Errorf("the dialer connects for another process: %v, %v", c, err)
	}
	g.kill()
	eventually(t, "the dialer ends with sqgate", func() bool { return len(processesWith("cmdline", "\x00"+socket+"\x00")) == 0 })
}

// TestDialerAnswers asks for what is allowed, and for what is not.
func TestDialerAnswers(t *testing.T) {
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	here := open.Addr().String()
	_, port, _ := net.SplitHostPort(here)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	d := &dialer{reaches: func(address string) bool { return address == here || address == nobody }, only: os.Getpid()}
	if err := d.webhooks.Set("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	serve := func(d *dialer) (socket string) {
		socket = filepath.Join(t.TempDir(), "dialer")
		l, err := listenUnix(socket)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); d.serve(l) }()
		t.Cleanup(func() { _ = l.Close(); <-ended })
		return socket
	}
	socket := serve(d)
	for _, test := range []struct{ line, says string }{
		{here, ""},
		{nobody, "refused"},
		{"127.0.0.1:1", "and not to"},
		{"localhost:" + port, "and not to"},
		{webhookWord + here, ""},
		{plainWebhookWord + "localhost:" + port, ""},
		{plainWebhookWord + "127.0.0.2:" + port, "--webhook-allow does not name it"},
		{webhookWord + "[::1]:" + port, "--webhook-allow does not name it"},
		{webhookWord, "missing"},
	} {
		c, err := askDialer(t.Context(), socket, test.line)
		if err == nil {
			_, to, _ := net.SplitHostPort(c.RemoteAddr().String())
			if to != port {
				t.Errorf("%q leads to %v", test.line, c.RemoteAddr())
			}
			_ = c.Close() // nothing was sent
		}
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%q: %v, want %q", test.line, err, test.says)
		}
	}
	forAnother := *d
	forAnother.only++
	if _, err := askDialer(t.Context(), serve(&forAnother), here); err == nil || !strings.Contains(err.Error(), "and not for process") {
		t.Errorf("another process: %v", err)
	}
}
