package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mirrorborn.us/sqgate/supervisor/procfs"
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
	if exe, err := os.Readlink(procfs.Path(h.pid, "exe")); err == nil {
		name = filepath.Base(exe)
	}
	return &heldError{holder: h.pid, unseen: true,
		text: fmt.Sprintf("directory is locked by %s (pid %d), which is no child of sqgate", name, h.pid)}
}

func (h holder) stillHolds(f *os.File) bool {
	holds, err := procfs.Flock(f)
	return err == nil && h.marker == procfs.Environ(h.pid, envParent) && holds(h.pid)
}

// findHolder looks through all processes. Children come first: for a moment a
// gateway holds the lock together with the child it has just spawned.
func findHolder(f *os.File) (holder, error) {
	holds, err := procfs.Flock(f)
	if err != nil {
		return holder{}, err
	}
	pids, err := procfs.PIDs()
	if err != nil {
		return holder{}, err
	}
	var found holder
	for _, pid := range pids {
		if !holds(pid) {
			continue
		}
		found = holder{pid: pid, marker: procfs.Environ(pid, envParent)}
		if found.marker != "" {
			return found, nil
		}
	}
	return found, nil
}
