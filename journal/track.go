package journal

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"mirrorborn.us/sqgate/internal/disk"
)

// track is the way of one file through one segment, up to a moment.
type track struct {
	trail []int64 // offsets of checkpoints and of mutations that were done
	base  int     // index in trail of the last checkpoint
	first int64   // offset of the first checkpoint after the moment; 0 = none
	open  int64   // offset of the mutation that is neither done nor aborted; 0 = none
	seq   uint64  // its number
	left  disk.FileID
	sure  bool
	doubt bool // a refused mutation left traces in the file
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
		t.base, t.trail = len(t.trail), append(t.trail, r.offset)
		t.left, t.sure, t.open, t.doubt = r.left, r.sure, 0, false
	case seen:
		t.left, t.sure, t.doubt = r.left, r.sure, false
	case begun:
		t.open, t.seq = r.offset, r.seq
	case done, aborted, refused:
		t.finish(r)
	}
}

func (t *track) finish(r record) {
	if t.open == 0 || t.seq != r.seq {
		return
	}
	if r.kind == done {
		t.trail = append(t.trail, t.open)
	}
	if r.kind == done || r.kind == refused || r.sure {
		t.left, t.sure = r.left, r.sure
	}
	t.doubt = r.kind == refused
	t.open = 0
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
	for _, off := range t.trail[t.base:] {
		if err := v.step(d, f, o, off); err != nil {
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
