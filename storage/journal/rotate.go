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

// ready opens the journal, with a segment to write to, and returns with mu
// held unless it fails. Only a mutation that begins may come here: a segment
// never ends under one that is under way.
func (j *Journal) ready() error {
	j.mu.Lock()
	if err := j.open(); err != nil {
		j.mu.Unlock()
		return err
	}
	if !j.due() {
		return nil
	}
	j.mu.Unlock()
	j.flush.Lock()
	defer j.flush.Unlock()
	j.mu.Lock()
	if err := j.renewed(); err != nil {
		j.mu.Unlock()
		return err
	}
	return nil
}

func (j *Journal) renewed() error {
	if err := j.open(); err != nil || !j.due() {
		return err
	}
	return j.turn()
}

// due says whether the next mutation belongs in another segment.
func (j *Journal) due() bool {
	if j.seg == nil || j.renew {
		return true
	}
	records := j.seg.end - j.seg.inline
	return records >= max(j.cfg.rotate, j.seg.heavy) || j.cfg.Now().UnixNano()-j.seg.created > int64(segmentAge)
}

// turn ends the newest segment and begins another. Called under flush and mu.
func (j *Journal) turn() error {
	if err := j.retire(); err != nil {
		return err
	}
	_, highest, err := segments(j.dir)
	if err != nil {
		return err
	}
	next, err := j.create(highest + 1)
	if err != nil {
		return err
	}
	if j.seg != nil {
		if err := j.seg.close(); err != nil {
			j.cfg.Logger.Error("closing a segment of the journal", "data_dir", j.data, "error", err)
		}
	}
	j.seg, j.files, j.renew = next, carried(j.files), false
	if err := j.prune(); err != nil {
		j.cfg.Logger.Error("pruning the journal", "data_dir", j.data, "error", err)
	}
	return nil
}

// carried is what stays known of files when a segment ends.
func carried(files map[string]*trace) map[string]*trace {
	next := map[string]*trace{}
	for file, t := range files {
		if t.sure && len(t.open) == 0 {
			next[file] = &trace{left: t.left, sure: true}
		}
	}
	return next
}

// retire makes durable what only the newest segment could bring back, since
// recovery looks no further: its records, the phexts that SQ wrote without ever
// syncing them, and the answers.
func (j *Journal) retire() error {
	if j.seg == nil {
		return nil
	}
	if err := j.syncLast(); err != nil {
		return err
	}
	if err := j.settle(); err != nil {
		return err
	}
	return j.saveAnswers()
}

func (j *Journal) settle() error {
	if len(j.files) == 0 {
		return nil
	}
	for name, t := range j.files {
		if !t.based {
			continue
		}
		if err := syncFile(filepath.Join(j.data, name), j.cfg.settle); err != nil {
			return fmt.Errorf("syncing %s: %w", name, err)
		}
	}
	if err := fsutil.SyncDir(j.data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("syncing %s: %w", j.data, err)
	}
	return nil
}

func syncFile(path string, sync func(*os.File) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(sync(f), f.Close())
}

// prune removes the oldest segments that are past the history or the limit,
// unless somebody reads them: then the next rotation does.
func (j *Journal) prune() error {
	if !j.reading.TryLock() {
		return nil
	}
	defer j.reading.Unlock()
	numbers, _, err := segments(j.dir)
	if err != nil || len(numbers) == 0 {
		return err
	}
	oldest, err := j.oldest(numbers)
	if err != nil {
		return err
	}
	return j.removeBefore(oldest)
}

// oldest is the first segment that is to be kept.
func (j *Journal) oldest(numbers []uint64) (uint64, error) {
	of, total, err := sizes(j.dir)
	if err != nil {
		return 0, err
	}
	last := len(numbers) - 1
	for i := range last {
		past, err := j.past(numbers[i+1])
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

// past says whether all before segment number is further back than the history.
func (j *Journal) past(number uint64) (bool, error) {
	f, err := os.Open(filepath.Join(j.dir, segmentName(number)))
	if err != nil {
		return false, err
	}
	head, ok, err := header(f)
	return ok && head.time <= j.last-int64(j.cfg.History), errors.Join(err, f.Close())
}

// removeBefore removes segments and checkpoints, also those that an earlier
// call left over.
func (j *Journal) removeBefore(number uint64) error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, _, ok := numbered(e.Name()); ok && n < number {
			err = errors.Join(err, os.Remove(filepath.Join(j.dir, e.Name())))
		}
	}
	return err
}
