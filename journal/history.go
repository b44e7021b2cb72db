package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mirrorborn.us/sqgate/phext"
)

// Event is one change of a phext.
type Event struct {
	Time              time.Time
	File              string
	Op                string // that of a mutation, or "edited" if somebody else made it
	At                phext.Coordinate
	Bytes             int // of the text that was written
	Tenant, Key, Note string
}

// segments reads all segments, oldest first.
func (j *Journal) segments(each func(records []*record) error) error {
	j.mu.Lock()
	all, err := j.numbers()
	j.mu.Unlock()
	if err != nil {
		return err
	}
	for _, n := range all {
		records, _, _, err := j.read(n)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just been pruned
		}
		if err != nil {
			return err
		}
		if err := each(records); err != nil {
			return err
		}
	}
	return nil
}

// History is what was done to a file, or to all if it is "", oldest first.
func (j *Journal) History(file string) (events []Event, err error) {
	err = j.segments(func(records []*record) error {
		begun := map[uint64]*record{}
		for _, r := range records {
			switch b := begun[r.seq]; {
			case r.kind == kindBegin:
				begun[r.seq] = r
			case r.kind == kindDone && b != nil && (file == "" || b.m.File == file):
				events = append(events, Event{Time: r.time, File: b.m.File, Op: b.m.Op.String(), At: b.m.coordinate(),
					Bytes: len(b.m.Text), Tenant: b.m.Tenant, Key: b.m.Key, Note: b.m.Note})
			case r.kind == kindCheckpoint && r.edited && (file == "" || r.m.File == file):
				events = append(events, Event{Time: r.time, File: r.m.File, Op: "edited", Bytes: int(r.length)})
			}
		}
		return nil
	})
	return events, err
}

// At is the state of a file that a client saw at t.
func (j *Journal) At(file string, t time.Time) (State, error) {
	f := finding{journal: j, file: file, t: t}
	if err := j.segments(f.segment); err != nil {
		return State{}, err
	}
	return f.state()
}

// finding looks for a state through the segments.
type finding struct {
	journal *Journal
	file    string
	t       time.Time
	begins  time.Time // of the oldest segment
	base    *record   // the last checkpoint up to t
	done    []Mutation
	next    *record // the first checkpoint after t, if there is none up to it
}

func (f *finding) segment(records []*record) error {
	begun := map[uint64]*record{}
	for _, r := range records {
		if f.begins.IsZero() {
			f.begins = r.time
		}
		switch b := begun[r.seq]; {
		case r.kind == kindCheckpoint && r.m.File == f.file && !r.time.After(f.t):
			f.base, f.done = r, nil
		case r.kind == kindCheckpoint && r.m.File == f.file && f.base == nil && f.next == nil && !r.edited:
			f.next = r
		case r.kind == kindBegin && r.m.File == f.file:
			begun[r.seq] = r
		case r.kind == kindDone && b != nil && !r.time.After(f.t):
			f.done = append(f.done, b.m)
		}
	}
	return nil
}

func (f *finding) state() (State, error) {
	base := f.base
	switch {
	case f.begins.IsZero() || f.t.Before(f.begins):
		return State{}, ErrBeyondHistory
	case base == nil && f.next == nil:
		return readState(filepath.Join(f.journal.dataDir, f.file))
	case base == nil:
		base = f.next
	}
	text, err := f.journal.text(base)
	if err != nil {
		return State{}, err
	}
	return State{Text: text, Exists: base.state.Exists}.afterAll(f.done), nil
}

// FilesAt are the files that may have existed at t: those the journal knows
// and those that are there now.
func (j *Journal) FilesAt(time.Time) ([]string, error) {
	seen, files := map[string]bool{}, []string{}
	note := func(name string) {
		if !seen[name] {
			seen[name] = true
			files = append(files, name)
		}
	}
	err := j.segments(func(records []*record) error {
		for _, r := range records {
			if r.kind == kindCheckpoint {
				note(r.m.File)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(j.dataDir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".phext") {
			note(e.Name())
		}
	}
	return files, nil
}
