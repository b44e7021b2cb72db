package writer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/cache"
)

// TestVerifyOpensOnlyFiles has a FIFO or a link in the place of the file that SQ
// has written. A FIFO that were opened as a file is would hang the write.
func TestVerifyOpensOnlyFiles(t *testing.T) {
	for name, swap := range map[string]func(path string) error{
		"FIFO": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"link": func(path string) error { return os.Symlink("secret", path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "n.phext")
			v := cache.Missing().With(phext.Origin(), "text")
			if err := errors.Join(os.WriteFile(filepath.Join(dir, "secret"), []byte("text"), 0o600), swap(path)); err != nil {
				t.Fatal(err)
			}
			if id, same, err := sameFile(nil)(path, v, nil); same || !errors.Is(err, fsutil.ErrNotRegular) {
				t.Errorf("%v %v %v", id, same, err)
			}
			next := v.With(phext.Origin(), "")
			second := phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 2}
			if err := storeNames(nil)(path, v, next.With(second, "name"), second); !errors.Is(err, fsutil.ErrNotRegular) {
				t.Errorf("names: %v", err)
			}
			if text, err := os.ReadFile(filepath.Join(dir, "secret")); string(text) != "text" || err != nil {
				t.Errorf("the target of the link: %q %v", text, err)
			}
		})
	}
}
