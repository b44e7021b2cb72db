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

// NewFileMode is the mode with which programs such as SQ make files, before the umask.
const NewFileMode fs.FileMode = 0o666

// umask is that of this process, which its children have too; unknown if the
// kernel does not say it.
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

// Umask is the file mode creation mask of this process. It is taken to be the
// same for its whole life, and the strictest one where the kernel does not say it.
func Umask() fs.FileMode {
	mask, _ := umask()
	return mask
}

// CanBeRecreated says whether the file at path, once removed, would be the same
// file for everybody if a child of this process made it again: a regular one
// with one name, and with the owner, the mode and the attributes that a new
// file has.
func CanBeRecreated(path string) bool {
	var st unix.Stat_t
	mask, known := umask()
	if !known || unix.Lstat(path, &st) != nil || marked(filepath.Dir(path)) {
		return false
	}
	return st.Mode == unix.S_IFREG|uint32(NewFileMode&^mask) && st.Nlink == 1 && int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() && plainAttributes(path)
}

// marked says whether a directory gives the files in it something of its own: a
// group, or access lists.
func marked(dir string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Mode&unix.S_ISGID != 0 && int(st.Gid) != os.Getegid() {
		return true
	}
	_, err := unix.Getxattr(dir, "system.posix_acl_default", nil)
	return err == nil
}

// given are the attributes that a system gives a new file by itself.
var given = []string{"security.selinux"}

func plainAttributes(path string) bool {
	var names [256]byte
	n, err := unix.Llistxattr(path, names[:])
	if err == unix.ENOTSUP {
		return true
	}
	if err != nil {
		return false
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name != "" && !slices.Contains(given, name) {
			return false
		}
	}
	return true
}

// inMemory are the file systems without a disk, by the magic numbers of statfs(2).
var inMemory = []int64{unix.TMPFS_MAGIC, unix.RAMFS_MAGIC}

// InMemory says whether the files of a file system are in memory alone.
func InMemory(fs *unix.Statfs_t) bool { return slices.Contains(inMemory, int64(fs.Type)) }
