package fsutil

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ReservedSpace is disk space in a directory. Whatever others write meanwhile, a
// text that is no larger can still replace a file there.
type ReservedSpace struct {
	f *os.File
}

// ReserveSpace reserves size bytes in the directory of path. The error is
// unix.ENOSPC if the disk does not have them. On a file system that cannot
// reserve space it reserves none and returns no error.
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

// Replace is a durable Replace of the file at path that uses the reserved space.
// If it succeeds, the space is used up.
func (r *ReservedSpace) Replace(path string, content io.WriterTo, mode fs.FileMode) error {
	if err := r.fill(path, content, mode); err != nil {
		return err
	}
	if err := os.Rename(r.f.Name(), path); err != nil {
		return err
	}
	err := errors.Join(r.f.Close(), SyncDir(filepath.Dir(path)))
	r.f = nil
	return err
}

func (r *ReservedSpace) fill(path string, content io.WriterTo, mode fs.FileMode) error {
	size, err := fill(r.f, path, content, mode, true, false)
	if err != nil {
		return err
	}
	if err := r.f.Truncate(size); err != nil {
		return err
	}
	return r.f.Sync()
}

// Release gives back what Replace has not used. r may be nil.
func (r *ReservedSpace) Release() {
	if r == nil || r.f == nil {
		return
	}
	_ = os.Remove(r.f.Name()) // recovery removes what is left
	_ = r.f.Close()           // it holds nothing that is needed
	r.f = nil
}
