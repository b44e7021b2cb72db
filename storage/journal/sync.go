package journal

import (
	"errors"
	"fmt"
	"os"
)

// errGone is a segment that was removed or moved away while it was in use.
var errGone = errors.New("the journal is not at its path any more")

// Sync waits until the record of the mutation is as durable as the policy wants.
// It may be called as soon as the mutation is begun: the record of its end need
// not be on disk, because recovery makes a mutation that has begun and not ended.
// With Off it waits only for the checkpoint, if that is not on disk yet.
func (p *Pending) Sync() error {
	if p.j.cfg.Sync == Off && p.CheckpointDurable() {
		return nil
	}
	return p.j.syncUpTo(p.begun)
}

// SyncRefusal waits until no power cut can have recovery make a mutation that
// was refused. With Off it waits, too. If it fails, the error wraps ErrUndecided:
// recovery may make the mutation all the same.
func (p *Pending) SyncRefusal() error {
	p.mu.Lock()
	upTo := max(p.begun, p.ended)
	p.mu.Unlock()
	err := p.j.syncUpTo(upTo)
	if err == nil {
		return nil
	}
	return p.leaveSegment(err)
}

// Refuse is Abort that returns when no power cut can have recovery make the mutation. Its
// error is that of SyncRefusal.
func (p *Pending) Refuse() error {
	if err := p.Abort(); err != nil {
		return p.leaveSegment(err)
	}
	return p.SyncRefusal()
}

// Written is for an answer that has no record of its own, because what was written before has
// made what it says. sync waits until all of that is as durable as the policy wants. The caller
// has the directory locked until Written returns, so that no mutation is pending.
func (j *Journal) Written() (sync func() error) {
	if j.cfg.Sync == Off {
		return func() error { return nil }
	}
	err := j.leaveFailed()
	j.mu.Lock()
	defer j.mu.Unlock()
	upTo := j.written
	return func() error {
		if err != nil {
			return err
		}
		return j.syncUpTo(upTo)
	}
}

// leaveFailed begins a new segment if a sync of the newest one has failed: else nothing in it
// would ever be durable. No mutation may be pending.
func (j *Journal) leaveFailed() error {
	j.mu.Lock()
	failed := j.lost != nil && j.mustRotate
	j.mu.Unlock()
	if !failed {
		return nil
	}
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rotateIfDueLocked()
}

// leaveSegment begins a new segment, because the one that says how the mutation
// ended is not on the disk. Recovery reads the newest segment alone, and that
// does not know the mutation. A file that recovery has to put back needs the old
// segment, which is then kept.
func (p *Pending) leaveSegment(cause error) error {
	j := p.j
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return errors.Join(ErrUndecided, cause, err)
	}
	if j.seg != nil && j.seg.number > p.segment {
		return nil
	}
	if t := j.files[p.file]; t != nil && t.mustRollBack {
		return errors.Join(ErrUndecided, cause)
	}
	if err := j.rotateLocked(); err != nil {
		return errors.Join(ErrUndecided, cause, err)
	}
	return nil
}

// CheckpointDurable says whether the checkpoint of the file is on disk. If it
// is, recovery can restore the state before the mutation, whatever a power cut
// does to the file.
func (p *Pending) CheckpointDurable() bool {
	p.j.mu.Lock()
	defer p.j.mu.Unlock()
	return p.checkpointDurableLocked()
}

// atRisk says whether the file may lose text that is not on disk in the
// journal, or whether SQ may make a file that the journal on the disk does not
// know.
func (p *Pending) atRisk() bool {
	p.j.mu.Lock()
	defer p.j.mu.Unlock()
	return !p.checkpointDurableLocked()
}

// checkpointDurableLocked is CheckpointDurable.
func (p *Pending) checkpointDurableLocked() bool {
	j, t := p.j, p.j.files[p.file]
	return j.seg != nil && j.seg.failed == nil && t != nil && t.hasCheckpoint && t.checkpointEnd <= j.synced
}

// syncUpTo is a group commit. The first caller syncs at once. Those that come
// meanwhile wait for the lock; the first of them syncs for all, and the others
// find it done.
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

// syncLastLocked syncs the newest segment before it is closed, since an earlier
// process may not have synced what it wrote. After a sync has failed it does
// not try again, and nobody is told that the rest is durable.
func (j *Journal) syncLastLocked() error {
	if j.seg.failed != nil {
		j.lostUpTo, j.synced = j.written, j.written
		return nil
	}
	return j.syncLocked(false)
}

// syncLocked syncs the newest segment and its checkpoint files. The caller
// holds syncMu as well as mu. If unlock is set, mu is unlocked meanwhile.
func (j *Journal) syncLocked(unlock bool) error {
	s, upTo, fresh := j.seg, j.written, j.seg.unsynced
	s.unsynced = nil
	if unlock {
		j.mu.Unlock()
	}
	err := j.syncFiles(s.f, fresh)
	if err == nil && unlock && s.goneFrom(j.dir) {
		err = fmt.Errorf("%s: %w", s.f.Name(), errGone)
	}
	if unlock {
		j.mu.Lock()
	}
	if err == nil {
		j.synced = upTo
		return nil
	}
	// The kernel forgets what it could not write: a second sync would succeed.
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
