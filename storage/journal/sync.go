package journal

import (
	"errors"
	"os"
)

// Sync waits until all that was journalled of the mutation so far is on
// disk, as the policy wants it. Off waits only for a checkpoint that is not.
func (p *Pending) Sync() error {
	if p.j.cfg.Sync == Off && p.CheckpointDurable() {
		return nil
	}
	p.mu.Lock()
	upTo := p.upTo
	p.mu.Unlock()
	return p.j.syncUpTo(upTo)
}

// CheckpointDurable says whether the checkpoint that the mutation rests on is on disk:
// whatever a power cut leaves of the file, recovery then has what it held before.
func (p *Pending) CheckpointDurable() bool {
	p.j.mu.Lock()
	defer p.j.mu.Unlock()
	return p.checkpointDurableLocked()
}

// atRisk says whether the file may lose what is not on disk anywhere.
func (p *Pending) atRisk() bool {
	p.j.mu.Lock()
	defer p.j.mu.Unlock()
	t := p.j.files[p.file]
	return !p.checkpointDurableLocked() && (t == nil || !t.emptyCheckpoint)
}

// checkpointDurableLocked is Rooted, called under mu.
func (p *Pending) checkpointDurableLocked() bool {
	j, t := p.j, p.j.files[p.file]
	return j.seg != nil && j.seg.failed == nil && t != nil && t.hasCheckpoint && t.checkpointEnd <= j.synced
}

// syncUpTo is the group commit. The first that comes syncs at once; those who
// come meanwhile wait for the lock, the first of them syncs for all of them, and
// the others find it done.
func (j *Journal) syncUpTo(upTo uint64) error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.lost != nil && upTo > j.lostFrom && upTo <= j.lostUpTo:
		return j.lost
	case upTo <= j.synced:
		return nil
	case j.seg == nil:
		return ErrClosed
	case j.seg.failed != nil:
		return j.seg.failed
	}
	return j.syncLocked(true)
}

// syncLastLocked is the last sync of the newest segment, before it is closed. Also
// what an earlier process wrote may not be on disk yet. Once one has failed
// there is no point in another, and nobody must take the rest for durable.
func (j *Journal) syncLastLocked() error {
	if j.seg.failed != nil {
		j.lostUpTo, j.synced = j.written, j.written
		return nil
	}
	return j.syncLocked(false)
}

// syncLocked makes the newest segment durable, with the checkpoints beside it.
// Called under flush and mu; mu is let go meanwhile if apart is set.
func (j *Journal) syncLocked(apart bool) error {
	s, upTo, fresh := j.seg, j.written, j.seg.unsynced
	s.unsynced = nil
	if apart {
		j.mu.Unlock()
	}
	err := j.syncFiles(s.f, fresh)
	if apart {
		j.mu.Lock()
	}
	if err == nil {
		j.synced = upTo
		return nil
	}
	// What the kernel could not write it forgets: a second sync would say yes.
	s.failed, j.mustRotate = err, true
	j.lost, j.lostFrom, j.lostUpTo = err, j.synced, j.written
	return err
}

func (j *Journal) syncFiles(f *os.File, fresh []*os.File) error {
	var err error
	for _, c := range fresh {
		err = errors.Join(err, j.cfg.Datasync(c), c.Close())
	}
	if len(fresh) > 0 {
		err = errors.Join(err, j.cfg.syncDir(j.dir))
	}
	return errors.Join(err, j.cfg.Datasync(f))
}
