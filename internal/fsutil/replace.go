// Package fsutil has what several rooms need of files: to open a regular file
// and nothing else, to tell one state of a file from another, and to replace a
// file so that there is, at every moment and after every crash, the old one or
// the new one whole.
//
// It never decides what stands in a file.
package fsutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
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

// Temporary is how the names of files begin that are not finished. Such a file
// may be removed by whoever finds it after a crash.
const Temporary = ".sqgate-"

// Replace puts a file with text in the place of path. Mode and owner stay those
// of the file that is there; a new file has mode less the umask, and the owner
// of its directory. Durable says whether to wait until the disk holds it.
func Replace(path, text string, mode fs.FileMode, durable bool) error {
	return write(path, durable, os.Rename, func(f *os.File) error { return fill(f, path, text, mode, true, durable) })
}

// ReplacePrivate is a durable Replace for a file with secrets: its mode is 0600
// afterwards, whatever it was before.
func ReplacePrivate(path, text string) error {
	return write(path, true, os.Rename, func(f *os.File) error { return fill(f, path, text, private, false, true) })
}

// private is the mode of files with secrets, and the one that os.CreateTemp uses.
const private fs.FileMode = 0o600

// CreatePrivate durably writes a file with secrets, which has mode 0600 and
// belongs to this user. It never replaces a file: the error is then fs.ErrExist.
func CreatePrivate(path, text string) error {
	return write(path, true, moveToFreeName, func(f *os.File) error {
		if _, err := f.WriteString(text); err != nil {
			return err
		}
		return f.Sync()
	})
}

// moveToFreeName is os.Rename, except that it fails if to exists.
func moveToFreeName(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// write has fill write a temporary file beside path, and move rename it to path.
func write(path string, durable bool, move func(from, to string) error, fill func(*os.File) error) error {
	aside, err := os.CreateTemp(filepath.Dir(path), Temporary+"*")
	if err != nil {
		return err
	}
	err = errors.Join(fill(aside), aside.Close())
	if err == nil {
		err = move(aside.Name(), path)
	}
	if err != nil {
		_ = os.Remove(aside.Name()) // the error that led here says more
		return err
	}
	if !durable {
		return nil
	}
	return SyncDir(filepath.Dir(path))
}

// fill writes text and sets the owner and the mode. keepMode says whether the
// mode of a file that is there counts more than mode.
func fill(f *os.File, path, text string, mode fs.FileMode, keepMode, durable bool) error {
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	model, err := os.Stat(path)
	anew := err != nil
	switch {
	case anew:
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
	// A new file that may not have its directory's owner stays this user's, as
	// one that SQ makes.
	if err := ownedLike(f, model); err != nil && !(anew && errors.Is(err, fs.ErrPermission)) {
		return err
	}
	if !durable {
		return nil
	}
	return f.Sync()
}

func ownedLike(f *os.File, model fs.FileInfo) error {
	st := model.Sys().(*syscall.Stat_t)
	if int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() {
		return nil
	}
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("keeping the owner of %s: %w", model.Name(), err)
	}
	return nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
