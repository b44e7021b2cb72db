package fsutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Node is which file or directory a path leads to: a device and an inode on it.
type Node struct{ Device, Inode uint64 }

// NodeOf follows links. It is the zero Node if there is nothing, or nobody may know what.
func NodeOf(path string) Node {
	var st unix.Stat_t
	if uninterrupted(func() error { return unix.Stat(path, &st) }) != nil {
		return Node{}
	}
	return Node{uint64(st.Dev), st.Ino} // Dev has another size on some machines
}

// Birth is when a directory was made. It is zero if there is none, or if its file system does
// not keep that.
type Birth struct {
	sec  int64 // since 1970
	nsec uint32
}

// String is "" of the zero Birth.
func (b Birth) String() string {
	if b == (Birth{}) {
		return ""
	}
	return strconv.FormatInt(b.sec, 10) + "." + strconv.FormatUint(uint64(b.nsec), 10)
}

// After says whether it was later than t. The zero Birth was not.
func (b Birth) After(t time.Time) bool { return time.Unix(b.sec, int64(b.nsec)).After(t) }

// BirthOf tells a directory from another one at the same path, also from a copy of it. An
// overlayfs does not keep it: with the first change in it, a directory of the lower layer has
// another one.
func BirthOf(dir string) (Birth, error) {
	var on unix.Statfs_t
	if err := uninterrupted(func() error { return unix.Statfs(dir, &on) }); err == nil && on.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return Birth{}, nil
	}
	var st unix.Statx_t
	err := uninterrupted(func() error { return unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BTIME, &st) })
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOSYS), err == unix.EPERM: // a filter of system calls may not know statx
		return Birth{}, nil
	case err != nil:
		return Birth{}, &os.PathError{Op: "statx", Path: dir, Err: err}
	case st.Mask&unix.STATX_BTIME == 0, st.Btime.Sec == 0:
		return Birth{}, nil
	}
	return Birth{st.Btime.Sec, st.Btime.Nsec}, nil
}

// Place is NodeOf, and when that was made, as its file system says it. That of an overlayfs may
// change.
func Place(path string) (Node, Birth) {
	var st unix.Statx_t
	if uninterrupted(func() error {
		return unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st)
	}) != nil {
		return NodeOf(path), Birth{} // a filter of system calls may not know statx
	}
	return Node{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, Birth{st.Btime.Sec, st.Btime.Nsec}
}

// IdentityOf identifies a directory by its file system and, behind slashes, its inode number and, as far
// as that is known, its birth. It stays the same when a disk gets another device number. On XFS, that
// says which file system it is, so the birth alone tells a new disk from the one before.
func IdentityOf(dir string) (string, error) {
	var on unix.Statfs_t
	var st unix.Stat_t
	err := uninterrupted(func() error { return unix.Statfs(dir, &on) })
	if err == nil {
		err = uninterrupted(func() error { return unix.Stat(dir, &st) })
	}
	if err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	birth, err := BirthOf(dir)
	if birth == (Birth{}) {
		return fmt.Sprintf("%x-%x/%d", FileSystemType(&on), on.Fsid.Val, st.Ino), err
	}
	if on.Type == unix.XFS_SUPER_MAGIC {
		on.Fsid = unix.Fsid{}
	}
	return fmt.Sprintf("%x-%x/%d/%s", FileSystemType(&on), on.Fsid.Val, st.Ino, birth), err
}

// IsIdentity says whether a directory is the one that it was, by their identities. Earlier versions
// have noted less of it, or, on XFS, the device number.
func IsIdentity(now, was string) bool {
	if fileSystem, rest, _ := strings.Cut(now, "/"); fileSystem == xfs && strings.Contains(rest, "/") {
		before, restBefore, _ := strings.Cut(was, "/")
		return rest == restBefore && strings.HasPrefix(before, xfsType)
	}
	return now == was || strings.HasPrefix(now, was+"/")
}

const (
	xfsType = "58465342-" // XFS_SUPER_MAGIC
	xfs     = xfsType + "[0 0]"
)

// TellsApart says whether an identity is that of one directory alone. FUSE does not say which file system
// it is, and all of them have a root with the same number.
func TellsApart(identity string) bool {
	return !strings.Contains(identity, "-[0 0]/") || strings.Count(identity, "/") > 1
}

// uninterrupted repeats a system call that a signal has interrupted.
func uninterrupted(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
