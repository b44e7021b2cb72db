// Package fsutil is the one place for what several packages do with files: open a
// regular file and nothing else; replace a file so that at every moment, also
// after a crash, the old one or the new one is there and whole; make the names in
// a directory durable; resolve symbolic links; tell one state of a file from
// another; reserve disk space.
//
// It never decides what a file holds, and knows nothing of phexts or tenants.
package fsutil

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// FileID tells one state of a file from another. The zero FileID is that of no
// file. Times are in nanoseconds since 1970.
type FileID struct {
	Dev, Ino     uint64
	Size         int64 // bytes
	Mtime, Ctime int64
}

// Exists says whether there is a file.
func (id FileID) Exists() bool { return id != FileID{} }

// IDOf is Identify for a file that was looked at already. The error is ErrNotRegular.
func IDOf(info fs.FileInfo) (FileID, error) {
	if !info.Mode().IsRegular() {
		return FileID{}, ErrNotRegular
	}
	st := info.Sys().(*syscall.Stat_t)
	return FileID{Dev: st.Dev, Ino: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano()}, nil
}

// Temporary is how the names of unfinished files begin. Whoever finds such a
// file after a crash may remove it.
const Temporary = ".sqgate-"

// Replace puts a file with text in the place of path. It keeps the mode, the owner and
// the extended attributes of a file that is there. A new file has mode, less the umask,
// and the owner of its directory if this user may set it. If durable, Replace returns
// when the file and its name are on the disk.
func Replace(path, text string, mode fs.FileMode, durable bool) error {
	return ReplaceFrom(path, strings.NewReader(text), mode, durable)
}

// ReplaceFrom is Replace with what content writes.
func ReplaceFrom(path string, content io.WriterTo, mode fs.FileMode, durable bool) error {
	return write(path, durable, os.Rename, func(f *os.File) error {
		_, err := fill(f, path, content, mode, true, durable)
		return err
	})
}

// ReplacePrivate is a durable Replace for a file with secrets: its mode is 0600
// afterwards, whatever it was before.
func ReplacePrivate(path, text string) error {
	return write(path, true, os.Rename, func(f *os.File) error {
		_, err := fill(f, path, strings.NewReader(text), privateMode, false, true)
		return err
	})
}

// ReplacePrivateFrom puts a file with everything that r returns in the place of
// path, and returns its size in bytes. The file has mode 0600 and belongs to this
// user. Its content is on the disk before it gets its name. The directory is not
// synced, because not every file system can do that.
func ReplacePrivateFrom(path string, r io.Reader) (size int64, err error) {
	err = write(path, false, os.Rename, func(f *os.File) (err error) {
		if size, err = io.Copy(f, r); err != nil {
			return err
		}
		return f.Sync()
	})
	return size, err
}

// privateMode is the mode of files with secrets. os.CreateTemp uses it too.
const privateMode fs.FileMode = 0o600

// CreatePrivate durably writes a file with secrets, which has mode 0600 and
// belongs to this user. It never replaces a file: if path exists, the error is
// fs.ErrExist.
func CreatePrivate(path, text string) error {
	return write(path, true, RenameNoReplace, func(f *os.File) error {
		if _, err := f.WriteString(text); err != nil {
			return err
		}
		return f.Sync()
	})
}

// RenameNoReplace renames a file, but never replaces one: if to exists, the error
// is fs.ErrExist. A crash can leave the file with both names.
func RenameNoReplace(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// write lets fill write a temporary file in the directory of path, and lets move
// rename it to path. If durable, it syncs the directory; fill syncs the file.
func write(path string, durable bool, move func(from, to string) error, fill func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), Temporary+"*")
	if err != nil {
		return err
	}
	err = errors.Join(fill(f), f.Close())
	if err == nil {
		err = move(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error that led here says more
		return err
	}
	if !durable {
		return nil
	}
	return SyncDir(filepath.Dir(path))
}

// gathering writers gather short pieces, such as those of a phext: a system call for each delimiter took most of
// a batch's time.
var gathering = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }}

// fill writes content and sets owner and mode for a file that is to replace path. If
// keepMode, the mode of the file at path counts more than mode. size is in bytes.
func fill(f *os.File, path string, content io.WriterTo, mode fs.FileMode, keepMode, durable bool) (size int64, err error) {
	out := gathering.Get().(*bufio.Writer)
	defer gathering.Put(out)
	out.Reset(f)
	if size, err = content.WriteTo(out); err == nil {
		err = out.Flush()
	}
	if err != nil {
		return size, err
	}
	return size, dress(f, path, mode, keepMode, durable)
}

// SetModeAndOwner gives f, which is to be renamed to path, what Replace would give it.
func SetModeAndOwner(f *os.File, path string, mode fs.FileMode) error {
	return dress(f, path, mode, true, false)
}

// dress is fill without the writing.
func dress(f *os.File, path string, mode fs.FileMode, keepMode, durable bool) error {
	model, err := os.Stat(path)
	isNew := err != nil
	switch {
	case isNew:
		model, err = os.Stat(filepath.Dir(path))
		mode &^= Umask()
	case keepMode:
		mode = model.Mode().Perm()
	}
	if err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	// If this user may not give a new file to the owner of its directory, it
	// keeps the file, as it does when SQ makes one.
	if err := copyOwner(f, model); err != nil && !(isNew && mayNotChown(err)) {
		return err
	}
	if !isNew && keepMode {
		copyAttributes(f, path)
	}
	if !durable {
		return nil
	}
	return f.Sync()
}

// copyAttributes gives f the extended attributes of the file at path, such as its access
// list, but for those that a new file has of itself. What cannot be copied is lost: in a
// user namespace, for instance, a list that names somebody who is unknown there.
func copyAttributes(f *os.File, path string) {
	names, _ := attributesOf(path)
	for _, name := range names {
		size, err := unix.Lgetxattr(path, name, nil)
		value := make([]byte, max(size, 0))
		if err == nil {
			size, err = unix.Lgetxattr(path, name, value)
		}
		if err == nil {
			_ = unix.Fsetxattr(int(f.Fd()), name, value[:size], 0)
		}
	}
}

// copyOwner gives f the user and the group of model, unless it has them already.
func copyOwner(f *os.File, model fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	has, want := info.Sys().(*syscall.Stat_t), model.Sys().(*syscall.Stat_t)
	if has.Uid == want.Uid && has.Gid == want.Gid {
		return nil
	}
	if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
		if mayNotChown(err) && has.Uid == want.Uid && model.Mode()&0o070 == 0 {
			return nil // the group counts for nothing
		}
		return fmt.Errorf("keeping the owner of %s: %w", model.Name(), err)
	}
	return nil
}

// mayNotChown says whether an error of chown is about the rights of this user. In a
// user namespace, EINVAL is: the owner is one who does not exist there.
func mayNotChown(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL)
}

// OpenDir opens a directory, and does not wait for the other end of a FIFO in its place.
func OpenDir(dir string) (*os.File, error) { return os.OpenFile(dir, unix.O_DIRECTORY, 0) }

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MakeDir is os.MkdirAll, and makes the names of the directories that it makes
// durable in their parents.
func MakeDir(dir string, mode fs.FileMode) error { return makeDir(filepath.Clean(dir), mode, SyncDir) }

func makeDir(dir string, mode fs.FileMode, syncDir func(string) error) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.MkdirAll(dir, mode)) // an error if it is no directory
	}
	parent := filepath.Dir(dir)
	if err := makeDir(parent, mode, syncDir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}
