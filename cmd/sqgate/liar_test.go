package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/fakesq"
)

// liar is the name under which the test binary runs as an SQ that spoils a file
// before it acknowledges a write to it. How it does that is in the file lies.txt
// of its data directory: gone or torn.
const liar = "lying-sq"

func lie(args []string) int {
	if len(args) != 6 || args[0] != "host" { // host PORT --key K --data-dir D
		return fakesq.Main(args, os.Stdout, os.Stderr)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:"+args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 101
	}
	c := fakesq.Config{Key: args[3], HasKey: true, DataDir: args[5], Out: os.Stdout, Log: os.Stderr}
	fakesq.New(c).Serve(lyingListener{l, args[5]})
	return 0
}

type lyingListener struct {
	net.Listener
	dir string
}

func (l lyingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return lyingConn{c.(*net.TCPConn), l.dir}, nil
}

type lyingConn struct {
	*net.TCPConn
	dir string
}

func (c lyingConn) Write(b []byte) (int, error) {
	path := filepath.Join(c.dir, "n.phext")
	how, err := os.ReadFile(filepath.Join(c.dir, "lies.txt"))
	switch {
	case err != nil || !bytes.Contains(b, []byte("Updated")):
	case string(how) == "gone":
		err = os.Remove(path)
	case string(how) == "torn":
		err = os.Truncate(path, 3)
	}
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	return c.TCPConn.Write(b)
}

// TestSQThatDoesNotMakeAFile has SQ fail to create a file. From then on sqgate must
// not remove any file of that directory for SQ. A torn write does not have that
// effect.
func TestSQThatDoesNotMakeAFile(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sq := filepath.Join(t.TempDir(), liar)
	if err := os.Symlink(self, sq); err != nil {
		t.Fatal(err)
	}
	g := startGate(t, sq, "will")
	path, lies := filepath.Join(g.dataDir("will"), "n.phext"), filepath.Join(g.dataDir("will"), "lies.txt")
	good := func() { g.must("will", "POST", at("update", "n", origin), "good", 200) }
	spoilt := func(how string) {
		t.Helper()
		if err := os.WriteFile(lies, []byte(how), 0o600); err != nil {
			t.Fatal(err)
		}
		g.must("will", "POST", at("update", "n", origin), "spoilt", 502)
		if err := os.Remove(lies); err != nil {
			t.Fatal(err)
		}
		if got := g.get("will", at("select", "n", origin)); got != "good" {
			t.Errorf("%s: it holds %q", how, got)
		}
		good() // SQ loads the file again first
	}
	good()
	good()
	spoilt("torn")
	if !written(t, path, good) {
		t.Error("after a torn write sqgate does not replace files any more")
	}
	spoilt("gone")
	if written(t, path, good) {
		t.Error("sqgate removed a file for an SQ that fails to create files")
	}
	spoilt("gone")
	if n := strings.Count(g.log.String(), "did not make a file"); n != 1 {
		t.Errorf("%d lines say so", n)
	}
}
