package journal

import (
	"errors"
	"maps"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// A disk can be away for a moment, as if a cable was pulled, while sqgate and the machine go on. What it had not
// written yet is lost, as after a cut of power. Its files are as they were before then, with the time of their last
// change (ctime), which nobody can set.

// ErrWentBack is a file to which that has happened. Recover repairs it.
var ErrWentBack = errors.New("a phext is as it was some time ago: its disk was away, and has lost what it had not written")

// WentBack says whether that has happened to a file of the data_dir, to which the path at leads, and
// which is now as id says. It waits for nobody: while the journal is in use, it is not known.
func (j *Journal) WentBack(at, file string, id fsutil.FileID) bool {
	if !j.mu.TryLock() {
		return false
	}
	last := j.lastSeenLocked(file)
	j.mu.Unlock()
	return last.Exists() && j.cfg.wentBack(filepath.Join(at, file), id, last) && j.isHere()
}

// lastSeenLocked is LastSeen, or the zero FileID if it is not known, or was on the disk when the newest segment
// was begun: then somebody may have put an older file into its place. If the journal is suspended, all are on
// the disk.
func (j *Journal) lastSeenLocked(file string) fsutil.FileID {
	t := j.files[file]
	if !j.isOpen || t == nil || !t.hasCheckpoint || !t.known || len(t.pending) > 0 {
		return fsutil.FileID{}
	}
	return t.lastSeen
}

// lookForLost finds out whether the disk was away. It notes the phexts that are missing because of that: the
// first repair changes the directory, and the recovery may be cut off then.
func (r *recovery) lookForLost(logs map[string]*fileLog) error {
	j := r.view.j
	if !r.sameBoot || r.cleanStop || !j.isHere() {
		return nil
	}
	r.wentBack = map[string]bool{}
	var missing []string
	for file, log := range logs {
		path := filepath.Join(r.dataDir, file)
		if log == nil || !log.known {
			continue
		}
		if id, err := j.cfg.Links.Identify(path); err == nil && j.cfg.wentBack(path, id, log.lastSeen) {
			r.wentBack[file] = true
			if !id.Exists() {
				missing = append(missing, file)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	all, err := j.unsyncedLocked()
	if err != nil {
		return err
	}
	for _, file := range missing {
		all[file] = true
	}
	r.unsynced = maps.Clone(all)
	return j.saveUnsyncedLocked()
}

// diskWasAway says whether the disk has lost what it had not written.
func (r *recovery) diskWasAway() bool { return len(r.wentBack) > 0 }

// wentBack says whether the file at a path, which is now as id says, was changed last before it was seen
// last, or is another one though it was not changed since: its data have not reached the disk. One that is not there
// was removed when its directory was changed last. A link in its place may lead to another file by now, which says
// nothing; the directory's path may be one that holds it open. If the file was seen in a time to come, the clock was
// put back since, and what is changed now is older.
func (s *settings) wentBack(path string, id, last fsutil.FileID) bool {
	if last.Dev = id.Dev; !last.Exists() || id == last || last.Ctime > s.fileNow().Add(time.Second).UnixNano() {
		return false
	}
	var now unix.Stat_t
	look := unix.Lstat
	if !id.Exists() {
		path, look = filepath.Dir(path), unix.Stat
	}
	if look(path, &now) != nil || now.Mode&unix.S_IFMT == unix.S_IFLNK || id.Exists() && now.Ino != id.Ino {
		return false
	}
	return now.Ctim.Nano() < last.Ctime || id.Exists() && now.Ctim.Nano() == last.Ctime
}
