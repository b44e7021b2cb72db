package journal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// IsLeft says whether all who have had the data_dir have another one now, as far as that is
// noted, and none of them is among those who have it now.
func (j *Journal) IsLeft(now Owners) (bool, error) {
	n, err := j.cfg.noteOf(j.dir)
	return n != nil && len(n.Tenants) == 0 && !slices.ContainsFunc(now.Tenants, n.knows), err
}

// HaveMoved says which tenants, by UniqueID, are noted only at other data_dirs than theirs.
func (s *Set) HaveMoved(dataDirs map[string]string) (moved map[string]bool, err error) {
	s.cfg.owners.mu.Lock()
	defer s.cfg.owners.mu.Unlock()
	moved, err = map[string]bool{}, s.cfg.readNotesLocked()
	for _, n := range s.cfg.owners.of {
		for _, t := range slices.Concat(n.Tenants, n.Away) {
			moved[t] = true
		}
	}
	for t, dataDir := range dataDirs {
		if n := s.cfg.owners.of[filepath.Join(s.cfg.Dir, dirName(dataDir))]; n != nil && slices.Contains(n.Tenants, t) {
			delete(moved, t)
		}
	}
	return moved, err
}

// LeftBy finds what there is of a tenant, by its UniqueID, in the journals of all data_dirs.
// Those of only are its own: nobody else has had the data_dir since the journal began for it. Those of
// earlier are of somebody else now, and may have segments from before that. It is an error if a note cannot
// be read: it may be that of such a journal.
func (s *Set) LeftBy(tenant string) (only, earlier []string, err error) {
	paths := map[string]string{} // by the journal's directory; one that was never written has no file that says it
	s.mu.Lock()
	for _, j := range s.journals {
		paths[j.dir] = j.dataDir
	}
	s.mu.Unlock()
	s.cfg.owners.mu.Lock()
	defer s.cfg.owners.mu.Unlock()
	if err := s.cfg.readNotesLocked(); err != nil {
		return nil, nil, err
	}
	for _, damage := range s.cfg.owners.damaged {
		err = errors.Join(err, damage)
	}
	for dir, n := range s.cfg.owners.of {
		isOnly := n.isOnlyOf(tenant)
		if !isOnly && n.From == 0 {
			continue
		}
		path := paths[dir]
		if path == "" {
			var unread error
			if path, unread = dataDirOf(dir); unread != nil { // without the file, it was not completely created, and has no records
				err = errors.Join(err, fsutil.IgnoreMissing(unread))
				continue
			}
		}
		if isOnly {
			only = append(only, path)
		} else {
			earlier = append(earlier, path)
		}
	}
	return only, earlier, err
}

func (n *ownerNote) isOnlyOf(tenant string) bool {
	return n.knows(tenant) && !slices.ContainsFunc(slices.Concat(n.Tenants, n.Away), func(t string) bool { return t != tenant })
}

// PurgeEarlier removes the segments from before the journal began for those who have it now, if they
// have a record of a tenant, by its UniqueID. Nobody sees them any more.
func (j *Journal) PurgeEarlier(tenant string) error {
	j.pruneMu.RLock()
	defer j.endReading()
	n, err := j.cfg.noteOf(j.dir)
	if n == nil || err != nil {
		return err
	}
	numbers, _, err := segments(j.dir)
	for _, number := range numbers {
		if number >= n.From {
			break
		}
		has, e := j.segmentNames(number, tenant)
		if has && e == nil {
			e = j.removeSegment(number)
		}
		err = errors.Join(err, e)
	}
	return errors.Join(err, fsutil.IgnoreMissing(j.cfg.syncDir(j.dir)))
}

// segmentNames says whether a segment has a record of a tenant.
func (j *Journal) segmentNames(number uint64, tenant string) (has bool, err error) {
	f, err := fsutil.Open(filepath.Join(j.dir, segmentName(number)))
	if err != nil {
		return false, err
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	_, err = walkRecords(f, info.Size(), func(r record) error {
		return r.each(func(r record) error { has = has || r.m.Tenant == tenant; return nil })
	})
	return has, err
}

// removeSegment removes a segment with its checkpoints, and those first: without it, nothing
// would say whose they are.
func (j *Journal) removeSegment(number uint64) error {
	entries, err := os.ReadDir(j.dir)
	for _, e := range entries {
		if n, isSegment, ok := parseFileName(e.Name()); ok && n == number && !isSegment {
			err = errors.Join(err, os.Remove(filepath.Join(j.dir, e.Name())))
		}
	}
	if err != nil {
		return err
	}
	return os.Remove(filepath.Join(j.dir, segmentName(number)))
}
