package fsutil

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// NewFileMode is the mode with which programs such as SQ create files. The umask
// is not taken off yet.
const NewFileMode fs.FileMode = 0o666

// umask is the file mode creation mask of this process, which its children
// inherit. It is known only if the kernel says it: /proc may not be there.
var umask = sync.OnceValues(func() (mask fs.FileMode, known bool) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o077, false
	}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 8, 32)
		if string(name) == "Umask" && err == nil {
			return fs.FileMode(n), true
		}
	}
	return 0o077, false
})

// Umask is the file mode creation mask of this process. It is read once. If it
// cannot be read, Umask is 077, the strictest one.
func Umask() fs.FileMode {
	mask, _ := umask()
	return mask
}

// CanBeRecreated says whether a child of this process could remove the file at
// path and create it again without anybody seeing a difference: whether it is a
// regular file with one name, and its owner, mode and extended attributes are
// those of a new file.
func CanBeRecreated(path string) bool {
	var st unix.Stat_t
	mask, known := umask()
	if !known || unix.Lstat(path, &st) != nil || changesNewFiles(filepath.Dir(path)) {
		return false
	}
	return st.Mode == unix.S_IFREG|uint32(NewFileMode&^mask) && st.Nlink == 1 &&
		int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() && hasNewFileAttributes(path)
}

// changesNewFiles says whether new files in dir get their group or access lists
// from dir.
func changesNewFiles(dir string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Mode&unix.S_ISGID != 0 && int(st.Gid) != os.Getegid() {
		return true
	}
	_, err := unix.Getxattr(dir, "system.posix_acl_default", nil)
	return err == nil
}

// newFileAttributes are the extended attributes that a new file may have.
var newFileAttributes = []string{"security.selinux"}

func hasNewFileAttributes(path string) bool {
	names, err := attributesOf(path)
	return err == nil && len(names) == 0
}

// attributesOf are the extended attributes of a file that a new one does not have of itself.
func attributesOf(path string) (names []string, err error) {
	size, err := unix.Llistxattr(path, nil)
	if err == unix.ENOTSUP || err == nil && size == 0 {
		return nil, nil
	}
	list := make([]byte, max(size, 0))
	if err == nil {
		size, err = unix.Llistxattr(path, list)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "list attributes", Path: path, Err: err}
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if name != "" && !slices.Contains(newFileAttributes, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// inMemory are the file systems without a disk, as statfs(2) numbers them.
var inMemory = []uint32{unix.TMPFS_MAGIC, unix.RAMFS_MAGIC}

// InMemory says whether a file system keeps its files in memory alone.
func InMemory(fs *unix.Statfs_t) bool { return slices.Contains(inMemory, FileSystemType(fs)) }

// FileSystemType is the number of a kind of file systems. Its field has 64 bits, or
// 32 bits with a sign, depending on the machine.
func FileSystemType(fs *unix.Statfs_t) uint32 { return uint32(fs.Type) }
