package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// fileLog is the way of one file through one segment, up to a moment.
type fileLog struct {
	applied      []step // checkpoints, and mutations that were done
	base         int    // index in trail of the last checkpoint
	first        int64  // offset of the first checkpoint after the moment; 0 = none
	pending      []step // mutations that are neither done nor aborted
	lastSeen     fsutil.FileID
	known        bool
	mustRollBack bool // a refused mutation left traces in the file
}

// step is one record on the way.
type step struct {
	offset int64
	seq    uint64
	batch  uint64 // number of the first of those that were begun together
}

// add takes a record into account, if it is not after until.
func (t *fileLog) add(r record, until int64) {
	if r.time > until {
		if t.first == 0 && (r.kind == checkpoint || r.kind == edited) {
			t.first = r.offset
		}
		return
	}
	switch r.kind {
	case checkpoint, edited:
		t.base, t.applied = len(t.applied), append(t.applied, step{r.offset, r.seq, r.seq})
		t.lastSeen, t.known, t.pending, t.mustRollBack = r.id, r.idKnown, nil, false
	case seen:
		t.lastSeen, t.known, t.mustRollBack = r.id, r.idKnown, false
	case begun:
		t.begin(r)
	case done, aborted, toRollBack:
		t.finish(r)
	}
}

func (t *fileLog) begin(r record) {
	s := step{r.offset, r.seq, r.seq}
	if len(t.pending) > 0 {
		s.batch = t.pending[0].batch
	}
	t.pending = append(t.pending, s)
}

func (t *fileLog) finish(r record) {
	i := slices.IndexFunc(t.pending, func(s step) bool { return s.seq == r.seq })
	if i < 0 {
		return
	}
	if r.kind == done {
		t.applied = append(t.applied, t.pending[i])
	}
	t.pending = slices.Delete(t.pending, i, i+1)
	if r.kind == done || r.kind == toRollBack || r.idKnown {
		t.lastSeen, t.known = r.id, r.idKnown
	}
	t.mustRollBack = r.kind == toRollBack
}

// fileLogs are those of all files in a segment.
func (v *view) fileLogs(o *segmentView) (map[string]*fileLog, error) {
	all := map[string]*fileLog{}
	err := v.walk(o, func(r record) error {
		if r.kind == header {
			return nil
		}
		t := all[r.m.File]
		if t == nil {
			t = &fileLog{}
			all[strings.Clone(r.m.File)] = t
		}
		t.add(r, 1<<63-1)
		return nil
	})
	return all, err
}

// replay is what a file holds at the end of its track.
func (v *view) replay(o *segmentView, t *fileLog) (*replayState, error) {
	f, err := v.file(o)
	if err != nil {
		return nil, err
	}
	d, err := v.replayFrom(f, o, t)
	return d, errors.Join(err, f.Close())
}

func (v *view) replayFrom(f io.ReaderAt, o *segmentView, t *fileLog) (*replayState, error) {
	if len(t.applied) == 0 {
		return nil, fmt.Errorf("a mutation without its checkpoint: the journal %w", ErrDamaged)
	}
	d := &replayState{}
	for _, s := range t.applied[t.base:] {
		if err := v.step(d, f, o, s.offset); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// step takes the record at off into d: a checkpoint begins it anew.
func (v *view) step(d *replayState, f io.ReaderAt, o *segmentView, off int64) error {
	r, err := readRecord(f, off, o.end)
	if err != nil {
		return err
	}
	if r.kind == begun {
		d.apply(r.m)
		return nil
	}
	state, err := readCheckpoint(v.j.dir, o.number, r)
	*d = replayState{base: state}
	return err
}

// replayState is a state to which many mutations are applied: State.After for all of
// them, in the time of one.
type replayState struct {
	base     State
	parsed   *phext.Phext // of base; nil as long as nobody asked
	changed  map[phext.Coordinate][]byte
	rendered bool // SQ wrote the file since base
}

func (d *replayState) apply(m Mutation) {
	switch m.Op {
	case Remove:
		*d = replayState{}
	case Replace:
		*d = replayState{base: State{m.Text, true}}
	default:
		d.applyToScroll(m)
	}
}

func (d *replayState) applyToScroll(m Mutation) {
	if d.changed == nil {
		d.changed = map[phext.Coordinate][]byte{}
	}
	d.changed[m.At] = d.scrollAfter(m)
	d.rendered = true
	if phext.HasDelimiter(m.Text) || !m.At.Valid() {
		*d = replayState{base: d.state()} // SQ reads back other scrolls than were written
	}
}

// scrollAfter is the scroll that m leaves. Appending to what is there already costs
// no copy of it, which matters for ten thousand lines in one scroll.
func (d *replayState) scrollAfter(m Mutation) []byte {
	switch m.Op {
	case Update:
		return []byte(m.Text)
	case Delete:
		return nil
	}
	if old, ok := d.changed[m.At]; ok {
		return append(old, m.Text...)
	}
	old, _ := d.phext().Select(m.At)
	return append([]byte(old), m.Text...)
}

func (d *replayState) phext() *phext.Phext {
	if d.parsed == nil {
		d.parsed = phext.Parse(d.base.Text)
	}
	return d.parsed
}

// hasText says whether the text at c is want.
func (d *replayState) hasText(c phext.Coordinate, want string) bool {
	if text, ok := d.changed[c]; ok {
		return string(text) == want
	}
	text, _ := d.phext().Select(c)
	return text == want
}

// hasPrefix says whether the text at c hasPrefix with part.
func (d *replayState) hasPrefix(c phext.Coordinate, part string) bool {
	if text, ok := d.changed[c]; ok {
		return bytes.HasPrefix(text, []byte(part))
	}
	text, _ := d.phext().Select(c)
	return strings.HasPrefix(text, part)
}

// state is the file as it stands now. More can be applied afterwards.
func (d *replayState) state() State {
	if !d.rendered {
		return d.base
	}
	all := slices.Clip(d.phext().Scrolls())
	for _, at := range slices.SortedFunc(maps.Keys(d.changed), phext.Coordinate.Compare) {
		all = append(all, phext.Scroll{At: at, Text: string(d.changed[at])})
	}
	return State{phext.Of(all).Render(), true}
}
