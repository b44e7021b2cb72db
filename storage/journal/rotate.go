package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

const segmentAge = 24 * time.Hour

// lockReady makes sure that there is a segment to append to, and rotates if
// that is due, or its format is older than the one that is needed. It returns with mu
// locked, unless it fails. Only a new mutation or edit may call it: a segment never ends
// while a mutation in it is pending.
func (j *Journal) lockReady(format byte) error {
	j.mu.Lock()
	if err := j.openLocked(); err != nil {
		j.mu.Unlock()
		return err
	}
	j.format = max(j.format, format)
	if !j.rotationDueLocked() {
		return nil
	}
	j.mu.Unlock()
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	ready := false
	defer func() {
		if !ready { // also after a panic, which the process outlives
			j.mu.Unlock()
		}
	}()
	err := j.rotateIfDueLocked()
	ready = err == nil
	return err
}

func (j *Journal) rotateIfDueLocked() error {
	if err := j.openLocked(); err != nil || !j.rotationDueLocked() {
		return err
	}
	return j.rotateLocked()
}

// rotationDueLocked says whether the next mutation belongs in a new segment.
func (j *Journal) rotationDueLocked() bool {
	if j.seg == nil || j.mustRotate || j.seg.format < j.format || j.seg.goneFrom(j.dir) {
		return true
	}
	records := j.seg.end - j.seg.inlineBytes
	return records >= max(j.cfg.segmentMax, j.seg.checkpointBytes) || j.cfg.Now().UnixNano()-j.seg.created > int64(segmentAge)
}

// rotateLocked ends the newest segment and begins another. The caller holds
// syncMu as well as mu.
func (j *Journal) rotateLocked() error {
	if err := j.establishDir(j.seg != nil && j.seg.goneFrom(j.dir)); err != nil {
		return err
	}
	if err := j.makeDurableLocked(); err != nil {
		return err
	}
	if idAt(j.dataDir) == "" { // a copy may have overwritten it
		j.stamp(j.dataDir)
	}
	_, highest, err := segments(j.dir)
	if err != nil {
		return err
	}
	if j.seg != nil && j.seg.number > highest {
		j.cfg.Logger.Error("the journal was removed while it was in use: a new one was begun, and the history is lost",
			"data_dir", j.dataDir, "path", j.dir)
		highest = j.seg.number
	}
	next, err := j.createSegmentLocked(max(highest+1, j.from)) // those before from are of others
	if err != nil {
		return err
	}
	if j.seg != nil {
		j.changes.rotated = j.seg.place()
		if err := j.seg.close(); err != nil {
			j.cfg.Logger.Error("closing a segment of the journal", "data_dir", j.dataDir, "error", err)
		}
	}
	j.seg, j.mustRotate = next, false
	j.written += uint64(next.end) // so that nothing from here on is within what a failed sync has lost
	j.synced = j.written
	if err := j.prune(); err != nil {
		j.cfg.Logger.Error("pruning the journal", "data_dir", j.dataDir, "error", err)
	}
	oldest := next.number
	if numbers, _, err := segments(j.dir); err == nil && len(numbers) > 0 {
		oldest = numbers[0]
	}
	j.files = carryOver(j.files, oldest)
	j.saveSeen(next.number, j.files)
	return nil
}

// makeDurableLocked syncs what recovery could bring back only from the newest
// segment, because recovery reads no older one: the records, the phexts, which
// SQ never syncs, and the answers to Idempotency-Keys.
func (j *Journal) makeDurableLocked() error {
	if j.seg == nil {
		return nil
	}
	if err := j.syncLastLocked(); err != nil {
		return err
	}
	_, back, err := j.syncPhextsLocked()
	if err != nil {
		return err
	}
	if len(back) > 0 {
		return j.noteUnsyncedLocked(back)
	}
	return j.saveAnswersLocked()
}

// syncPhextsLocked syncs the phexts that the newest segment can bring back. all says that none is
// gone that was there when it was seen last, unless somebody has removed it, and back which of them their
// disk has lost since. One that may not be opened keeps no other from being written: the operator has to see to it.
func (j *Journal) syncPhextsLocked() (all bool, back []string, err error) {
	if len(j.files) == 0 {
		return true, nil, nil
	}
	unsynced, err := j.unsyncedLocked()
	if err != nil {
		return false, nil, err
	}
	all = true
	var failed []string
	for name, t := range j.files {
		if !t.hasCheckpoint {
			continue
		}
		there, err := j.syncPhext(j.dataDir, name)
		path := filepath.Join(j.dataDir, name)
		id, unknown := j.cfg.Links.Identify(path)
		switch mayOpen := !errors.Is(err, fs.ErrPermission); {
		case unknown == nil && j.claim == nil && j.cfg.wentBack(path, id, j.lastSeenLocked(name)) && j.isHere():
			all, back = false, append(back, name)
			continue
		case there && mayOpen && (err != nil || unsynced[name]):
			failed = append(failed, name)
			continue
		case there && mayOpen:
			continue
		}
		switch _, gone := os.Lstat(path); {
		case errors.Is(err, fs.ErrPermission) && gone == nil:
			j.cfg.Logger.Warn("a phext may not be opened, so it may not be on the disk", "path", path, "error", err)
		case err != nil:
			return false, nil, err
		case errors.Is(gone, fs.ErrNotExist) && j.isHere():
			continue
		}
		all = all && t.known && !t.lastSeen.Exists()
	}
	if len(failed) > 0 {
		return false, nil, j.noteUnsyncedLocked(failed)
	}
	if err := j.cfg.syncDir(j.dataDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, nil, fmt.Errorf("syncing %s: %w", j.dataDir, err)
	}
	return all, back, nil
}

// isHere says whether the directory at the data_dir is the one that is noted. What is not in it
// was removed, and is on no disk that is away.
func (j *Journal) isHere() bool {
	n, err := j.cfg.noteOf(j.dir)
	birth, unknown := fsutil.BirthOf(j.dataDir)
	return err == nil && unknown == nil && n != nil && n.Directory != "" && n.Directory == birth.String() || j.HasWritten(j.dataDir)
}

// syncPhext syncs a file of the data_dir, to which the path at leads.
func (j *Journal) syncPhext(at, name string) (there bool, err error) {
	if there, err = syncFile(j.cfg.Links, filepath.Join(at, name), j.cfg.syncPhext); err != nil {
		err = fmt.Errorf("syncing %s: %w", name, err)
	}
	return there, err
}

// syncFile syncs a file. One that is gone, or that is no phext's file any more, is left out.
func syncFile(links fsutil.Links, path string, sync func(*os.File) error) (there bool, err error) {
	f, _, err := links.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsutil.ErrNotRegular) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(sync(f), f.Close())
}

// prune removes the oldest segments that are beyond the history or the limit.
// While somebody reads them, it leaves that to whoever is the last one.
func (j *Journal) prune() error {
	if !j.pruneMu.TryLock() {
		j.pruneDue.Store(true)
		if !j.pruneMu.TryLock() { // else the last one has ended just before it could see that
			return nil
		}
	}
	defer j.pruneMu.Unlock()
	j.pruneDue.Store(false)
	numbers, _, err := segments(j.dir)
	if err != nil || len(numbers) == 0 {
		return err
	}
	oldest, err := j.oldest(numbers)
	if err != nil {
		return err
	}
	return j.removeSegmentsBefore(oldest)
}

// IsPruneDue says whether old segments are to be removed, and somebody still reads them.
// Whoever reads for anybody, again and again, does not begin then.
func (j *Journal) IsPruneDue() bool { return j.pruneDue.Load() }

// endReading gives pruneMu back, and removes what its holder kept from being removed.
func (j *Journal) endReading() {
	j.pruneMu.RUnlock()
	if !j.pruneDue.Load() {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	if err := j.prune(); err != nil {
		j.cfg.Logger.Error("pruning the journal", "data_dir", j.dataDir, "error", err)
	}
}

// oldest is the number of the first segment to keep.
func (j *Journal) oldest(numbers []uint64) (uint64, error) {
	of, total, err := diskUsage(j.dir)
	if err != nil {
		return 0, err
	}
	last := len(numbers) - 1
	for i := range last {
		past, err := j.beyondHistory(numbers[i+1])
		if err != nil {
			return 0, err
		}
		if over := j.cfg.Limit > 0 && total > j.cfg.Limit; !past && !over {
			return numbers[i], nil
		}
		total -= of[numbers[i]]
	}
	return numbers[last], nil
}

// beyondHistory says whether everything before segment number is older than the
// history.
func (j *Journal) beyondHistory(number uint64) (bool, error) {
	f, err := fsutil.Open(filepath.Join(j.dir, segmentName(number)))
	if err != nil {
		return false, err
	}
	head, ok, err := readHeader(f)
	return ok && head.time <= j.lastTime-int64(j.cfg.History), errors.Join(err, f.Close())
}

// removeSegmentsBefore removes the segments and checkpoints before number, including
// those that an earlier call could not remove.
func (j *Journal) removeSegmentsBefore(number uint64) error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, _, ok := parseFileName(e.Name()); ok && n < number {
			err = errors.Join(err, os.Remove(filepath.Join(j.dir, e.Name())))
		}
	}
	return err
}
