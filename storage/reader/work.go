package reader

import (
	"sort"
	"unsafe"

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

// list is a list that grows in pieces, each of which is work: it is never allocated or copied
// as a whole. The zero list is empty.
type list[T any] struct {
	pieces [][]T // all but the last one have perPiece things
	len    int
}

const perPiece = 1 << 10

func (l *list[T]) add(x T, w *work) {
	if l.len%perPiece == 0 {
		size := min(l.len, perPiece) // few things take little
		l.pieces = append(l.pieces, make([]T, 0, size))
		w.did(size * int(unsafe.Sizeof(x)))
	}
	last := &l.pieces[len(l.pieces)-1]
	*last = append(*last, x)
	l.len++
}

func (l *list[T]) at(i int) *T { return &l.pieces[i/perPiece][i%perPiece] }

// cut leaves the first n things, if there are more.
func (l *list[T]) cut(n int) {
	if n >= l.len {
		return
	}
	l.len, l.pieces = n, l.pieces[:(n+perPiece-1)/perPiece]
	if rest := n % perPiece; rest > 0 {
		l.pieces[n/perPiece] = l.pieces[n/perPiece][:rest]
	}
}

// first keeps those of many things that come first in an order: at most so many.
type first[T any] struct {
	most    int
	compare func(a, b *T) int // never 0
	work    *work
	all     list[T]
	full    bool // what is not before last is none of them
	last    T
	next    T // that is compared with last
}

// spare is how many more are kept than twice as many as are wanted, until they are sorted.
const spare = 1024

// room is how many are kept at a time, at most, if there are so many in all.
func (f *first[T]) room(all int) int { return min(all, 2*f.most+spare) }

func (f *first[T]) add(x T) {
	if f.full {
		if f.next = x; f.compare(&f.next, &f.last) > 0 {
			return
		}
	}
	if f.all.add(x, f.work); f.all.len >= 2*f.most+spare {
		f.sort()
		f.full, f.last = true, *f.all.at(f.most - 1)
	}
}

// sort returns what is kept, in order.
func (f *first[T]) sort() *list[T] {
	sort.Sort(f)
	f.all.cut(f.most)
	return &f.all
}

// Len, Less and Swap are for sort.Sort. Once the work has to end, the order does not matter.
func (f *first[T]) Len() int { return f.all.len }

func (f *first[T]) Less(i, j int) bool {
	return !f.work.did(perCompare) && f.compare(f.all.at(i), f.all.at(j)) < 0
}

func (f *first[T]) Swap(i, j int) {
	a, b := f.all.at(i), f.all.at(j)
	*a, *b = *b, *a
}
