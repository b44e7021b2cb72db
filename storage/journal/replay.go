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

// track is the way of one file through one segment, up to a moment.
type track struct {
	trail []step // checkpoints, and mutations that were done
	base  int    // index in trail of the last checkpoint
	first int64  // offset of the first checkpoint after the moment; 0 = none
	open  []step // mutations that are neither done nor aborted
	left  fsutil.FileID
	sure  bool
	doubt bool // a refused mutation left traces in the file
}

// step is one record on the way.
type step struct {
	offset int64
	seq    uint64
	set    uint64 // number of the first of those that were begun together
}

// add takes a record into account, if it is not after until.
func (t *track) add(r record, until int64) {
	if r.time > until {
		if t.first == 0 && (r.kind == checkpoint || r.kind == edited) {
			t.first = r.offset
		}
		return
	}
	switch r.kind {
	case checkpoint, edited:
		t.base, t.trail = len(t.trail), append(t.trail, step{r.offset, r.seq, r.seq})
		t.left, t.sure, t.open, t.doubt = r.left, r.sure, nil, false
	case seen:
		t.left, t.sure, t.doubt = r.left, r.sure, false
	case begun:
		t.begin(r)
	case done, aborted, refused:
		t.finish(r)
	}
}

func (t *track) begin(r record) {
	s := step{r.offset, r.seq, r.seq}
	if len(t.open) > 0 {
		s.set = t.open[0].set
	}
	t.open = append(t.open, s)
}

func (t *track) finish(r record) {
	i := slices.IndexFunc(t.open, func(s step) bool { return s.seq == r.seq })
	if i < 0 {
		return
	}
	if r.kind == done {
		t.trail = append(t.trail, t.open[i])
	}
	t.open = slices.Delete(t.open, i, i+1)
	if r.kind == done || r.kind == refused || r.sure {
		t.left, t.sure = r.left, r.sure
	}
	t.doubt = r.kind == refused
}

// tracks are those of all files in a segment.
func (v *view) tracks(o *opening) (map[string]*track, error) {
	all := map[string]*track{}
	err := v.walk(o, func(r record) error {
		if r.kind == opened {
			return nil
		}
		t := all[r.m.File]
		if t == nil {
			t = &track{}
			all[strings.Clone(r.m.File)] = t
		}
		t.add(r, 1<<63-1)
		return nil
	})
	return all, err
}

// replay is what a file holds at the end of its track.
func (v *view) replay(o *opening, t *track) (*draft, error) {
	f, err := v.file(o)
	if err != nil {
		return nil, err
	}
	d, err := v.replayFrom(f, o, t)
	return d, errors.Join(err, f.Close())
}

func (v *view) replayFrom(f io.ReaderAt, o *opening, t *track) (*draft, error) {
	if len(t.trail) == 0 {
		return nil, fmt.Errorf("a mutation without its checkpoint: the journal %w", ErrDamaged)
	}
	d := &draft{}
	for _, s := range t.trail[t.base:] {
		if err := v.step(d, f, o, s.offset); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// step takes the record at off into d: a checkpoint begins it anew.
func (v *view) step(d *draft, f io.ReaderAt, o *opening, off int64) error {
	r, err := readAt(f, off, o.end)
	if err != nil {
		return err
	}
	if r.kind == begun {
		d.apply(r.m)
		return nil
	}
	state, err := held(v.j.dir, o.number, r)
	*d = draft{base: state}
	return err
}

// draft is a state to which many mutations are applied: State.After for all of
// them, in the time of one.
type draft struct {
	base     State
	parsed   *phext.Phext // of base; nil as long as nobody asked
	changed  map[phext.Coordinate][]byte
	rendered bool // SQ wrote the file since base
}

func (d *draft) apply(m Mutation) {
	switch m.Op {
	case Remove:
		*d = draft{}
	case Replace:
		*d = draft{base: State{m.Text, true}}
	default:
		d.write(m)
	}
}

func (d *draft) write(m Mutation) {
	if d.changed == nil {
		d.changed = map[phext.Coordinate][]byte{}
	}
	d.changed[m.At] = d.next(m)
	d.rendered = true
	if phext.HasDelimiter(m.Text) || !m.At.Valid() {
		*d = draft{base: d.state()} // SQ reads back other scrolls than were written
	}
}

// next is the scroll that m leaves. Appending to what is there already costs
// no copy of it, which matters for ten thousand lines in one scroll.
func (d *draft) next(m Mutation) []byte {
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

func (d *draft) phext() *phext.Phext {
	if d.parsed == nil {
		d.parsed = phext.Parse(d.base.Text)
	}
	return d.parsed
}

// holds says whether the text at c is want.
func (d *draft) holds(c phext.Coordinate, want string) bool {
	if text, ok := d.changed[c]; ok {
		return string(text) == want
	}
	text, _ := d.phext().Select(c)
	return text == want
}

// begins says whether the text at c begins with part.
func (d *draft) begins(c phext.Coordinate, part string) bool {
	if text, ok := d.changed[c]; ok {
		return bytes.HasPrefix(text, []byte(part))
	}
	text, _ := d.phext().Select(c)
	return strings.HasPrefix(text, part)
}

// state is the file as it stands now. More can be applied afterwards.
func (d *draft) state() State {
	if !d.rendered {
		return d.base
	}
	all := slices.Clip(d.phext().Scrolls())
	for _, at := range slices.SortedFunc(maps.Keys(d.changed), phext.Coordinate.Compare) {
		all = append(all, phext.Scroll{At: at, Text: string(d.changed[at])})
	}
	return State{phext.Of(all).Render(), true}
}
