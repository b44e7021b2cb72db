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
	cfg       *settings
	data, dir string // the data_dir; where the journal is

	reading sync.RWMutex // held by readers of old segments, so that none is pruned
	flush   sync.Mutex   // held by who syncs, begins a segment or closes; taken before mu

	mu      sync.Mutex
	isOpen  bool
	closed  bool
	seg     *segment // nil: there is none yet, or the journal is at rest
	files   map[string]*trace
	answers *answers
	renew   bool  // the next mutation begins a segment
	last    int64 // the latest time that was given out

	written, synced    uint64 // bytes ever appended; those of them that are on disk
	lostFrom, lostUpTo uint64 // those that a failed sync may have lost
	lost               error

	dropped int64    // bytes of damage found since the last Recover
	aside   []string // and where they went
}

// trace is what is known of a file, without its content.
type trace struct {
	based bool   // the newest segment has a checkpoint of it
	bare  bool   // that checkpoint has nothing in it that could be lost
	root  uint64 // bytes of the journal up to that checkpoint; 0 = an earlier process wrote it, and it is synced
	left  fsutil.FileID
	sure  bool     // whether left is known
	doubt bool     // a refused mutation left traces in it
	open  []record // begun, and neither done nor aborted, in their order; without text
}

// tick is the time now, later than any that was given out before.
func (j *Journal) tick() int64 {
	j.last = max(j.cfg.Now().UnixNano(), j.last+1)
	return j.last
}

// open reads the newest segment, if the journal was at rest. Called under mu.
func (j *Journal) open() error {
	if j.closed {
		return ErrClosed
	}
	if j.isOpen {
		return nil
	}
	j.files = map[string]*trace{}
	a, err := j.loadAnswers()
	if err != nil {
		return err
	}
	j.answers = a
	if err := j.openNewest(); err != nil {
		return fmt.Errorf("opening the journal of %s: %w", j.data, err)
	}
	j.isOpen = true
	return nil
}

func (j *Journal) openNewest() error {
	for {
		numbers, _, err := segments(j.dir)
		if err != nil || len(numbers) == 0 {
			return err
		}
		if opened, err := j.openSegment(numbers[len(numbers)-1]); err != nil || opened {
			return err
		}
	}
}

// openSegment reads one. One without a header is set aside: there is another
// that is the newest then.
func (j *Journal) openSegment(number uint64) (bool, error) {
	f, err := os.OpenFile(filepath.Join(j.dir, segmentName(number)), os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	head, ok, err := header(f)
	if err == nil && !ok {
		return false, errors.Join(j.discard(f), f.Close())
	}
	if err == nil {
		j.seg = &segment{number: number, f: f, created: head.time, boot: head.boot}
		err = j.load()
	}
	if err != nil {
		j.seg = nil
		return false, errors.Join(err, f.Close())
	}
	return true, nil
}

// load reads the segment that was opened, up to the first damage.
func (j *Journal) load() error {
	s := j.seg
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	s.end, err = walk(s.f, info.Size(), func(r record) error { j.note(r); return nil })
	if err != nil {
		return err
	}
	j.renew = j.renew || s.boot != j.cfg.BootID
	if s.end == info.Size() {
		return nil
	}
	j.renew = true
	return j.cut(info.Size())
}

// note takes a record of the newest segment into what is known.
func (j *Journal) note(r record) {
	j.last = max(j.last, r.time)
	j.seg.seq = max(j.seg.seq, r.seq)
	if r.kind == opened {
		return
	}
	t := j.trace(r.m.File)
	switch r.kind {
	case checkpoint, edited:
		j.seg.heavy += r.content.size
		j.seg.inline += int64(len(r.content.text))
		*t = trace{based: true, bare: r.content.size == 0, left: r.left, sure: r.sure}
	case seen:
		t.left, t.sure, t.doubt = r.left, r.sure, false
	case begun:
		r.m.Text = ""
		t.open = append(t.open, r)
	case done, aborted, refused:
		j.finished(t, r)
	}
}

func (j *Journal) finished(t *trace, r record) {
	b, ok := take(&t.open, r.seq)
	if !ok {
		return
	}
	if r.kind == done {
		j.answers.add(b.m, r.time)
	}
	if r.kind == done || r.kind == refused || r.sure {
		t.left, t.sure = r.left, r.sure
	}
	t.doubt = r.kind == refused
}

// take removes the record with that number from those under way.
func take(open *[]record, seq uint64) (record, bool) {
	for i, r := range *open {
		if r.seq == seq {
			*open = slices.Delete(*open, i, i+1)
			return r, true
		}
	}
	return record{}, false
}

func (j *Journal) trace(file string) *trace {
	t := j.files[file]
	if t == nil {
		t = &trace{}
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
	if err := j.open(); err != nil {
		j.cfg.Logger.Error("opening the journal", "data_dir", j.data, "error", err)
		return fsutil.FileID{}, false
	}
	t := j.files[file]
	if t == nil || !t.sure || len(t.open) > 0 {
		return fsutil.FileID{}, false
	}
	return t.left, true
}

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
