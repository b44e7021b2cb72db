package journal

import (
	"errors"
	"fmt"
	"os"
)

// Rest flushes, closes all files and forgets what can be read again, until the
// next use. Mutations under way are not harmed.
func (j *Journal) Rest() error {
	j.flush.Lock()
	defer j.flush.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rest()
}

func (j *Journal) rest() error {
	var err error
	if j.seg != nil {
		err = errors.Join(j.syncLast(), j.seg.close())
	}
	j.seg, j.files, j.answers, j.isOpen = nil, nil, nil, false
	return err
}

func (j *Journal) end() error {
	j.flush.Lock()
	defer j.flush.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	return j.rest()
}

func (j *Journal) forget() error {
	j.flush.Lock()
	defer j.flush.Unlock()
	j.reading.Lock()
	defer j.reading.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.rest(); err != nil {
		j.cfg.Logger.Warn("closing a journal that goes", "data_dir", j.data, "error", err)
	}
	j.renew, j.dropped, j.aside = false, 0, nil
	if err := os.RemoveAll(j.dir); err != nil {
		return fmt.Errorf("removing the journal of %s: %w", j.data, err)
	}
	return nil
}
