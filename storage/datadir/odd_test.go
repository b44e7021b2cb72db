package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestAMarkThatIsNoFile says nothing of the directory, and keeps nobody waiting.
func TestAMarkThatIsNoFile(t *testing.T) {
	for name, put := range map[string]func(mark string) error{
		"a FIFO": func(mark string) error { return unix.Mkfifo(mark, 0o600) },
		"a link": func(mark string) error { return os.Symlink("/dev/zero", mark) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.keepMarks()
			w.check(os.WriteFile(filepath.Join(w.dir.Path, "n.phext"), []byte("text"), 0o600))
			w.check(os.Mkdir(w.MarkDir, 0o700))
			w.check(put(w.dir.markFiles()[0]))
			for range 2 {
				if err := w.dir.Recover(t.Context()); !errors.Is(err, fsutil.ErrNotRegular) {
					t.Errorf("%v", err)
				}
			}
			w.check(os.Remove(w.dir.markFiles()[0]))
			w.check(w.dir.Recover(t.Context()))
			w.check(put(w.dir.markFiles()[0]))
			w.dir.MarkWritten(w.dir.Path) // which puts it right
			w.check(w.dir.CheckPresent())
		})
	}
}

// keepMarks is a start with a directory for marks.
