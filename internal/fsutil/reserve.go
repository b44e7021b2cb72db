package fsutil

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ReservedSpace is room on a disk that is kept for the way back: whatever others write
// meanwhile, a text of its size can still take a file's place.
type ReservedSpace struct {
	f *os.File
}

// ReserveSpace keeps size bytes beside path. The error is ENOSPC if there are not
// so many. A file system that cannot promise room is an error of its own kind.
func ReserveSpace(path string, size int64) (*ReservedSpace, error) {
	f, err := os.CreateTemp(filepath.Dir(path), Temporary+"*")
	if err != nil {
		return nil, err
	}
	r := &ReservedSpace{f: f}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		r.Release()
		return nil, &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return r, nil
}

// Replace makes the reserved file, with text in it, the file at path. Mode and owner are
// as in Replace.
func (r *ReservedSpace) Replace(path, text string, mode fs.FileMode) error {
	if err := r.fill(path, text, mode); err != nil {
		return err
	}
	if err := os.Rename(r.f.Name(), path); err != nil {
		return err
	}
	err := errors.Join(r.f.Close(), SyncDir(filepath.Dir(path)))
	r.f = nil
	return err
}

func (r *ReservedSpace) fill(path, text string, mode fs.FileMode) error {
	if err := fill(r.f, path, text, mode, true, false); err != nil {
		return err
	}
	if err := r.f.Truncate(int64(len(text))); err != nil {
		return err
	}
	return r.f.Sync()
}

// Release gives the room back, if Replace has not used it.
func (r *ReservedSpace) Release() {
	if r == nil || r.f == nil {
		return
	}
	_ = os.Remove(r.f.Name()) // a leftover is removed by recovery
	_ = r.f.Close()           // nothing of it is wanted
	r.f = nil
}
