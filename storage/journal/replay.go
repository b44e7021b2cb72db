package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unsafe"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// fileLog is what one segment says of one file, up to a moment.
type fileLog struct {
	applied      []step // checkpoints, and mutations that were done
	base         int    // index of the last one in applied before which nothing counts
	first        int64  // offset of the first checkpoint after the moment; 0 = none
	firstSize    int64  // of its text, in bytes
	pending      []step // mutations that have not ended
	lastSeen     fsutil.FileID
	known        bool
	mustRollBack bool // a mutation was left to recovery
}

// step is a checkpoint or a mutation.
type step struct {
	offset int64
	seq    uint64
	batch  uint64 // number of the first mutation of its batch
	size   int64  // of its text, in bytes
	whole  bool   // it is of the whole file
	count  int    // of the mutations in it, if they happen all or not at all; else 0
}

// add takes a record into account, unless it is later than until.
func (t *fileLog) add(r record, until int64) {
	if r.time > until {
		if t.first == 0 && (r.kind == checkpoint || r.kind == edited) {
			t.first, t.firstSize = r.offset, r.content.size
		}
		return
	}
	switch r.kind {
	case checkpoint, edited:
		t.base, t.applied = len(t.applied), append(t.applied, step{offset: r.offset, seq: r.seq, batch: r.seq, size: r.content.size, whole: true})
		t.lastSeen, t.known, t.pending, t.mustRollBack = r.id, r.idKnown, nil, false
	case seen:
		t.lastSeen, t.known, t.mustRollBack = r.id, r.idKnown, false
	case begun, begunAll:
		t.begin(r)
	case done, aborted, toRollBack:
		t.finish(r)
	case endedAll: // a moment between its mutations is behind all of them
		r.kind = r.ended
		t.finish(r)
	}
}

func (t *fileLog) begin(r record) {
	s := step{offset: r.offset, seq: r.seq, batch: r.seq, size: r.textSize, whole: r.m.Op > Delete, count: len(r.all)}
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
		if t.pending[i].whole {
			t.base = len(t.applied)
		}
		t.applied = append(t.applied, t.pending[i])
	}
	t.pending = slices.Delete(t.pending, i, i+1)
	if r.kind == done || r.kind == toRollBack || r.idKnown {
		t.lastSeen, t.known = r.id, r.idKnown
	}
	t.mustRollBack = r.kind == toRollBack
}

// fileLogs returns the logs of all files in a segment.
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

// replay returns what a file holds at the end of its log.
func (v *view) replay(o *segmentView, t *fileLog) (*replayState, error) {
	f, err := v.file(o)
	if err != nil {
		return nil, err
	}
	d, err := v.replayFrom(v.turn.ReaderAt(f), o, t)
	return d, errors.Join(err, f.Close())
}

func (v *view) replayFrom(f io.ReaderAt, o *segmentView, t *fileLog) (*replayState, error) {
	if len(t.applied) == 0 {
		return nil, fmt.Errorf("a mutation without its checkpoint: the journal %w", ErrDamaged)
	}
	d := &replayState{pace: v.turn.Pace()}
	for _, s := range t.applied[t.base:] {
		if err := v.step(d, f, o, s.offset); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// step applies the record at off: a mutation, or a checkpoint, which replaces
// the state.
func (v *view) step(d *replayState, f io.ReaderAt, o *segmentView, off int64) error {
	r, err := readRecord(f, off, o.end)
	if err != nil {
		return err
	}
	if r.kind == begun || r.kind == begunAll {
		for _, m := range r.mutations() {
			if err := v.parse(d, m); err != nil {
				return err
			}
			d.apply(m)
		}
		return nil
	}
	state, err := readCheckpoint(v.j.dir, o.number, r, v.turn)
	*d = replayState{base: state, pace: d.pace}
	return err
}

// copies is how many further lists of all scrolls there are when a state is rendered.
const copies = 2

// parse parses what a mutation changes, if that takes memory which has to be asked for.
// A state may be parsed several times, but only one list of scrolls stays.
func (v *view) parse(d *replayState, m Mutation) (err error) {
	if v.memory == nil || d.parsed != nil || m.Op > Delete {
		return nil
	}
	used := int64(0)
	room := func(bytes int64) error {
		used += bytes
		more := max(0, used-v.scrolls)
		v.scrolls += more
		defer v.turn.Suspend()() // the memory may have to be waited for
		return v.memory.Scrolls(more)
	}
	if d.parsed, err = phext.ParseWithin(d.base.Text, d.pace, room); err != nil {
		return err
	}
	return room(copies * d.parsed.Memory())
}

// replayState is a state to which many mutations are applied. The result is
// that of State.After for each of them, but the phext is parsed and rendered
// only once.
type replayState struct {
	base     State
	parsed   *phext.Phext // base, parsed when it is needed
	changed  map[phext.Coordinate][]byte
	rendered bool // SQ has written the file since base
	pace     phext.Pace
}

func (d *replayState) apply(m Mutation) {
	switch m.Op {
	case Remove:
		*d = replayState{pace: d.pace}
	case Replace:
		*d = replayState{base: State{Text: m.Text, Exists: true}, pace: d.pace}
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
		*d = replayState{base: d.state().Whole(), pace: d.pace} // SQ reads other scrolls from the file than were written
	}
}

// scrollAfter returns the scroll after m. It appends in place, without a copy,
// since a scroll may get thousands of lines one by one.
func (d *replayState) scrollAfter(m Mutation) []byte {
	switch m.Op {
	case Update:
		return unsafe.Slice(unsafe.StringData(m.Text), len(m.Text)) // without a copy, and not to be written to
	case Delete:
		return nil
	}
	if old, ok := d.changed[m.At]; ok {
		return append(old, m.Text...) // behind old, or to a copy
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

// text is the scroll at c. It is copied if a mutation changed it.
func (d *replayState) text(c phext.Coordinate) string {
	if text, ok := d.changed[c]; ok {
		return string(text)
	}
	text, _ := d.phext().Select(c)
	return text
}

// hasText says whether the scroll at c is want.
func (d *replayState) hasText(c phext.Coordinate, want string) bool {
	if text, ok := d.changed[c]; ok {
		return string(text) == want
	}
	text, _ := d.phext().Select(c)
	return text == want
}

// hasPrefix says whether the scroll at c begins with part.
func (d *replayState) hasPrefix(c phext.Coordinate, part string) bool {
	if text, ok := d.changed[c]; ok {
		return bytes.HasPrefix(text, []byte(part))
	}
	text, _ := d.phext().Select(c)
	return strings.HasPrefix(text, part)
}

func (d *replayState) hasTextAt(c phext.Coordinate) bool { return !d.hasText(c, "") }

// firstAfter is the first coordinate after c that has text. ok is false if there
// is none.
func (d *replayState) firstAfter(c phext.Coordinate) (first phext.Coordinate, ok bool) {
	for s := range d.phext().From(c) {
		if s.At.Compare(c) > 0 && d.hasTextAt(s.At) {
			first, ok = s.At, true
			break
		}
	}
	for at, text := range d.changed {
		if len(text) > 0 && at.Compare(c) > 0 && (!ok || at.Compare(first) < 0) {
			first, ok = at, true
		}
	}
	return first, ok
}

// state is the state, which is rendered if it is small. More mutations can be applied
// afterwards: they write behind the texts, or to copies.
func (d *replayState) state() State {
	if !d.rendered {
		return d.base
	}
	order := slices.SortedFunc(maps.Keys(d.changed), phext.Coordinate.Compare)
	return stateOf(d.phext().WithAll(len(order), func(yield func(phext.Scroll) bool) {
		for _, at := range order {
			if !yield(phext.Scroll{At: at, Text: unsafe.String(unsafe.SliceData(d.changed[at]), len(d.changed[at]))}) {
				return
			}
		}
	}, d.pace))
}
