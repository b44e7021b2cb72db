package journal

import "errors"

// Suspend flushes, closes all files and forgets what can be read again, until the
// next use. Mutations under way are not harmed.
func (j *Journal) Suspend() error {
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
