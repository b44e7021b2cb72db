package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Report is what Recover found and did.
type Report struct {
	Checked     int      // files that were looked at
	Healed      int      // torn files that were replaced by the right ones
	Completed   int      // mutations under way that stand in the file now
	Kept        int      // edits from outside
	Dropped     int64    // bytes of the journal that could not be read
	Quarantined []string // paths of what was set aside
}

// Recover makes the files what the journal says, after a crash of SQ or of
// sqgate. No SQ may run on the data_dir, and nobody else change it or the
// journal. A file that cannot be put right is in the error; the others are
// right nevertheless. If it is stopped, the next call finishes it.
func (j *Journal) Recover(ctx context.Context) (report Report, err error) {
	if err := j.removeTemporary(); err != nil {
		return Report{}, err
	}
	v, err := j.view(true)
	if err != nil {
		return Report{}, err
	}
	report, err = v.recoverAll(ctx)
	v.close()
	report.Dropped, report.Quarantined = j.takeDamage(report.Quarantined)
	if err != nil {
		return report, fmt.Errorf("recovering %s: %w", j.dataDir, err)
	}
	return report, j.afterRecovery()
}

func (v *view) recoverAll(ctx context.Context) (report Report, err error) {
	if len(v.segments) == 0 {
		return Report{}, nil
	}
	r := v.j.recovery(v, &report)
	all, err := v.fileLogs(r.o)
	if err != nil {
		return report, err
	}
	told := time.Now()
	for i, file := range slices.Sorted(maps.Keys(all)) {
		if ctx.Err() != nil {
			return report, errors.Join(err, ctx.Err())
		}
		if failed := r.file(file, all[file]); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", file, failed))
		}
		if time.Since(told) > time.Second {
			told = time.Now()
			v.j.cfg.Logger.Info("recovering", "data_dir", v.j.dataDir, "files", i+1, "of", len(all))
		}
	}
	return report, err
}

func (j *Journal) sameBoot() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seg != nil && j.seg.boot == j.cfg.BootID
}

// takeDamage hands over what was found wrong with the journal itself.
func (j *Journal) takeDamage(aside []string) (int64, []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, all := j.damaged, append(j.quarantinedPaths, aside...)
	j.damaged, j.quarantinedPaths = 0, nil
	return n, all
}

// afterRecovery begins a segment for this run of the kernel, so that the next
// start need not read every file again, and makes durable what the process
// before this one wrote and may not have synced.
func (j *Journal) afterRecovery() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil || j.seg == nil {
		return err
	}
	if j.seg.boot != j.cfg.BootID && len(j.files) > 0 {
		return j.rotateLocked()
	}
	if err := j.syncCheckpointsLocked(); err != nil {
		return err
	}
	return j.syncLocked(false)
}

func (j *Journal) syncCheckpointsLocked() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, isSegment, ok := parseFileName(e.Name()); ok && !isSegment && n == j.seg.number {
			err = errors.Join(err, syncFile(filepath.Join(j.dir, e.Name()), j.cfg.Datasync))
		}
	}
	return errors.Join(err, fsutil.SyncDir(j.dir))
}

// removeTemporary removes files that were never finished.
func (j *Journal) removeTemporary() error {
	for _, dir := range []string{j.dataDir, j.dir} {
		entries, err := os.ReadDir(dir)
		if err != nil && !missing(err) {
			return err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), fsutil.Temporary) || !e.Type().IsRegular() {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !missing(err) {
				return err
			}
		}
	}
	return nil
}
