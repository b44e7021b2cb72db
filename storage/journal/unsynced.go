package journal

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// If a disk fails to write a phext back, the kernel says so once, and takes it for written then: a second sync
// would succeed. So a file of the journal's directory has the names of such phexts, one a line, until Recover
// has written them anew. Until then, no segment ends: only the newest one can bring them back.

const unsyncedFile = "unsynced"

// HasUnsynced says whether Recover is to write a phext anew that its disk has failed to write.
func (j *Journal) HasUnsynced() (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	unsynced, err := j.unsyncedLocked()
	return len(unsynced) > 0, err
}

func (j *Journal) hasUnsynced(name string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.unsynced[name]
}

// unsyncedLocked are the names of the phexts that are to be written anew.
func (j *Journal) unsyncedLocked() (map[string]bool, error) {
	if j.unsynced == nil {
		text, err := fsutil.ReadFile(filepath.Join(j.dir, unsyncedFile))
		if fsutil.IgnoreMissing(err) != nil {
			return nil, err
		}
		j.unsynced = map[string]bool{}
		for name := range strings.SplitSeq(string(text), "\n") {
			if name != "" {
				j.unsynced[name] = true
			}
		}
	}
	return j.unsynced, nil
}

// noteUnsyncedLocked notes that phexts are to be written anew. It always returns an error.
func (j *Journal) noteUnsyncedLocked(names []string) error {
	for _, name := range names {
		j.unsynced[name] = true
	}
	err := fmt.Errorf("%s could not be written to the disk, and has to be written anew", strings.Join(names, ", "))
	return errors.Join(err, j.saveUnsyncedLocked())
}

func (j *Journal) saveUnsyncedLocked() (err error) {
	path := filepath.Join(j.dir, unsyncedFile)
	if len(j.unsynced) == 0 {
		err = fsutil.IgnoreMissing(os.Remove(path))
	} else {
		err = j.cfg.replace(path, strings.NewReader(strings.Join(slices.Sorted(maps.Keys(j.unsynced)), "\n")), 0o600, true)
	}
	if err != nil {
		return fmt.Errorf("noting which phexts are not on the disk: %w", err)
	}
	return nil
}

// writeAnew writes a file that was just recovered once more, if its disk had failed to write it.
func (r *recovery) writeAnew(name string) error {
	j := r.view.j
	if !j.hasUnsynced(name) {
		return nil
	}
	f := &fileRecovery{recovery: r, name: name, place: filepath.Join(r.dataDir, name)}
	now, err := OpenState(j.cfg.Links, f.place)
	if err == nil && now.Exists {
		r.needed = now.Size()
		err = r.replace(f.place, now)
		if err == nil {
			f.id, err = j.cfg.Links.Identify(f.place)
		}
		if err == nil {
			err = f.record(record{kind: seen, id: f.id, idKnown: true})
		}
	}
	if err != nil {
		return err
	}
	j.cfg.Logger.Warn("a phext that could not be written to its disk is written anew", "path", filepath.Join(r.path, name))
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.unsynced, name)
	return j.saveUnsyncedLocked()
}
