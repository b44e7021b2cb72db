package journal

import (
	"errors"
	"os"
	"path/filepath"
)

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
