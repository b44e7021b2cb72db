package fsutil

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HoldDir opens a directory, and returns a path that leads to it until release is called,
// whatever becomes of dir meanwhile: another directory may take its place, and its disk
// may be unmounted. It keeps the disk busy, and needs no right to read the directory.
func HoldDir(dir string) (path string, release func(), err error) {
	var fd int
	err = uninterrupted(func() (err error) {
		fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return "", func() {}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fdPath(fd), func() { _ = unix.Close(fd) }, nil // nothing was written through it
}

// Named is err with path in the place of held, by which HoldDir has let the files below path
// be used: nobody can look them up by that afterwards.
func Named(err error, held, path string) error {
	if err == nil || held == path || !strings.HasPrefix(held, fdDir) {
		return err
	}
	text := err.Error()
	if said := named(text, held, path); said != text {
		return &namedError{err, said, held, path}
	}
	return err
}

// named replaces held in text, unless it is the beginning of another such path.
func named(text, held, path string) string {
	before, rest, found := strings.Cut(text, held)
	switch {
	case !found:
		return text
	case rest != "" && rest[0] >= '0' && rest[0] <= '9':
		return before + held + named(rest, held, path)
	}
	return before + path + named(rest, held, path)
}

type namedError struct {
	err              error
	text, held, path string
}

func (e *namedError) Error() string { return e.text }

func (e *namedError) Unwrap() error { return e.err }

// As gives errors with a path in it that path, too.
func (e *namedError) As(target any) bool {
	to, ok := target.(**os.PathError)
	if !ok || !errors.As(e.err, to) {
		return false
	}
	err := **to
	err.Path = named(err.Path, e.held, e.path)
	*to = &err
	return true
}

// FDPath is a path that leads to an open file until it is closed.
func FDPath(f *os.File) string { return fdPath(int(f.Fd())) }

const fdDir = "/proc/self/fd/"

func fdPath(fd int) string { return fdDir + strconv.Itoa(fd) }
