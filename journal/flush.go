package journal

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// flusher brings what was appended to the disk, for many at a time: whoever
// comes while a flush is under way waits for the next, which is for all of them.
type flusher struct {
	appended uint64 // bytes ever appended; under the journal's lock
	beside   []*os.File

	mu      sync.Mutex // held while a flush is under way
	flushed uint64
}

// Flushed returns when the mutation is as safe as the policy wants.
func (p *Pending) Flushed() error {
	j := p.journal
	if j.set.config.Sync == Off {
		return nil
	}
	j.flush.mu.Lock()
	defer j.flush.mu.Unlock()
	if j.flush.flushed >= p.upTo {
		return nil
	}
	j.mu.Lock()
	if err := j.reopen(); err != nil {
		j.mu.Unlock()
		return err
	}
	// The segment that is open now holds all that is not on the disk: the one
	// before was flushed when it ended. A second handle outlives its closing.
	file, err := os.Open(j.file.Name())
	upTo, beside := j.flush.appended, j.flush.beside
	j.flush.beside = nil
	j.mu.Unlock()
	if err != nil {
		return err
	}
	err = errors.Join(syncAll(j.set, beside), j.set.sync(file), file.Close())
	if err == nil {
		j.flush.flushed = max(j.flush.flushed, upTo)
	}
	return err
}

func syncAll(s *Set, files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, s.sync(f), f.Close())
	}
	return errors.Join(errs...)
}

// all brings everything to the disk. The caller has the journal's lock.
func (f *flusher) all(j *Journal) error {
	beside := f.beside
	f.beside = nil
	if j.set.config.Sync == Off {
		var errs []error
		for _, b := range beside {
			errs = append(errs, b.Close())
		}
		return errors.Join(errs...)
	}
	return errors.Join(syncAll(j.set, beside), j.set.sync(j.file))
}

func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
