package reader

import (
	"slices"

	"mirrorborn.us/sqgate/internal/fairqueue"
)

// work counts what is done in turns, as Turn.Worked does. Unlike that, it ends when a pause
// says so.
type work struct {
	pause func() error // waits for the next turn; an error ends the work; nil = nobody has to wait
	done  int          // since the last pause, in bytes
	err   error        // of a pause
}

// did counts so many bytes of work, and pauses after each fairqueue.Piece. over says that
// the work has to end.
func (w *work) did(bytes int) (over bool) {
	w.done += bytes
	return w.done >= fairqueue.Piece && w.paused()
}

func (w *work) paused() (over bool) {
	if w.err == nil && w.pause != nil {
		w.err = w.pause()
	}
	if w.err == nil {
		w.done = 0
	}
	return w.err != nil
}

// first keeps those of many things that come first in an order: at most so many.
type first[T any] struct {
	most    int
	compare func(a, b T) int // never 0
	work    *work
	all     []T
	cut     bool // what is not before last is none of them
	last    T
}

// spare is how many more are kept than twice as many as are wanted, until they are sorted.
const spare = 1024

// room is how many are kept at a time, at most, if there are so many in all.
func (f *first[T]) room(all int) int { return min(all, 2*f.most+spare) }

func (f *first[T]) add(x T) {
	if f.cut && f.compare(x, f.last) > 0 {
		return
	}
	if f.all = append(f.all, x); len(f.all) >= 2*f.most+spare {
		f.sort()
		f.cut, f.last = true, f.all[f.most-1]
	}
}

// sort returns what is kept, in order.
func (f *first[T]) sort() []T {
	slices.SortFunc(f.all, func(a, b T) int {
		if f.work.did(perCompare) {
			return 0
		}
		return f.compare(a, b)
	})
	f.all = f.all[:min(f.most, len(f.all))]
	return f.all
}
