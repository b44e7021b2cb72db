package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// NoRoomError is a disk that is too full for Recover to put right what a crash has
// left. Nothing is lost: recovery goes on when there is room.
type NoRoomError struct {
	Dir string // a directory on the file system that is full
	// Files are the phexts' files that wait for room, with the bytes that each needs.
	// All others are recovered. It is nil if nobody knows what must wait.
	Files map[string]int64
	Err   error
}

func (e *NoRoomError) Error() string {
	if len(e.Files) == 0 {
		return fmt.Sprintf("the file system of %s is full: %v", e.Dir, e.Err)
	}
	return fmt.Sprintf("the file system of %s is full, and %d bytes are needed to repair %s: %v",
		e.Dir, e.Bytes(), strings.Join(slices.Sorted(maps.Keys(e.Files)), ", "), e.Err)
}

func (e *NoRoomError) Unwrap() error { return e.Err }

// Bytes is how many bytes the files need in all.
func (e *NoRoomError) Bytes() (sum int64) {
	for _, n := range e.Files {
		sum += n
	}
	return sum
}

// orNoRoom makes a NoRoomError of an error that says so, and returns any other as it is.
func (j *Journal) orNoRoom(err error, files map[string]int64) error {
	if !isFull(err) {
		return err
	}
	full := &NoRoomError{Dir: j.dataDir, Files: files, Err: err}
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		full.Dir = filepath.Dir(at.Path)
	}
	return full
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// roomFor is an error if the file system certainly has no room for a text at path. Each
// attempt to write it would fill the disk for a moment, to the harm of others there.
func roomFor(path string, size int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &disk); err != nil || int64(disk.Bfree)*int64(disk.Bsize) >= size {
		return err
	}
	return &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
}
