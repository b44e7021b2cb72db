package journal

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"

	"mirrorborn.us/sqgate/internal/fsutil"
)

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

// knownDirs are the data_dirs of the journals that were asked for, by the journal's directory: one that
// was never written has no file that says it.
type knownDirs map[string]string

func (s *Set) knownDirs() knownDirs {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := knownDirs{}
	for _, j := range s.journals {
		known[j.dir] = j.dataDir
	}
	return known
}

// of is the data_dir of the journal in a directory.
func (k knownDirs) of(dir string) (string, error) {
	if path := k[dir]; path != "" {
		return path, nil
	}
	return dataDirOf(dir)
}

// LeftBy finds what there is of a tenant, by its UniqueID, in the journals of all data_dirs.
// Those of only are its own: nobody else has had the data_dir since the journal began for it. Those of
// earlier are of somebody else now, and may have segments from before that. It is an error if a note cannot
// be read: it may be that of such a journal.
func (s *Set) LeftBy(tenant string) (only, earlier []string, err error) {
	known := s.knownDirs()
	s.cfg.owners.mu.Lock()
	defer s.cfg.owners.mu.Unlock()
	if err := s.cfg.readNotesLocked(); err != nil {
		return nil, nil, err
	}
	for dir := range maps.Clone(s.cfg.owners.damaged) {
		s.cfg.readNoteLocked(dir) // somebody may have put it right
		err = errors.Join(err, s.cfg.owners.damaged[dir])
	}
	for dir, n := range s.cfg.owners.of {
		isOnly := n.knows(tenant) && !n.knowsOthers(tenant)
		if !isOnly && n.From == 0 {
			continue
		}
		path, unread := known.of(dir)
		if unread != nil { // without the file, it was not completely created, and has no records
			err = errors.Join(err, fsutil.IgnoreMissing(unread))
			continue
		}
		if isOnly {
			only = append(only, path)
		} else {
			earlier = append(earlier, path)
		}
	}
	return only, earlier, err
}

// PurgeEarlier removes what is from before the journal began for those who have it now. Nobody
// sees that any more.
func (j *Journal) PurgeEarlier() error {
	j.pruneMu.Lock()
	defer j.pruneMu.Unlock()
	n, err := j.cfg.noteOf(j.dir)
	if n == nil || err != nil {
		return err
	}
	if err := j.removeSegmentsBefore(n.From); err != nil {
		return fsutil.IgnoreMissing(err) // one that was only read has no directory
	}
	return j.cfg.syncDir(j.dir)
}

// IsOfAnother says whether the directory that the journal is noted for is not the one at a path, as far
// as its file system tells them apart.
func (j *Journal) IsOfAnother(at string) bool {
	n, err := j.cfg.noteOf(j.dir)
	if n == nil || err != nil || n.Directory == "" {
		return false
	}
	birth, err := fsutil.BirthOf(at)
	return err == nil && birth.String() != n.Directory
}
