package fsutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestErrorsNameWhatTheOperatorKnows has errors of all kinds with a path that is held.
func TestErrorsNameWhatTheOperatorKnows(t *testing.T) {
	dir := t.TempDir()
	held, release, err := HoldDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, open := os.Open(filepath.Join(held, "n.phext"))
	rename := os.Rename(filepath.Join(held, "n.phext"), filepath.Join(held, "m.phext"))
	for name, err := range map[string]error{
		"a path": open, "two paths": rename, "wrapped": fmt.Errorf("reading: %w", open), "several": errors.Join(open, fmt.Errorf("and: %w", rename)),
	} {
		got := Named(err, held, dir)
		if text := got.Error(); strings.Contains(text, held) || !strings.Contains(text, filepath.Join(dir, "n.phext")) {
			t.Errorf("%s: %s", name, text)
		}
		if !errors.Is(got, fs.ErrNotExist) || !errors.Is(got, unix.ENOENT) {
			t.Errorf("%s: %#v is another error", name, got)
		}
		if at := (*fs.PathError)(nil); errors.As(err, &at) && (!errors.As(got, &at) || at.Path != filepath.Join(dir, "n.phext")) {
			t.Errorf("%s: it is of %s", name, at.Path)
		}
	}
	other := errors.New(held + "0/n.phext is of another one")
	for _, err := range []error{nil, unix.EIO, other} {
		if got := Named(err, held, dir); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
	if got := Named(open, "", dir); got != open {
		t.Errorf("%v became %v", open, got)
	}
}
