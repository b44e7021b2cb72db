package archive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Purge removes everything that the Store has of tenant id, and nothing of another
// tenant: the archives, whose number it returns, and what interrupted calls left, in
// dataDir too.
// It returns when they are gone from the disk, and it can be repeated.
func (s *Store) Purge(id, dataDir string) (archives int, err error) {
	if err := errors.Join(checkID(id), s.CheckPresent()); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(stagingDir(id, dataDir)); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, fsutil.IgnoreMissing(err)
	}
	for _, e := range entries {
		name := e.Name()
		_, isArchive := archiveTime(id, name)
		if !isArchive && !isPartial(id, name) && name != id+markerSuffix {
			continue
		}
		if removed := remove(filepath.Join(s.dir, name)); removed != nil {
			err = errors.Join(err, removed)
		} else if isArchive {
			archives++
		}
		s.reached("purged one")
	}
	if err = errors.Join(err, fsutil.SyncDir(s.dir), s.mark()); err != nil {
		return archives, fmt.Errorf("purging tenant %q: %w", id, err)
	}
	return archives, nil
}
