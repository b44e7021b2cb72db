package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/disk"
)

// ErrBeyondHistory is a moment of which the journal knows nothing any more, or nothing yet.
var ErrBeyondHistory = errors.New("the journal does not reach back to that moment: choose a later one, or use a backup")

// Journal is that of one data directory.
type Journal struct {
	set          *Set
	dataDir, dir string

	mu      sync.Mutex
	ready   bool
	number  int      // of the newest segment; 0 = none
	file    *os.File // of the newest segment; nil = closed
	size    int64    // of the newest segment, in bytes
	room    int64    // up to where the disk has room for it, in bytes
	created time.Time
	held    int64 // bytes of checkpoints in the newest segment
	beside  int   // checkpoint files of the newest segment
	seq     uint64
	last    time.Time
	fresh   bool // the next Begin starts a new segment
	left    map[string]disk.FileID
	answers answers

	flush flusher
}

// Pending is a mutation between its begin and its end.
type Pending struct {
	journal *Journal
	m       Mutation
	seq     uint64
	upTo    uint64 // what must be on the disk for it, in appended bytes
}

// Segments end at so many bytes, or as many as their checkpoints if those are
// more, and after so long.
const (
	segmentBytes = 4 << 20
	segmentAge   = 24 * time.Hour
)

// largestInline is the largest checkpoint that stands in the segment itself, in bytes.
const largestInline = 1 << 20

// ensure reads the newest segment, once.
func (j *Journal) ensure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ready {
		return nil
	}
	if err := j.load(); err != nil {
		return fmt.Errorf("the journal of %s: %w", j.dataDir, err)
	}
	j.ready = true
	return nil
}

// now is the time, always later than any that stands in the journal.
func (j *Journal) now() time.Time {
	t := j.set.config.Now().UTC().Round(0)
	if !t.After(j.last) {
		t = j.last.Add(1)
	}
	j.last = t
	return t
}

// Begin journals m before anybody makes it. before is asked for the file as it
// is, if this segment has no checkpoint of it yet. There must be one mutation
// at a time. After an error nothing of m is in the journal.
func (j *Journal) Begin(m Mutation, before func() (State, error)) (*Pending, error) {
	j.mu.Lock()
	err := j.begin(m.File, before)
	if err != nil {
		j.mu.Unlock()
		return nil, fmt.Errorf("the journal: %w", err)
	}
	j.seq++
	p := &Pending{journal: j, m: m, seq: j.seq}
	err = j.append(&record{kind: kindBegin, seq: p.seq, time: j.now(), m: m})
	p.upTo = j.flush.appended
	j.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("the journal: %w", err)
	}
	if j.set.config.Sync == Always {
		return p, p.Flushed()
	}
	return p, nil
}

// begin sees to it that there is a segment, and a checkpoint of the file in it.
func (j *Journal) begin(file string, before func() (State, error)) error {
	if j.number == 0 || j.fresh || j.full() {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	if _, known := j.left[file]; known {
		return nil
	}
	state, err := before()
	if err != nil {
		return err
	}
	id, err := disk.Identify(filepath.Join(j.dataDir, file))
	if err != nil {
		return err
	}
	return j.checkpoint(file, state, id, false)
}

func (j *Journal) full() bool {
	return j.size-j.held > max(segmentBytes, j.held) || j.set.config.Now().Sub(j.created) > segmentAge
}

// Edited journals that somebody else changed the file into now.
func (j *Journal) Edited(file string, now State, id disk.FileID) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.number == 0 || j.fresh {
		return nil // the next segment begins with a checkpoint of it
	}
	return j.checkpoint(file, now, id, true)
}

func (j *Journal) checkpoint(file string, state State, id disk.FileID, edited bool) error {
	r := &record{kind: kindCheckpoint, time: j.now(), state: state, length: int64(len(state.Text)), edited: edited, id: id, m: Mutation{File: file}}
	if len(state.Text) > largestInline {
		if err := j.putBeside(r); err != nil {
			return err
		}
	}
	if err := j.append(r); err != nil {
		return err
	}
	j.held += r.length
	j.left[file] = id
	return nil
}

// Left is the state in which a file was left, if this segment knows it.
func (j *Journal) Left(file string) (disk.FileID, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fresh {
		return disk.FileID{}, false
	}
	id, ok := j.left[file]
	return id, ok
}

// Done says that the mutation stands in its file, which was left as it is now.
func (p *Pending) Done(left disk.FileID) error {
	j := p.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	at := j.now()
	j.left[p.m.File] = left
	err := j.append(&record{kind: kindDone, seq: p.seq, time: at, id: left})
	if p.m.Idempotency != "" {
		err = errors.Join(err, j.answer(at, p.m))
	}
	p.upTo = j.flush.appended
	return err
}

// Abort says that the mutation did not happen, and that its file is as it was.
func (p *Pending) Abort() error {
	j := p.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	id, err := disk.Identify(filepath.Join(j.dataDir, p.m.File))
	if err != nil {
		return err
	}
	err = j.append(&record{kind: kindAbort, seq: p.seq, time: j.now()})
	if err == nil {
		j.left[p.m.File] = id
	}
	p.upTo = j.flush.appended
	return err
}
