package supervisor

import (
	"bytes"
	"errors"
	"io/fs"
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

// TestAChildKeepsItsDirectory puts another one in its place, as a disk that is unmounted
// leaves the mount point. The child never writes there, and the next lease has another one.
func TestAChildKeepsItsDirectory(t *testing.T) {
	for _, unconfined := range []bool{false, true} {
		s, dir := newSupervisor(t, func(c *Config) { c.Unconfined = unconfined }), dataDir(t)
		update := func(l *Lease, text string) {
			t.Helper()
			if _, err := call(l.Addr(), l.Key(), "update", text, "p", "n", "c", "1.1.1/1.1.1/1.1.1"); err != nil {
				t.Fatal(err)
			}
		}
		wantText := func(dir, want string) {
			t.Helper()
			if text, _ := os.ReadFile(filepath.Join(dir, "n.phext")); string(text) != want {
				t.Errorf("unconfined %v: %s holds %q, want %q", unconfined, dir, text, want)
			}
		}
		first := mustLease(t, s, dir)
		if err := errors.Join(os.Rename(dir, dir+".aside"), os.Mkdir(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
		update(first, "first")
		wantText(dir, "")
		wantText(dir+".aside", "first")
		first.Release()
		second := mustLease(t, s, dir)
		update(second, "second")
		wantText(dir, "second")
		wantText(dir+".aside", "first")
		second.Release()
	}
}

// TestADirectoryThatIsRefused gets no child, is not made, and does not count as a failure.
func TestADirectoryThatIsRefused(t *testing.T) {
	refusal := errors.New("its disk is not mounted")
	refused := true
	s, dir := newSupervisor(t, func(c *Config) {
		c.CheckDir = func(_, at string) error {
			if _, err := os.Stat(at); err == nil || refused {
				return refusal
			}
			return nil
		}
	}), dataDir(t)
	for range 2 {
		if _, err := s.Lease(soon(t), dir); !errors.Is(err, refusal) {
			t.Errorf("before it is there: %v", err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	refused = false // but what is opened then
	if _, err := s.Lease(soon(t), dir); !errors.Is(err, refusal) {
		t.Errorf("when it was opened: %v", err)
	}
	if list := s.Children(); len(list) > 0 {
		t.Errorf("%+v", list)
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
