package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Files of MarkDir that are no marks: no tenant's id begins with a dot.
const (
	lockFile        = ".lock"
	incarnationFile = ".incarnation"
)

// ErrInUse is returned by Lock.
var ErrInUse = errors.New("another sqgate with a bucket uses the same --state-dir")

// Lock keeps every other process from MarkDir until this one ends, and finds out which
// process had it before. So that one has ended, and nobody has to wait for its lease.
// It is called before Run.
func (ds *Directories) Lock() error {
	if err := fsutil.MakeDir(ds.MarkDir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(ds.MarkDir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), f.Close())
	}
	ds.lock = f // it is never closed
	before, err := os.ReadFile(filepath.Join(ds.MarkDir, incarnationFile))
	ds.Predecessor = string(before)
	return fsutil.IgnoreMissing(err)
}
