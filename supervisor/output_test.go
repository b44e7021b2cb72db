package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOutputIsKeptAndLogged(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	l := mustLease(t, s, dir)
	defer l.Release()
	said := strings.Join(s.Lines(dir), "\n")
	if !strings.Contains(said, "listening on port") || strings.Contains(said, l.Key()) {
		t.Errorf("lines: %q", said)
	}
	file, err := os.ReadFile(s.logs.name(dir))
	if err != nil || !strings.Contains(string(file), "listening on port") {
		t.Errorf("log %s: %q, %v", filepath.Base(s.logs.name(dir)), file, err)
	}
}

// TestALogThatIsNoFile keeps nobody waiting: neither the child, nor whoever stops it.
func TestALogThatIsNoFile(t *testing.T) {
	var said bytes.Buffer
	s, dir := newSupervisor(t, func(c *Config) { c.Stderr = &said }), dataDir(t)
	if err := unix.Mkfifo(s.logs.name(dir), 0o600); err != nil {
		t.Fatal(err)
	}
	l := mustLease(t, s, dir)
	l.Release()
	if !strings.Contains(strings.Join(s.Lines(dir), "\n"), "listening on port") {
		t.Error("nothing is kept in memory")
	}
	if err := s.Stop(soon(t), dir, "test"); err != nil {
		t.Error(err)
	}
	if !strings.Contains(said.String(), s.logs.name(dir)) {
		t.Errorf("the operator is told %q", said.String())
	}
}

func TestOutputIsBounded(t *testing.T) {
	ofSlot := &lastLines{maxLines: keptLines, maxBytes: keptBytes}
	o := newOutput("SECRET", ofSlot, func(string) {})
	for range 1000 {
		fmt.Fprintf(o, "%s SECRET\nshort\n", strings.Repeat("x", 3*lineBytes))
	}
	size := 0
	for _, line := range ofSlot.last(keptLines) {
		size += len(line)
		if len(line) > lineBytes || strings.Contains(line, "SECRET") {
			t.Fatalf("line of %d bytes", len(line))
		}
	}
	if size > keptBytes || size < keptBytes/2 {
		t.Errorf("%d bytes kept", size)
	}
}
