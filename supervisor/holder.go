package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// errUnseen: the lock is held by no process that can be recognised as a child.
var errUnseen = errors.New("holder of the lock is not known")

// heldError says who holds the lock of a directory; it is ErrHeld.
type heldError struct {
	holder     int // pid, 0 if nobody was found
	supervisor int // pid of the live gateway it belongs to, 0 if unknown
	text       string
	unseen     bool
}

func (e *heldError) Error() string { return e.text }

func (e *heldError) Is(target error) bool {
	return target == ErrHeld || (e.unseen && target == errUnseen)
}

// holder is a process with the lock of a directory among its descriptors.
type holder struct {
	pid    int
	marker string // of its supervisor, "" if it is no child of any
}

func (h holder) unseen() error {
	if h.pid == 0 {
		return &heldError{unseen: true, text: "directory is locked by a process that cannot be seen from here"}
	}
	name := "?"
	if exe, err := os.Readlink(procPath(h.pid, "exe")); err == nil {
		name = filepath.Base(exe)
	}
	return &heldError{holder: h.pid, unseen: true,
		text: fmt.Sprintf("directory is locked by %s (pid %d), which is no child of sqgate", name, h.pid)}
}

func (h holder) stillHolds(f *os.File) bool {
	same, err := sameDir(f)
	return err == nil && h.marker == environ(h.pid, envParent) && holds(h.pid, same)
}

// findHolder looks through all processes. Children come first: for a moment a
// gateway holds the lock together with the child it has just spawned.
func findHolder(f *os.File) (holder, error) {
	same, err := sameDir(f)
	if err != nil {
		return holder{}, err
	}
	pids, err := numbers("/proc")
	if err != nil {
		return holder{}, err
	}
	var found holder
	for _, pid := range pids {
		if !holds(pid, same) {
			continue
		}
		found = holder{pid: pid, marker: environ(pid, envParent)}
		if found.marker != "" {
			return found, nil
		}
	}
	return found, nil
}

// sameDir returns a test for a lock on the same directory: first by the
// inode in fdinfo, which touches no file system, then by device and inode.
func sameDir(f *os.File) (func(pid, fd int) bool, error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &want); err != nil {
		return nil, err
	}
	inode := fmt.Sprintf(":%d ", want.Ino)
	return func(pid, fd int) bool {
		if !hasFlock(readFDInfo(pid, fd), inode) {
			return false
		}
		var got unix.Stat_t
		err := unix.Stat(procPath(pid, fmt.Sprintf("fd/%d", fd)), &got)
		return err == nil && got.Dev == want.Dev && got.Ino == want.Ino
	}, nil
}

// hasFlock reports whether an fdinfo has a line such as
// "lock:	1: FLOCK  ADVISORY  WRITE 7314 fe:00:1311 0 EOF".
func hasFlock(info, inode string) bool {
	for line := range strings.Lines(info) {
		if strings.HasPrefix(line, "lock:") && strings.Contains(line, "FLOCK") && strings.Contains(line, inode) {
			return true
		}
	}
	return false
}

func holds(pid int, same func(pid, fd int) bool) bool {
	fds, err := numbers(procPath(pid, "fd"))
	if err != nil {
		return false // ended meanwhile, or another user's
	}
	return slices.ContainsFunc(fds, func(fd int) bool { return same(pid, fd) })
}
