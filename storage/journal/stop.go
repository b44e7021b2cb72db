package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// A file in the journal's directory says up to where the journal was written
// when it was stopped in order, with all phexts on the disk. If nothing was
// appended since but what a recovery found, a power cut cannot have damaged a
// phext: if one has changed, somebody has edited it.

const stopFile = "stopped"

// stopCleanLocked syncs the phexts, and notes a clean stop. It notes nothing while a mutation
// is pending, before the files were recovered, if one of them is not there, as with its disk, or
// if a part of the journal may be lost.
func (j *Journal) stopCleanLocked() error {
	s := j.seg
	if s.stopped == s.position() {
		return nil
	}
	if all, _, err := j.syncPhextsLocked(); err != nil || !all || s.failed != nil || j.inDoubt {
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
	s.stopped = s.position()
	return nil
}

// stoppedAt is the position in s at which the journal was stopped in order, as it is noted; "" =
// it was not. What is behind it, a recovery has found: whatever else is appended takes the note
// back first.
func (j *Journal) stoppedAt(s *segment) (position string, err error) {
	b, err := fsutil.ReadFile(filepath.Join(j.dir, stopFile))
	var number uint64
	var end int64
	if _, bad := fmt.Sscanf(string(b), "%d %d\n", &number, &end); err != nil || bad != nil || number != s.number || end > s.end {
		return "", fsutil.IgnoreMissing(err)
	}
	return string(b), nil
}

// forgetStopLocked takes the note of a clean stop back, durably, before anything is
// appended. Else a power cut could take that and leave the note, and what SQ was
// writing would pass for an edit. A recovery, during which no SQ writes, leaves the note: if it
// is cut off, the next one needs it.
func (j *Journal) forgetStopLocked() error {
	if j.seg.stopped == "" || j.recovering {
		return nil
	}
	if err := os.Remove(filepath.Join(j.dir, stopFile)); fsutil.IgnoreMissing(err) != nil {
		return err
	}
	if err := j.cfg.syncDir(j.dir); err != nil {
		return err
	}
	j.seg.stopped = ""
	return nil
}

// position is where the next record goes.
func (s *segment) position() string { return fmt.Sprintf("%d %d\n", s.number, s.end) }
