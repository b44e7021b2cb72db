package journal

import (
	"errors"
	"fmt"
	"os"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// purgedSuffix marks the directory of a journal that is being removed.
const purgedSuffix = ".purged"

// Purge removes the journal of a data_dir, which must hold no phexts. No mutation
// may be pending. The journal can be used again afterwards, and knows of nothing.
//
// The directory is renamed first. Otherwise a crash could leave only old segments,
// and recovery would bring back phexts from them.
func (s *Set) Purge(dataDir string) error {
	j, err := s.Of(dataDir)
	if err != nil {
		return err
	}
	if err := j.purge(); err != nil {
		return fmt.Errorf("removing the journal of %s: %w", j.dataDir, err)
	}
	return nil
}

func (j *Journal) purge() error {
	j.pruneMu.Lock()
	defer j.pruneMu.Unlock()
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	if err := j.suspendLocked(); err != nil {
		return err
	}
	aside := j.dir + purgedSuffix
	if err := os.RemoveAll(aside); err != nil { // of an interrupted call
		return err
	}
	if err := fsutil.IgnoreMissing(os.Rename(j.dir, aside)); err != nil {
		return err
	}
	j.mustRotate, j.changes.announced, j.changes.last, j.sealer = false, place{}, Position{}, nil
	j.pruneDue.Store(false)
	return errors.Join(fsutil.IgnoreMissing(j.cfg.syncDir(j.cfg.Dir)), os.RemoveAll(aside), fsutil.IgnoreMissing(j.cfg.syncDir(j.cfg.Dir)))
}
