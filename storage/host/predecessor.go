package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Files of MarkDir that are no marks: no tenant's id begins with a dot.
const (
	lockFile        = ".lock"
	incarnationFile = ".incarnations" // of the processes that had MarkDir, oldest first
)

// mostPredecessors is how many of them are remembered.
const mostPredecessors = 100

// endsWithin is how long a process that was killed may have its lock: what it had just forked has
// it, too, until it runs another program.
const endsWithin = 3 * time.Second

// ErrInUse is returned by Lock.
var ErrInUse = errors.New("another sqgate with a bucket uses the same --state-dir")

// Lock keeps every other process from MarkDir until Close is called or this one ends, and
// finds out which processes had it before. So those have ended, and nobody has to wait for
// their leases. It is called before Run.
func (ds *Directories) Lock() error {
	if err := fsutil.MakeDir(ds.MarkDir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(ds.MarkDir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for end := time.Now().Add(endsWithin); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); {
		time.Sleep(endsWithin / 100)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		return errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), f.Close())
	}
	ds.lock = f
	path := filepath.Join(ds.MarkDir, incarnationFile)
	before, err := fsutil.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, ds.Close())
	}
	ds.Predecessors = strings.Fields(string(before))
	ds.Predecessors = ds.Predecessors[max(0, len(ds.Predecessors)-mostPredecessors):]
	// Before anything in the bucket names this incarnation.
	all := append(slices.Clone(ds.Predecessors), ds.Incarnation)
	if err := fsutil.Replace(path, strings.Join(all, "\n")+"\n", 0o600, true); err != nil {
		return errors.Join(err, ds.Close())
	}
	return nil
}

// Close lets other processes have MarkDir. A process that serves keeps it until it ends.
func (ds *Directories) Close() error { return ds.lock.Close() }
