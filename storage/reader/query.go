package reader

import (
	"cmp"
	"context"
	"math"
	"slices"
	"unsafe"

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
		most += within(v.Phext.Phext, from, to) + v.Names.Phext.Len()
	}
	const size = 2 * (unsafe.Sizeof(found{}) + unsafe.Sizeof(phext.Entry{})) // a list that grows is there twice
	release, err := admit(ctx, d, int64(most)*int64(size), v)
	if err != nil {
		return Answer{}, err
	}
	list := find(v, q, from, to, make([]found, 0, most), call.Pace)
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

// within is how many scrolls lie from one coordinate to another.
func within(p *phext.Phext, from, to phext.Coordinate) int {
	begin, _ := slices.BinarySearchFunc(p.Scrolls(), from, func(s phext.Scroll, c phext.Coordinate) int { return s.At.Compare(c) })
	end, there := slices.BinarySearchFunc(p.Scrolls(), to, func(s phext.Scroll, c phext.Coordinate) int { return s.At.Compare(c) })
	if there {
		end++
	}
	return end - begin
}

// find is the union of range and set, each coordinate once, sorted, cut to the limit. all
// has room for what is found.
func find(v datadir.View, q *rewrite.QuerySpec, from, to phext.Coordinate, all []found, pace phext.Pace) phext.Entries {
	if q.Ranged {
		all = inRange(v, from, to, all, pace)
	}
	for _, p := range q.Set {
		pace.Did(perLookUp)
		all = append(all, lookUp(v, p))
	}
	slices.SortStableFunc(all, func(a, b found) int {
		pace.Did(perCompare)
		return cmp.Or(a.sort.Compare(b.sort), a.At.Compare(b.At), cmp.Compare(a.missing, b.missing))
	})
	list := make(phext.Entries, 0, min(uint64(len(all)), q.Limit))
	for i, f := range all {
		pace.Did(perCompare)
		if i+1 < len(all) && all[i+1].sort == f.sort && all[i+1].At == f.At && all[i+1].missing == f.missing {
			continue // the last one counts, as in SQ: it is called as in the set
		}
		if uint64(len(list)) == q.Limit {
			break
		}
		list = append(list, f.Entry)
	}
	return list
}

// inRange appends the scrolls of a range. Those that have a name are called so.
func inRange(v datadir.View, from, to phext.Coordinate, all []found, pace phext.Pace) []found {
	named := v.Names.Phext.InOrder()
	for _, s := range v.Phext.Phext.Scrolls() {
		pace.Did(perCompare)
		f := found{Entry: phext.Entry{At: s.At, Text: s.Text}, sort: s.At}
		if name, ok := named(s.At); ok {
			f.Label, f.sort = name, sortOf(name, s.At)
		}
		if from.Compare(f.sort) <= 0 && f.sort.Compare(to) <= 0 {
			all = append(all, f)
		}
	}
	return all
}

// numbers are those of a range's end. A name that is none has the ones of its scroll.
func numbers(v datadir.View, p rewrite.Place) (phext.Coordinate, error) {
	if _, ok := phext.Numbers(p.Name); p.Name == "" || ok {
		return p.At, nil
	}
	at, ok := v.Names.Find(p.Name)
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
		at, ok := v.Names.Find(p.Name)
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
