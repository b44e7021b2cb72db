package reader

import (
	"cmp"
	"context"
	"math"
	"slices"
	"unsafe"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// found is an entry of the answer to query while it is looked for.
type found struct {
	phext.Entry
	// sort is where the entry stands: its numbers as the client writes them, so that
	// dates stand in the order of dates although they are kept as names.
	sort phext.Coordinate
	// missing is the name of an entry that the phext does not know; else "".
	missing string
	number  int // in which it was found
}

// nowhere is the sort of a name that the phext does not know, which has no numbers.
var nowhere = phext.Coordinate(slices.Repeat([]uint32{math.MaxUint32}, len(phext.Coordinate{})))

// query answers query as SQ 0.6.0 does. The list of entries is counted as memory while
// it is made, and the answer, whose size is known then, until it is sent.
func (r *Reader) query(ctx context.Context, d *datadir.Dir, v datadir.View, call *rewrite.Call, gzip bool) (Answer, error) {
	q := call.Query
	from, to, err := ends(v, q)
	if err != nil {
		return Answer{}, err
	}
	most := len(q.Set)
	if q.Ranged {
		most += v.Phext.Phext.Within(from, to) + v.Names.Phext.Len()
	}
	turn := fairqueue.FromContext(ctx)
	all := &first[found]{compare: compareFound, work: &work{pause: func() error { return anotherTurn(ctx, turn) }}}
	all.most = int(min(q.Limit, uint64(most))) + len(q.Set) + 1                             // of the set, some may be in the range too
	release, err := admit(ctx, d, 2*int64(all.room(most))*int64(unsafe.Sizeof(found{})), v) // a short list that grows is there twice
	if err != nil {
		return Answer{}, err
	}
	list, err := find(v, q, from, to, all)
	if err != nil {
		release()
		return Answer{}, err
	}
	if v.Phext.Counted() {
		return r.stream(ctx, v, release, list.WriteJSON)
	}
	defer release()
	made, err := admit(ctx, d, int64(list.Size(call.Pace)), v)
	if err != nil {
		return Answer{}, err
	}
	defer made()
	return r.once(ctx, d, call.Recipient, list.JSON(call.Pace), gzip)
}

// ends are the ends of the range, if there is one.
func ends(v datadir.View, q *rewrite.QuerySpec) (from, to phext.Coordinate, err error) {
	if !q.Ranged {
		return from, to, nil
	}
	if from, err = numbers(v, q.From); err != nil {
		return from, to, err
	}
	if to, err = numbers(v, q.To); err != nil {
		return from, to, err
	}
	if from.Compare(to) > 0 {
		return from, to, q.ErrReversed()
	}
	return from, to, nil
}

// find is the union of range and set, each coordinate once, sorted, cut to the limit. all
// keeps what is found.
func find(v datadir.View, q *rewrite.QuerySpec, from, to phext.Coordinate, all *first[found]) (phext.Entries, error) {
	if q.Ranged {
		addRange(v, from, to, all)
	}
	for i, p := range q.Set {
		if all.work.did(perLookUp) {
			break
		}
		f := lookUp(v, p)
		f.number = i + 1
		all.add(f)
	}
	sorted := all.sort()
	return func(yield func(phext.Entry) bool) {
		left := q.Limit
		for i := 0; i < sorted.len && left > 0; i++ {
			f := sorted.at(i)
			if i+1 < sorted.len && compareSame(f, sorted.at(i+1)) == 0 {
				continue // the last one counts, as in SQ: it is called as in the set
			}
			if left--; !yield(f.Entry) {
				return
			}
		}
	}, all.work.err
}

func compareFound(a, b *found) int { return cmp.Or(compareSame(a, b), cmp.Compare(a.number, b.number)) }

// compareSame is 0 for what stands in the answer only once.
func compareSame(a, b *found) int {
	return cmp.Or(a.sort.Compare(b.sort), a.At.Compare(b.At), cmp.Compare(a.missing, b.missing))
}

// addRange adds the scrolls of a range. Those that have a name are called so.
func addRange(v datadir.View, from, to phext.Coordinate, all *first[found]) {
	named := v.Names.Phext.InOrder()
	for s := range v.Phext.Phext.All() {
		if all.work.did(perCompare) {
			return
		}
		f := found{Entry: phext.Entry{At: s.At, Text: s.Text}, sort: s.At}
		if name, ok := named(s.At); ok {
			f.Label, f.sort = name, sortOf(name, s.At)
		}
		if from.Compare(f.sort) <= 0 && f.sort.Compare(to) <= 0 {
			all.add(f)
		}
	}
}

// numbers are those of a range's end. A name that is none has the ones of its scroll.
func numbers(v datadir.View, p rewrite.Place) (phext.Coordinate, error) {
	if _, ok := phext.Numbers(p.Name); p.Name == "" || ok {
		return p.At, nil
	}
	at, ok := v.Names.Find(p.Name, nil)
	if !ok {
		return at, datadir.ErrNoName(p.Name)
	}
	return at, nil
}

// sortOf is where a scroll with a name stands among the others.
func sortOf(name string, at phext.Coordinate) phext.Coordinate {
	if numbers, ok := phext.Numbers(name); ok {
		return numbers
	}
	return at
}

// lookUp is the entry of a set's coordinate, which is there even without a scroll.
func lookUp(v datadir.View, p rewrite.Place) found {
	f := found{Entry: phext.Entry{At: p.At, Label: p.Sent}, sort: p.At}
	if p.Name != "" {
		at, ok := v.Names.Find(p.Name, nil)
		switch {
		case ok:
			f.At, f.sort = at, sortOf(p.Name, at)
		default:
			f.At, f.sort, f.missing = phext.Coordinate{}, sortOf(p.Name, nowhere), p.Name
			return f
		}
	}
	f.Text, _ = v.Phext.Phext.Select(f.At)
	return f
}
