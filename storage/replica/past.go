package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sort"
	"time"

	"mirrorborn.us/sqgate/storage/bucket/object"
)

// ErrBeyond is a time of which the bucket does not know any more, or not yet, what a
// directory was.
var ErrBeyond = errors.New("is further back than the bucket goes")

// numbers are those of the objects that the log still has, and how many of the last ones
// are without a gap: of what is before them, only records that open an epoch are left.
func (d *Directory) numbers(ctx context.Context) (all []uint64, whole int, err error) {
	for e, err := range d.list(ctx, "log/", "") {
		if err != nil {
			return nil, 0, err
		}
		seq, err := seqOf(e.Key)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, seq)
	}
	for whole = min(1, len(all)); whole < len(all) && all[len(all)-whole-1]+1 == all[len(all)-whole]; {
		whole++
	}
	return all, whole, nil
}

// after is the index of the first of these objects that was written after a time, by the
// clocks of the hosts that wrote them. It reads few.
func (d *Directory) after(ctx context.Context, numbers []uint64, at int64) (i int, err error) {
	i = sort.Search(len(numbers), func(i int) bool {
		if err != nil {
			return true
		}
		var l object.Log
		l, err = d.readLog(ctx, numbers[i])
		return err != nil || l.Time > at
	})
	return i, err
}

// StateThen returns what the log said at a time. The error is ErrBeyond.
func (d *Directory) StateThen(ctx context.Context, at time.Time) (*State, error) {
	seq, end, err := d.lastBefore(ctx, at.UnixNano())
	if err == nil && seq == 0 {
		err = fmt.Errorf("%s at %v %w", d.Name, at.UTC().Format(time.RFC3339Nano), ErrBeyond)
	}
	if err != nil {
		return nil, err
	}
	s, err := d.StateAt(ctx, seq)
	if err != nil {
		return nil, err
	}
	defer s.ForgetAnswers()
	// The objects behind it may have what was done before they were written.
	for r, err := range d.Read(ctx, seq, end) {
		if err != nil {
			return nil, err
		}
		for _, g := range r.Groups {
			if g.Time > at.UnixNano() {
				return s, nil
			}
			s.add(r, g)
		}
		if len(r.Groups) == 0 {
			break
		}
	}
	return s, nil
}

// lastBefore is the number of the last object that was written up to a time and whose
// state is known, or 0, and that of the last one of all.
func (d *Directory) lastBefore(ctx context.Context, at int64) (seq, end uint64, err error) {
	numbers, whole, err := d.numbers(ctx)
	if err != nil || whole == 0 {
		return 0, 0, err
	}
	checkpoints, err := d.Checkpoints(ctx)
	if err != nil {
		return 0, 0, err
	}
	end = numbers[len(numbers)-1]
	numbers = numbers[len(numbers)-whole:]
	i, err := d.after(ctx, numbers, at)
	if err != nil {
		return 0, 0, err
	}
	if i > 0 {
		seq = numbers[i-1]
		known := numbers[0] == 1 || len(checkpoints) > 0 && checkpoints[0].Seq <= seq
		if !known {
			seq = 0
		}
		return seq, end, nil
	}
	// What was before is removed, but for the state that it has left.
	for _, c := range checkpoints {
		if c.Seq < numbers[0] {
			seq = c.Seq
		}
	}
	if seq > 0 {
		c, err := d.ReadCheckpoint(ctx, seq)
		if err != nil {
			return 0, 0, err
		}
		if c.Time > at {
			seq = 0
		}
	}
	return seq, end, nil
}

// GroupsAfter returns what was done after a time and is still in the log, oldest first.
func (d *Directory) GroupsAfter(ctx context.Context, after time.Time) iter.Seq2[object.Group, error] {
	at := int64(math.MinInt64)
	if !after.IsZero() {
		at = after.UnixNano()
	}
	return func(yield func(object.Group, error) bool) {
		numbers, whole, err := d.numbers(ctx)
		i := 0
		if err == nil && whole > 0 {
			numbers = numbers[len(numbers)-whole:]
			i, err = d.after(ctx, numbers, at)
		}
		switch {
		case err != nil:
			yield(object.Group{}, err)
			return
		case whole == 0 || i == len(numbers):
			return
		}
		for r, err := range d.Read(ctx, numbers[i]-1, numbers[len(numbers)-1]) {
			if err != nil {
				yield(object.Group{}, err)
				return
			}
			for _, g := range r.Groups {
				if g.Time > at && !yield(g, nil) {
					return
				}
			}
		}
	}
}
