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
// directory that was seen with phexts leaves a mark in the state directory, with
// the file system that it was on. Later, such a directory must be there, or a
// missing file means nothing.

var errVolumeMissing = apierror.RetryIn(10*time.Second, apierror.Unavailable,
	"this tenant's data directory is not there, as if its disk were not mounted: nothing was changed; the operator's log says more")

// markPath is where a directory's mark is.
func (d *Dir) markPath() string {
	sum := sha256.Sum256([]byte(d.Path))
	return filepath.Join(d.dirs.MarkDir, hex.EncodeToString(sum[:16]))
}

// noteSeen marks the directory as one that has phexts, once for each process.
func (d *Dir) noteSeen() {
	if d.dirs.MarkDir == "" || d.marked.Swap(true) {
		return
	}
	err := os.MkdirAll(d.dirs.MarkDir, 0o700)
	var id string
	if err == nil {
		id, err = d.dirs.fileSystem(d.Path)
	}
	if text := id + "\n" + d.Path + "\n"; err == nil && !d.markIs(text) {
		err = fsutil.Replace(d.markPath(), text, 0o600, true)
	}
	if err != nil { // a missing volume is then not told from an empty directory, no more
		d.dirs.Logger.Warn("a data directory could not be marked as seen", logkey.DataDir, d.Path, logkey.Error, err)
	}
}

func (d *Dir) markIs(text string) bool {
	now, err := os.ReadFile(d.markPath())
	return err == nil && string(now) == text
}

// Forget removes the mark of a directory that was emptied on purpose.
func (d *Dir) Forget() error {
	d.marked.Store(false)
	if d.dirs.MarkDir == "" {
		return nil
	}
	return fsutil.IgnoreMissing(os.Remove(d.markPath()))
}

// checkPresent is asked when a file is missing: it is an error if the directory
// was seen with phexts and is gone, or is an empty one on another file system.
func (d *Dir) checkPresent() error {
	if d.dirs.MarkDir == "" {
		return nil
	}
	mark, err := os.ReadFile(d.markPath())
	if errors.Is(err, fs.ErrNotExist) {
		d.missing.Store(false)
		return nil
	}
	if err != nil {
		return err
	}
	reason, err := d.absence(string(mark))
	if err != nil {
		return err
	}
	if reason == "" {
		d.missing.Store(false)
		return nil
	}
	if !d.missing.Swap(true) {
		d.dirs.Logger.Error("a data directory is missing; nothing of it is served until it is back. If it is gone for good, make an empty one and remove the mark",
			slog.String(logkey.DataDir, d.Path), slog.String("reason", reason), slog.String("mark", d.markPath()))
	}
	return errVolumeMissing
}

// absence says why the directory is not the one that was marked; "" = it is.
func (d *Dir) absence(mark string) (reason string, err error) {
	id, err := d.dirs.fileSystem(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "it does not exist", nil
	}
	if was, _, _ := strings.Cut(mark, "\n"); err != nil || id == was {
		return "", err
	}
	entries, err := os.ReadDir(d.Path)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), phext.Extension) {
			return "", nil // it was moved to another disk
		}
	}
	return "it is empty, and on another file system than before", err
}

// fileSystemOf identifies the file system of a path. It stays the same when a
// disk gets another device number.
func fileSystemOf(path string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x-%x", st.Type, st.Fsid.Val), nil
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
