package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Journal is that of one data_dir. Its methods may be called by several at a
// time, but of mutations there is one under way at most, or one set of them.
type Journal struct {
	cfg          *settings
	dataDir, dir string // the data_dir; where the journal is

	pruneMu sync.RWMutex // held by readers of old segments, so that none is pruned
	syncMu  sync.Mutex   // held by who syncs, begins a segment or closes; taken before mu

	mu         sync.Mutex
	isOpen     bool
	closed     bool
	seg        *segment // nil: there is none yet, or the journal is at rest
	files      map[string]*fileState
	answers    *answers
	mustRotate bool  // the next mutation begins a segment
	lastTime   int64 // the latest time that was given out

	written, synced    uint64 // bytes ever appended; those of them that are on disk
	lostFrom, lostUpTo uint64 // those that a failed sync may have lost
	lost               error

	damaged          int64    // bytes of damage found since the last Recover
	lostSegment      bool     // a whole segment is among them
	quarantinedPaths []string // and where they went
}

// fileState is what is known of a file, without its content.
type fileState struct {
	hasCheckpoint   bool   // the newest segment has a checkpoint of it
	emptyCheckpoint bool   // that checkpoint has nothing in it that could be lost
	checkpointEnd   uint64 // bytes of the journal up to that checkpoint; 0 = an earlier process wrote it, and it is synced
	lastSeen        fsutil.FileID
	known           bool     // whether left is known
	mustRollBack    bool     // a refused mutation left traces in it
	pending         []record // begun, and neither done nor aborted, in their order; without text
}

// tickLocked is the time now, later than any that was given out before.
func (j *Journal) tickLocked() int64 {
	j.lastTime = max(j.cfg.Now().UnixNano(), j.lastTime+1)
	return j.lastTime
}

// openLocked reads the newest segment, if the journal was at rest. Called under mu.
func (j *Journal) openLocked() error {
	if j.closed {
		return ErrClosed
	}
	if j.isOpen {
		return nil
	}
	j.files = map[string]*fileState{}
	a, err := j.loadAnswers()
	if err != nil {
		return err
	}
	j.answers = a
	if err := j.openNewestLocked(); err != nil {
		return fmt.Errorf("opening the journal of %s: %w", j.dataDir, err)
	}
	j.isOpen = true
	return nil
}

func (j *Journal) openNewestLocked() error {
	for {
		numbers, _, err := segments(j.dir)
		if err != nil || len(numbers) == 0 {
			return err
		}
		if opened, err := j.openSegmentLocked(numbers[len(numbers)-1]); err != nil || opened {
			return err
		}
	}
}

// openSegmentLocked reads one. One without a header is set aside: there is another
// that is the newest then.
func (j *Journal) openSegmentLocked(number uint64) (bool, error) {
	f, err := os.OpenFile(filepath.Join(j.dir, segmentName(number)), os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	head, ok, err := readHeader(f)
	if err == nil && !ok {
		return false, errors.Join(j.discardSegmentLocked(f), f.Close())
	}
	if err == nil {
		j.seg = &segment{number: number, f: f, created: head.time, boot: head.boot}
		err = j.loadLocked()
	}
	if err != nil {
		j.seg = nil
		return false, errors.Join(err, f.Close())
	}
	return true, nil
}

// loadLocked reads the segment that was opened, up to the first damage.
func (j *Journal) loadLocked() error {
	s := j.seg
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	s.end, err = walkRecords(s.f, info.Size(), func(r record) error { j.noteLocked(r); return nil })
	if err != nil {
		return err
	}
	j.mustRotate = j.mustRotate || s.boot != j.cfg.BootID
	if s.end == info.Size() {
		return nil
	}
	j.mustRotate = true
	return j.cutDamageLocked(info.Size())
}

// noteLocked takes a record of the newest segment into what is known.
func (j *Journal) noteLocked(r record) {
	j.lastTime = max(j.lastTime, r.time)
	j.seg.seq = max(j.seg.seq, r.seq)
	if r.kind == header {
		return
	}
	t := j.fileLocked(r.m.File)
	switch r.kind {
	case checkpoint, edited:
		j.seg.checkpointBytes += r.content.size
		j.seg.inlineBytes += int64(len(r.content.text))
		*t = fileState{hasCheckpoint: true, emptyCheckpoint: r.content.size == 0, lastSeen: r.id, known: r.idKnown}
	case seen:
		t.lastSeen, t.known, t.mustRollBack = r.id, r.idKnown, false
	case begun:
		r.m.Text = ""
		t.pending = append(t.pending, r)
	case done, aborted, toRollBack:
		j.noteEndLocked(t, r)
	}
}

func (j *Journal) noteEndLocked(t *fileState, r record) {
	b, ok := takePending(&t.pending, r.seq)
	if !ok {
		return
	}
	if r.kind == done {
		j.answers.add(b.m, r.time)
	}
	if r.kind == done || r.kind == toRollBack || r.idKnown {
		t.lastSeen, t.known = r.id, r.idKnown
	}
	t.mustRollBack = r.kind == toRollBack
}

// takePending removes the record with that number from those under way.
func takePending(open *[]record, seq uint64) (record, bool) {
	for i, r := range *open {
		if r.seq == seq {
			*open = slices.Delete(*open, i, i+1)
			return r, true
		}
	}
	return record{}, false
}

func (j *Journal) fileLocked(file string) *fileState {
	t := j.files[file]
	if t == nil {
		t = &fileState{}
		j.files[strings.Clone(file)] = t
	}
	return t
}

// LastSeen is the state in which the last completed mutation or Edited left the
// file. It may not be known before the first mutation of the file since a start,
// and never while one is under way. Another identity on disk is an edit from outside.
func (j *Journal) LastSeen(file string) (fsutil.FileID, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		j.cfg.Logger.Error("opening the journal", "data_dir", j.dataDir, "error", err)
		return fsutil.FileID{}, false
	}
	t := j.files[file]
	if t == nil || !t.known || len(t.pending) > 0 {
		return fsutil.FileID{}, false
	}
	return t.lastSeen, true
}

// Suspend flushes, closes all files and forgets what can be read again, until the
// next use. Mutations under way are not harmed.
func (j *Journal) Suspend() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.suspendLocked()
}

func (j *Journal) suspendLocked() error {
	var err error
	if j.seg != nil {
		err = errors.Join(j.syncLastLocked(), j.seg.close())
	}
	j.seg, j.files, j.answers, j.isOpen = nil, nil, nil, false
	return err
}

func (j *Journal) close() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	return j.suspendLocked()
}
