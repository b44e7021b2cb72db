package fsutil

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotRegular is a path that is a directory, a FIFO or the like.
	ErrNotRegular = errors.New("is not a regular file")
	// ErrHardLink is another name of a file that no tenant may see. It is an ErrNotRegular.
	ErrHardLink = fmt.Errorf("%w of its own, but a hard link to one that may not be served", ErrNotRegular)
	// ErrMount is a file that is mounted by itself, from wherever it is. It is an ErrNotRegular.
	ErrMount = fmt.Errorf("%w of its directory, but a mount of its own", ErrNotRegular)
	// ErrLink is a symbolic link that may not be followed. It is an ErrNotRegular.
	ErrLink = fmt.Errorf("%w, but a symbolic link that may not be followed", ErrNotRegular)
)

// Links decides which symbolic links in data directories are followed. link is
// the path that is opened, and target the file that it leads to, which no link
// is part of. A nil Links follows none. A regular file with several names (hard links)
// is asked for with target equal to link, and with its state; a nil Links opens it.
//
// A file that is a mount of its own is refused, as nothing says whose it is. Only a nil Links opens
// it: a file of a key may be mounted.
//
// Every file of a tenant is opened and looked at through a Links, because
// whoever can write to a data directory can put a link or a FIFO there.
type Links func(link, target string, id FileID) bool

// Open opens a regular file for reading, and says which state of it was opened.
// Errors: fs.ErrNotExist, ErrNotRegular, ErrLink.
func (l Links) Open(path string) (*os.File, FileID, error) { return l.OpenFile(path, os.O_RDONLY) }

// OpenFile is Open with flags of open(2). It makes no file.
//
// It never waits, as opening a FIFO would, and looks at what it has opened, not
// at what was there before: somebody may swap the file in between.
func (l Links) OpenFile(path string, flag int) (*os.File, FileID, error) {
	f, err := openPlain(path, flag)
	if errors.Is(err, unix.ELOOP) {
		f, err = l.openTarget(path, flag)
	}
	if err != nil {
		return nil, FileID{}, err
	}
	var id FileID
	st, err := stat(int(f.Fd()), "", unix.AT_EMPTY_PATH)
	if err == nil {
		id, err = l.idOf(path, &st)
	}
	if err != nil {
		return nil, FileID{}, errors.Join(err, f.Close())
	}
	return f, id, nil
}

// Open opens a file for reading that only sqgate makes, as those in its state directory. It
// never waits. What somebody put there that is no regular file of its own, such as a FIFO or a
// symbolic link, is ErrNotRegular, with the path.
func Open(path string) (*os.File, error) {
	f, _, err := Links(nil).Open(path)
	if errors.Is(err, ErrNotRegular) {
		err = &os.PathError{Op: "open", Path: path, Err: err}
	}
	return f, err
}

// ReadFile is os.ReadFile of what Open opens.
func ReadFile(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	return io.ReadAll(f)
}

// openPlain opens a path that ends in no link. A link is ELOOP.
func openPlain(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENXIO): // a socket, or a FIFO that nobody reads
		return nil, ErrNotRegular
	case errors.Is(err, unix.EISDIR):
		return nil, ErrNotRegular
	}
	return f, err
}

// openTarget opens what a link leads to. It looks at it before, since opening a
// device can have effects, and afterwards, since the link may have changed.
func (l Links) openTarget(path string, flag int) (*os.File, error) {
	if l == nil {
		return nil, ErrLink
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil || !l(path, target, FileID{}) {
		return nil, ErrLink // also where it leads to nothing: SQ would make that file
	}
	if info, err := os.Lstat(target); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(ErrNotRegular, err)
	}
	f, err := openPlain(target, flag)
	if errors.Is(err, unix.ELOOP) {
		return nil, ErrLink
	}
	if err != nil {
		return nil, err
	}
	if opened, err := pathOf(f); err != nil || opened != target {
		return nil, errors.Join(ErrLink, err, f.Close())
	}
	return f, nil
}

// pathOf is where the kernel says that an open file lies.
func pathOf(f *os.File) (string, error) {
	return os.Readlink(FDPath(f))
}

// Identify looks at the file that Open would open. No file is the zero FileID
// and no error; a link that leads nowhere is ErrLink.
func (l Links) Identify(path string) (FileID, error) {
	// Not os.Lstat, which makes a FileInfo that nobody needs: each read looks here.
	st, err := stat(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return FileID{}, nil
	case err != nil:
		return FileID{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return l.identifyTarget(path)
	}
	return l.idOf(path, &st)
}

// idOf is which state of a file was looked at. It is an error if it may not be served under path.
func (l Links) idOf(path string, st *unix.Statx_t) (FileID, error) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return FileID{}, ErrNotRegular
	}
	id := FileID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino, Size: int64(st.Size), Mtime: nano(st.Mtime), Ctime: nano(st.Ctime)}
	switch {
	case l == nil:
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0: // kernels before 5.8 do not say so
		return FileID{}, ErrMount
	case st.Nlink > 1 && !l(path, path, id):
		return FileID{}, ErrHardLink
	}
	return id, nil
}

func nano(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// stat is fstatat(2), and says what is a mount.
func stat(dir int, path string, flags int) (st unix.Statx_t, err error) {
	err = uninterrupted(func() error { return unix.Statx(dir, path, flags, unix.STATX_BASIC_STATS, &st) })
	if err == unix.ENOSYS || err == unix.EPERM { // a filter of system calls may not know statx
		var old unix.Stat_t
		err = uninterrupted(func() error { return unix.Fstatat(dir, path, &old, flags) })
		st = asStatx(&old)
	}
	return st, err
}

func asStatx(old *unix.Stat_t) unix.Statx_t {
	at := func(t unix.Timespec) unix.StatxTimestamp {
		sec, nsec := t.Unix()
		return unix.StatxTimestamp{Sec: sec, Nsec: uint32(nsec)}
	}
	dev := uint64(old.Dev)
	return unix.Statx_t{Mode: uint16(old.Mode), Nlink: uint32(old.Nlink), Dev_major: unix.Major(dev), Dev_minor: unix.Minor(dev),
		Ino: old.Ino, Size: uint64(old.Size), Mtime: at(old.Mtim), Ctime: at(old.Ctim)}
}

func (l Links) identifyTarget(path string) (FileID, error) {
	f, id, err := l.Open(path)
	if err != nil {
		return FileID{}, err
	}
	return id, f.Close()
}

// Target is the path of the file that Open would open: path itself, or what a
// link leads to that may be followed.
func (l Links) Target(path string) (string, error) {
	f, _, err := l.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSymlink {
		return path, IgnoreMissing(err) // the kernel's path is another one if the disk was unmounted
	}
	return pathOf(f)
}

// Identify is Links.Identify where no link is followed.
func Identify(path string) (FileID, error) { return Links(nil).Identify(path) }
