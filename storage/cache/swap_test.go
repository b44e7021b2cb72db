package cache

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// TestAFileIsSwappedBeforeItIsOpened swaps a phext's file after it was looked
// at. A FIFO that were opened as a file is would never be read to its end.
func TestAFileIsSwappedBeforeItIsOpened(t *testing.T) {
	for name, swap := range map[string]struct {
		in   func(path string) error
		want error
	}{
		"FIFO": {func(path string) error { return unix.Mkfifo(path, 0o600) }, fsutil.ErrNotRegular},
		"link": {func(path string) error { return os.Symlink("secret", path) }, fsutil.ErrLink},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "n.phext")
			put(t, path, "text")
			put(t, filepath.Join(dir, "secret"), "text")
			c := New(1<<20, func(string) *memlimit.Reservation {
				if err := errors.Join(os.Remove(path), swap.in(path)); err != nil {
					t.Error(err)
				}
				return memlimit.Reserve()
			})
			if v, err := c.Read(path); !errors.Is(err, swap.want) {
				t.Errorf("%+v, %v; want %v", v, err, swap.want)
			}
		})
	}
}
