package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// A file in the journal's directory says up to where the journal was written
// when it was stopped in order, with all phexts on the disk. If nothing was
// appended since, a power cut cannot have damaged a phext: if one has changed,
// somebody has edited it.

const stopFile = "stopped"

// stopCleanLocked syncs the phexts, and notes a clean stop. It notes nothing while a mutation
// is pending, before the files were recovered, if one of them is not there, as with its disk, or
// if a part of the journal may be lost.
func (j *Journal) stopCleanLocked() error {
	s := j.seg
	if s.clean {
		return nil
	}
	if all, err := j.syncPhextsLocked(); err != nil || !all || s.failed != nil || j.inDoubt {
		return err
	}
	for _, t := range j.files {
		if len(t.pending) > 0 || t.mustRollBack {
			return nil
		}
	}
	if err := j.cfg.replace(filepath.Join(j.dir, stopFile), strings.NewReader(s.position()), 0o600, true); err != nil {
		return fmt.Errorf("noting that the journal was stopped: %w", err)
	}
	s.clean = true
	return nil
}

// stoppedAt says whether the journal was stopped in order at the end of s.
func (j *Journal) stoppedAt(s *segment) (bool, error) {
	b, err := os.ReadFile(filepath.Join(j.dir, stopFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return string(b) == s.position(), err
}

// forgetStopLocked takes the note of a clean stop back, durably, before anything is
// appended. Else a power cut could take that and leave the note, and what SQ was
// writing would pass for an edit.
func (j *Journal) forgetStopLocked() error {
	if !j.seg.clean {
		return nil
	}
	if err := os.Remove(filepath.Join(j.dir, stopFile)); fsutil.IgnoreMissing(err) != nil {
		return err
	}
	if err := j.cfg.syncDir(j.dir); err != nil {
		return err
	}
	j.seg.clean = false
	return nil
}

// position is where the next record goes.
func (s *segment) position() string { return fmt.Sprintf("%d %d\n", s.number, s.end) }
