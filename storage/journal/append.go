package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// Pending is a mutation that was begun, or a batch of them.
type Pending struct {
	j       *Journal
	file    string
	segment uint64
	first   uint64 // sequence number of the first mutation
	count   int
	whole   bool   // all of them happen, or none
	begun   uint64 // value of Journal.written after the records of the mutations
	created int64  // of the segment
	offset  int64  // of the first of these records in the segment

	mu    sync.Mutex
	ended uint64 // value of Journal.written after the records of their end; 0 = not ended
	time  int64  // of the last of these records, in nanoseconds since 1970
	end   int64  // of the last of these records in the segment
}

// Begin records m before anybody carries it out. If the newest segment has no checkpoint of
// the file, or nobody knows whether the file is what the segment says, Begin asks before for
// the current state; before must not call the journal.
//
// When Begin returns, the state that the file may lose is on disk. With the
// policy Always, so is the record of m. If Begin fails, the mutation must not be
// carried out, and recovery will not make it, unless the error wraps
// ErrUndecided. The error wraps ENOSPC if the disk is full.
func (j *Journal) Begin(m Mutation, before func() (State, error)) (*Pending, error) {
	return j.BeginBatch([]Mutation{m}, before)
}

// BeginBatch is Begin for several mutations of one file that end together. Those of
// one scroll are carried out at once, as what they make of it in their order; the
// scrolls in any order. The mutations must be of scrolls, and their texts must have no
// delimiters; otherwise the error is ErrBatch.
func (j *Journal) BeginBatch(all []Mutation, before func() (State, error)) (*Pending, error) {
	return j.begin(all, false, before)
}

// BeginAll is BeginBatch for mutations that happen all or not at all, whatever happens at
// any moment: they are one record, and so is their end. The segment is of a format that
// an older sqgate refuses.
func (j *Journal) BeginAll(all []Mutation, before func() (State, error)) (*Pending, error) {
	return j.begin(all, true, before)
}

func (j *Journal) begin(all []Mutation, whole bool, before func() (State, error)) (*Pending, error) {
	if err := checkBatch(all); err != nil {
		return nil, err
	}
	p, err := j.start(all, whole, before)
	if err != nil {
		return nil, err
	}
	if j.cfg.Sync != Always && !p.atRisk() {
		return p, nil
	}
	if err := j.syncUpTo(p.begun); err != nil {
		return nil, errors.Join(err, p.Refuse())
	}
	return p, nil
}

func (j *Journal) start(all []Mutation, whole bool, before func() (State, error)) (*Pending, error) {
	format := byte(formatPlain)
	if whole {
		format = formatWhole
	}
	if err := j.lockReady(format); err != nil {
		return nil, err
	}
	defer j.mu.Unlock()
	file, records := all[0].File, make([]record, 0, len(all)+1)
	if t := j.files[file]; t == nil || !t.hasCheckpoint || !t.known || len(t.pending) > 0 || t.mustRollBack {
		state, err := before()
		if err != nil {
			return nil, fmt.Errorf("reading %s for its checkpoint: %w", file, err)
		}
		c, err := j.checkpointLocked(file, state)
		if err != nil {
			return nil, err
		}
		records = append(records, c)
	}
	first := j.seg.seq + uint64(len(records)) + 1
	if whole {
		records = append(records, beginAll(all, j.tickLocked(), first))
	} else {
		for i, m := range all {
			records = append(records, record{kind: begun, time: j.tickLocked(), seq: first + uint64(i), m: m})
		}
	}
	if err := j.appendLocked(records...); err != nil {
		return nil, errors.Join(err, j.dropCheckpointLocked(records[0].content, records[0].seq))
	}
	at := len(records) - len(all)
	if whole {
		at = len(records) - 1
	}
	return &Pending{
		j: j, file: file, segment: j.seg.number, first: first, count: len(all), whole: whole, begun: j.written,
		created: j.seg.created, offset: records[at].offset,
	}, nil
}

func (j *Journal) checkpointLocked(file string, state State) (record, error) {
	r := record{kind: checkpoint, time: j.tickLocked(), seq: j.seg.seq + 1, m: Mutation{File: file}}
	if t := j.files[file]; t != nil && len(t.pending) == 0 {
		r.id, r.idKnown = t.lastSeen, t.known // known from the segment before
	}
	var err error
	r.content, err = j.writeCheckpointLocked(state, r.seq)
	return r, err
}

// RecordEdit records that somebody else changed the file: its state now, and
// its identity. Errors: ErrWentBack.
func (j *Journal) RecordEdit(file string, now State, id fsutil.FileID) error {
	if err := checkName(file); err != nil {
		return err
	}
	if err := j.lockReady(formatPlain); err != nil {
		return err
	}
	defer j.mu.Unlock()
	if j.cfg.wentBack(filepath.Join(j.dataDir, file), id, j.lastSeenLocked(file)) && j.isHere() {
		return ErrWentBack
	}
	return j.recordEditLocked(file, now, id)
}

// recordEditLocked is RecordEdit without a rotation.
func (j *Journal) recordEditLocked(file string, now State, id fsutil.FileID) error {
	r, err := j.checkpointLocked(file, now)
	if err != nil {
		return err
	}
	r.kind, r.id, r.idKnown = edited, id, true
	if err := j.appendLocked(r); err != nil {
		return errors.Join(err, j.dropCheckpointLocked(r.content, r.seq))
	}
	return nil
}

// Done records that the file holds the mutation, and the identity of the file.
func (p *Pending) Done(left fsutil.FileID) error {
	return p.finish(record{kind: done, id: left, idKnown: true})
}

// Abort records that the mutation did not happen and that the file was not
// touched.
func (p *Pending) Abort() error { return p.finish(record{kind: aborted}) }

// RolledBack is Abort for a file that was put back to the state before, and has
// that identity now.
func (p *Pending) RolledBack(left fsutil.FileID) error {
	return p.finish(record{kind: aborted, id: left, idKnown: true})
}

// LeaveToRecovery records that the mutation must not stand, but that the file
// could not be put back. Recover puts it back. Nothing else may change the file
// before that.
func (p *Pending) LeaveToRecovery() error { return p.finish(record{kind: toRollBack}) }

func (p *Pending) finish(r record) error {
	j := p.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	if !p.pendingLocked() {
		return fmt.Errorf("%s: %w", p.file, ErrFinished)
	}
	first, all := j.tickLocked(), []record{}
	r.time, r.seq, r.m.File = first, p.first, p.file
	if p.whole {
		r.kind, r.ended, r.count = endedAll, r.kind, p.count
		all = append(all, r)
	} else {
		for i := range p.count {
			r.time, r.seq = first+int64(i), p.first+uint64(i)
			all = append(all, r)
		}
	}
	if err := j.appendLocked(all...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.time, p.end = j.written, first+int64(p.count)-1, j.seg.end
	return nil
}

// Time is when the last of the mutations ended, in nanoseconds since 1970, as History has
// it. The others ended one nanosecond before each other. 0 = they have not ended.
func (p *Pending) Time() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.time
}

// pendingLocked says whether the mutation has not ended yet.
func (p *Pending) pendingLocked() bool {
	j, t := p.j, p.j.files[p.file]
	records := p.count
	if p.whole {
		records = 1
	}
	return j.seg != nil && j.seg.number == p.segment && t != nil && len(t.pending) == records && t.pending[0].seq == p.first
}

// appendLocked appends all records to the newest segment. If that fails, it
// appends none.
func (j *Journal) appendLocked(records ...record) error {
	var b []byte
	var long longFrame
	var size int64
	var err error
	for i, r := range records {
		records[i].offset = j.seg.end + int64(len(b))
		if r.isLong() && i == len(records)-1 {
			if long, err = frameAround(r); err != nil {
				return err
			}
			size = long.size()
		} else if b, err = frame(b, r); err != nil {
			return err
		}
	}
	size += int64(len(b))
	if last := records[len(records)-1].kind; last == begun || last == begunAll {
		if err := j.preallocateLocked(size + int64(len(records)*endRecordMax)); err != nil {
			return err
		}
	}
	if err := j.forgetStopLocked(); err != nil {
		return fmt.Errorf("appending to the journal of %s: %w", j.dataDir, err)
	}
	if err := j.writeFramesLocked(b, long); err != nil {
		j.seg.allocated = 0 // truncating frees it
		if cut := j.seg.f.Truncate(j.seg.end); cut != nil {
			j.mustRotate = true
			err = errors.Join(err, cut)
		}
		return fmt.Errorf("appending to the journal of %s: %w", j.dataDir, err)
	}
	j.seg.end += size
	j.written += uint64(size)
	for _, r := range records {
		j.noteLocked(r)
		if t := j.files[r.m.File]; t != nil && (r.kind == checkpoint || r.kind == edited) {
			t.checkpointEnd = j.written
		}
	}
	return nil
}

// writeFramesLocked writes short frames, and a long one behind them if there is one.
func (j *Journal) writeFramesLocked(short []byte, long longFrame) error {
	if len(short) > 0 {
		if err := j.write(j.seg.f, short, j.seg.end); err != nil {
			return err
		}
	}
	if long.head == nil {
		return nil
	}
	return long.write(&fileWriter{j, j.seg.f, j.seg.end + int64(len(short))})
}

func (j *Journal) write(f *os.File, b []byte, off int64) error {
	n, err := j.cfg.Write(f, b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// endRecordMax is the most that the record of an end needs, and allocationStep
// is how much more than needed is allocated at a time, both in bytes.
const (
	endRecordMax   = 1 << 10
	allocationStep = 64 << 10
)

// preallocateLocked allocates disk space for n bytes: for the record of a
// mutation and for the record of its end. If the disk filled up between the
// two, an Abort could not be recorded, and recovery would carry out a mutation
// that was refused.
func (j *Journal) preallocateLocked(n int64) error {
	s, need := j.seg, j.seg.end+n
	if need <= s.allocated {
		return nil
	}
	if err := j.cfg.allocate(s.f, s.end, need+allocationStep-s.end); err != nil {
		return fmt.Errorf("allocating disk space for the journal of %s: %w", j.dataDir, err)
	}
	s.allocated = need + allocationStep
	return nil
}

// allocate allocates space behind the end of f, if the file system supports
// that.
func allocate(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		}
		return err
	}
}
