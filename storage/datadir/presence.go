package datadir

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/phext"
)

// A volume that is not mounted looks like a directory without phexts: reads would
// be empty, and a write would make a second set of data underneath. So each
// directory that has phexts gets a mark in the state directory, with its identity.
// Later, such a directory must be there, or a missing file means nothing.

var errVolumeMissing = apierror.RetryIn(10*time.Second, apierror.Unavailable,
	"this tenant's data directory is not there, as if its disk were not mounted: nothing was changed; the operator's log says more")

// markPath is where a directory's mark is, or "" if there are no marks.
func (ds *Dirs) markPath(dir string) string {
	if ds.MarkDir == "" {
		return ""
	}
	return markIn(ds.MarkDir, dir)
}

func markIn(markDir, dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(markDir, hex.EncodeToString(sum[:16]))
}

// Absence says why a data directory with a mark in markDir is not the one that has had
// phexts, as if its disk were not mounted, and where the mark is; "" = it is there, or
// has no mark.
func Absence(markDir, dataDir string) (reason, mark string, err error) {
	path := fsutil.Resolve(dataDir)
	mark = markIn(markDir, path)
	text, err := os.ReadFile(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return "", mark, nil
	}
	if err == nil {
		reason, err = absence(path, markedIdentity(text), identityOf)
	}
	return reason, mark, err
}

// Absence is that of a data directory of these.
func (ds *Dirs) Absence(dataDir string) (reason, mark string, err error) {
	if ds.MarkDir == "" {
		return "", "", nil
	}
	return Absence(ds.MarkDir, dataDir)
}

// MarkWritten marks the directory before a write of a phext in it is acknowledged.
// It looks each time whether the mark is there, since somebody may have removed the
// state directory. Reads do not look: with their rate, that would cost too much.
func (d *Dir) MarkWritten() {
	if d.mark == "" {
		return
	}
	if _, err := os.Lstat(d.mark); errors.Is(err, fs.ErrNotExist) {
		d.marked.Store(false)
	}
	d.markSeen()
}

// markSeen marks the directory as one that has phexts, once for each process.
func (d *Dir) markSeen() {
	if d.mark == "" || d.marked.Load() || d.marked.Swap(true) {
		return
	}
	if err := d.writeMark(); err != nil { // a missing volume is then not told from an empty directory, no more
		d.dirs.Logger.Warn("a data directory could not be marked as seen", logkey.DataDir, d.Path, logkey.Error, err)
	}
}

func (d *Dir) writeMark() error {
	id, err := d.dirs.identity(d.Path)
	if err != nil {
		return err
	}
	text := id + "\n" + d.Path + "\n"
	if now, err := os.ReadFile(d.mark); err == nil && string(now) == text {
		return nil
	}
	// A power cut must not leave the mark without the directory: recovery would not
	// make that again. The parent may be one that sqgate must not read.
	_ = fsutil.SyncDir(filepath.Dir(d.Path))
	if err := os.MkdirAll(d.dirs.MarkDir, 0o700); err != nil {
		return err
	}
	return fsutil.Replace(d.mark, text, 0o600, true)
}

// Forget removes the mark of a directory that was emptied on purpose.
func (d *Dir) Forget() error {
	d.marked.Store(false)
	if d.mark == "" {
		return nil
	}
	return fsutil.IgnoreMissing(os.Remove(d.mark))
}

// CheckPresent is asked when a file is missing, and before all files are taken
// together: it is an error if the directory was seen with phexts and is gone, or if
// an empty one is in its place.
func (d *Dir) CheckPresent() error {
	if d.mark == "" {
		return nil
	}
	mark, err := os.ReadFile(d.mark)
	if errors.Is(err, fs.ErrNotExist) {
		d.missing.Store(false)
		return nil
	}
	if err != nil {
		return err
	}
	reason, err := absence(d.Path, markedIdentity(mark), d.dirs.identity)
	if errors.Is(err, fs.ErrPermission) {
		if !d.missing.Swap(true) {
			d.dirs.Logger.Error("a data directory may not be opened; nothing of it is served. `sqgate check` says why",
				slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
		}
		return errNoAccess
	}
	if err != nil {
		return err
	}
	if reason == "" {
		d.missing.Store(false)
		return nil
	}
	if !d.missing.Swap(true) {
		d.dirs.Logger.Error("a data directory is missing; nothing of it is served until it is back. If it is gone for good, make an empty one and remove the mark",
			slog.String(logkey.DataDir, d.Path), slog.String("reason", reason), slog.String("mark", d.mark))
	}
	return errVolumeMissing
}

// absence says why a directory is not the one that was marked; "" = it is.
func absence(path, was string, identity func(string) (string, error)) (reason string, err error) {
	id, err := identity(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "it does not exist", nil
	}
	sameFileSystem := fileSystemOf(id) == fileSystemOf(was)
	if err != nil || id == was || sameFileSystem && fileSystemOf(was) == was {
		return "", err
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), phext.Extension) {
			return "", nil // it was moved
		}
	}
	if sameFileSystem {
		return "it is empty, and another directory than before, on the same file system", err
	}
	return "it is empty, and on another file system than before", err
}

// identityOf identifies a directory by its file system and, behind a slash, its
// inode number. It stays the same when a disk gets another device number.
func identityOf(path string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x-%x/%d", fsutil.FileSystemType(&fs), fs.Fsid.Val, st.Ino), nil
}

// markedIdentity is the identity in a mark. Earlier versions noted only the file
// system.
func markedIdentity(mark []byte) string {
	id, _, _ := strings.Cut(string(mark), "\n")
	return id
}

// fileSystemOf is the file system's part of a directory's identity.
func fileSystemOf(id string) string {
	fileSystem, _, _ := strings.Cut(id, "/")
	return fileSystem
}

// Missing is how many directories are missing now.
func (ds *Dirs) Missing() (n int) {
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	for _, d := range ds.byPath {
		if d.missing.Load() {
			n++
		}
	}
	return n
}
