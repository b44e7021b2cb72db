package fsutil

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCheckWritable looks at the directory, or at the one in which it would be made.
func TestCheckWritable(t *testing.T) {
	kernel := map[string]error{"/": unix.EROFS, "/srv": unix.EROFS, "/srv/ours": nil, "/srv/theirs": unix.EACCES}
	access := func(path string, _ uint32) error {
		if err, ok := kernel[path]; ok {
			return err
		}
		return unix.ENOENT
	}
	for dir, want := range map[string]error{
		"/srv/ours": nil, "/srv/ours/a/b": nil, "/srv": unix.EROFS, "/srv/missing": unix.EROFS, "/nowhere/at/all": unix.EROFS, "/srv/theirs": unix.EACCES,
	} {
		if err := checkWritable(dir, access); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", dir, err, want)
		}
	}
	if err := CheckWritable(t.TempDir()); err != nil {
		t.Error(err)
	}
}
