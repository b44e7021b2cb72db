package supervisor

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Children are started in the sandbox unless the configuration says otherwise.
func TestChildrenAreConfined(t *testing.T) {
	for _, unconfined := range []bool{false, true} {
		var log bytes.Buffer
		s, dir := newSupervisor(t, func(c *Config) {
			c.Command, c.Unconfined = self("peeks"), unconfined
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		}), dataDir(t)
		count := strings.Count(log.String(), "children are not confined:")
		if !unconfined && count > 0 {
			t.Skip("no Landlock here")
		}
		if unconfined && count != 1 {
			t.Errorf("log: %s", log.String())
		}
		mustLease(t, s, dir).Release()
		if could := slices.Contains(s.Lines(dir), "read /etc/passwd"); could != unconfined {
			t.Errorf("unconfined %v, output %q", unconfined, s.Lines(dir))
		}
	}
}

// The data directory may not exist yet, and its path may contain a link.
func TestConfinedInAnyDirectory(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "disk", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("disk", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(root, "new", "data"), filepath.Join(root, "link", "data"), filepath.Join(root, "link", "new")} {
		s := newSupervisor(t, nil)
		l := mustLease(t, s, dir)
		const scroll = "1.1.1/1.1.1/1.1.1"
		if _, err := call(l.Addr(), l.Key(), "update", "text", "p", "notes", "c", scroll); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "notes.phext")); err != nil || string(text) != "text" {
			t.Errorf("%s has %q, %v", dir, text, err)
		}
		l.Release()
	}
}
