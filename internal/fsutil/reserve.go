package fsutil

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Spare is room on a disk that is kept for the way back: whatever others write
// meanwhile, a text of its size can still take a file's place.
type Spare struct {
	f *os.File
}

// NewSpare keeps size bytes beside path. The error is ENOSPC if there are not
// so many. A file system that cannot promise room is an error of its own kind.
func NewSpare(path string, size int64) (*Spare, error) {
	f, err := os.CreateTemp(filepath.Dir(path), Temporary+"*")
	if err != nil {
		return nil, err
	}
	s := &Spare{f: f}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		s.Drop()
		return nil, &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return s, nil
}

// Become makes the spare, with text in it, the file at path. Mode and owner are
// as in Replace.
func (s *Spare) Become(path, text string, mode fs.FileMode) error {
	if err := s.fill(path, text, mode); err != nil {
		return err
	}
	if err := os.Rename(s.f.Name(), path); err != nil {
		return err
	}
	err := errors.Join(s.f.Close(), SyncDir(filepath.Dir(path)))
	s.f = nil
	return err
}

func (s *Spare) fill(path, text string, mode fs.FileMode) error {
	if err := fill(s.f, path, text, mode, true, false); err != nil {
		return err
	}
	if err := s.f.Truncate(int64(len(text))); err != nil {
		return err
	}
	return s.f.Sync()
}

// Drop gives the room back, if Become has not used it.
func (s *Spare) Drop() {
	if s == nil || s.f == nil {
		return
	}
	_ = os.Remove(s.f.Name()) // a leftover is removed by recovery
	_ = s.f.Close()           // nothing of it is wanted
	s.f = nil
}
