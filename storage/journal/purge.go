package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	aside := j.dir + purgedSuffix
	if err := os.RemoveAll(aside); err != nil { // of an interrupted call
		return err
	}
	if err := j.remove(func(dir string) error { return os.Rename(dir, aside) }); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(aside), fsutil.IgnoreMissing(j.cfg.syncDir(j.cfg.Dir)))
}

// remove has rename give the directory of the journal another name, if there is one, and
// forgets what was there.
func (j *Journal) remove(rename func(dir string) error) error {
	j.pruneMu.Lock()
	defer j.pruneMu.Unlock()
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	if err := j.suspendLocked(); fsutil.IgnoreMissing(err) != nil { // somebody may have removed it
		return err
	}
	if err := fsutil.IgnoreMissing(rename(j.dir)); err != nil {
		return err
	}
	j.cfg.dropNote(j.dir)
	j.from, j.claim = 0, nil
	j.mustRotate, j.changes.announced, j.changes.last, j.sealer = false, place{}, Position{}, nil
	j.pruneDue.Store(false)
	return fsutil.IgnoreMissing(j.cfg.syncDir(j.cfg.Dir))
}

// SetAside moves the journal of a data_dir to the quarantine, and then files of the data_dir,
// to which the path at leads: they are an earlier tenant's. No mutation may be pending. The
// journal can be used again afterwards, and knows of nothing. After an error it can be
// repeated.
func (s *Set) SetAside(dataDir, at string, files []string) error {
	const reason = "earlier-tenant"
	j, err := s.Of(dataDir)
	if err != nil {
		return err
	}
	err = j.remove(func(dir string) error {
		if err := makeDir(j.cfg.Quarantine); err != nil {
			return err
		}
		return j.moveToQuarantine(dir, reason)
	})
	if err != nil {
		return fmt.Errorf("setting the journal of %s aside: %w", j.dataDir, err)
	}
	for _, file := range files {
		if err := j.setFileAside(at, file, reason); err != nil {
			return fmt.Errorf("setting %s aside: %w", file, err)
		}
	}
	return fsutil.IgnoreMissing(j.cfg.syncDir(at))
}

func (j *Journal) setFileAside(at, file, reason string) error {
	path := filepath.Join(at, file)
	in, _, err := j.cfg.Links.Open(path)
	if err != nil {
		return fsutil.IgnoreMissing(err)
	}
	_, err = j.quarantine(in, reason, file)
	if err = errors.Join(err, in.Close()); err != nil {
		return err
	}
	return os.Remove(path)
}
