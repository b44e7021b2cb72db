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

// TestALogThatIsNoFile keeps nobody waiting: neither the child, nor whoever stops it. Nothing is
// written to a file that has another name, too.
func TestALogThatIsNoFile(t *testing.T) {
	other := filepath.Join(t.TempDir(), "tenants.json")
	if err := os.WriteFile(other, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(path string) error{
		"a FIFO":                 func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a link to another file": func(path string) error { return os.Symlink(other, path) },
		"a link to nothing":      func(path string) error { return os.Symlink(other+".none", path) },
		"a hard link":            func(path string) error { return os.Link(other, path) },
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			s, dir := newSupervisor(t, func(c *Config) { c.Stderr = &said }), dataDir(t)
			if err := put(s.logs.name(dir)); err != nil {
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
			if text, err := os.ReadFile(other); err != nil || string(text) != "{}" {
				t.Errorf("the other file has %q, %v", text, err)
			}
			if _, err := os.Stat(other + ".none"); err == nil {
				t.Error("what the link leads to was made")
			}
		})
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
