package fsutil

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// HoldDir opens a directory, and returns a path that leads to it until release is called,
// whatever becomes of dir meanwhile: another directory may take its place, and its disk
// may be unmounted. It keeps the disk busy, and needs no right to read the directory.
func HoldDir(dir string) (path string, release func(), err error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return "", func() {}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fdPath(fd), func() { _ = unix.Close(fd) }, nil // nothing was written through it
}

// FDPath is a path that leads to an open file until it is closed.
func FDPath(f *os.File) string { return fdPath(int(f.Fd())) }

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
