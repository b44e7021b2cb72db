package phext

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestBlocksAreOneList makes changes to a phext of many blocks, and to a map. Both must
// have the same scrolls after each.
func TestBlocksAreOneList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	anywhere := func() Coordinate {
		return Coordinate{1, 1, 1, 1, 1, 1, 1, 1 + random.Uint32N(5), 1 + random.Uint32N(800)}
	}
	var p Phext
	want := map[Coordinate]string{}
	write := func(at Coordinate, text string) {
		if want[at] = text; text == "" {
			delete(want, at)
		}
	}
	check := func(what string) {
		t.Helper()
		order := slices.SortedFunc(maps.Keys(want), Coordinate.Compare)
		find := p.InOrder()
		i := 0
		for s := range p.All() {
			if got, ok := p.Select(s.At); i >= len(order) || s.At != order[i] || s.Text != want[s.At] || got != s.Text || !ok {
				t.Fatalf("%s: scroll %d is %v", what, i, s)
			}
			if got, ok := find(s.At); got != s.Text || !ok {
				t.Fatalf("%s: %v is not found in order", what, s.At)
			}
			i++
		}
		if i != len(order) || p.Len() != i || p.RenderedSize() != len(p.Render()) || p.Render() != Parse(p.Render()).Render() {
			t.Fatalf("%s: %d scrolls of %d, Len is %d, RenderedSize %d", what, i, len(order), p.Len(), p.RenderedSize())
		}
		for _, block := range p.Blocks() {
			if len(block) == 0 || len(block) > blockSize {
				t.Fatalf("%s: a block of %d", what, len(block))
			}
		}
		from, to := anywhere(), anywhere()
		begin, _ := slices.BinarySearchFunc(order, from, Coordinate.Compare)
		end, there := slices.BinarySearchFunc(order, to, Coordinate.Compare)
		if there {
			end++
		}
		if got := p.Within(from, to); from.Compare(to) <= 0 && got != end-begin {
			t.Fatalf("%s: %d from %v to %v, not %d", what, got, from, to, end-begin)
		}
		if s, ok := p.Before(from); ok != (begin > 0) || ok && s.At != order[begin-1] {
			t.Fatalf("%s: %v is before %v", what, s.At, from)
		}
		if s, ok := p.Last(); ok != (len(order) > 0) || ok && s.At != order[len(order)-1] {
			t.Fatalf("%s: the last one is %v", what, s.At)
		}
		for s := range p.From(from) {
			if s.At != order[begin] {
				t.Fatalf("%s: the first one from %v is %v", what, from, s.At)
			}
			break
		}
	}
	check("nothing")
	for round := range 60 {
		most := map[bool]int{true: 100, false: 3}[round < 30] // at first more is written than removed
		for range 200 {
			at, text := anywhere(), strings.Repeat("x", random.IntN(most))
			p = *p.With(at, text)
			write(at, text)
		}
		check("with")
		changed := map[Coordinate]string{}
		for range random.IntN(200) {
			changed[anywhere()] = strings.Repeat("y", random.IntN(most))
		}
		for at, text := range changed {
			write(at, text)
		}
		p = *p.WithAll(len(changed), func(yield func(Scroll) bool) {
			for _, at := range slices.SortedFunc(maps.Keys(changed), Coordinate.Compare) {
				if !yield(Scroll{at, changed[at]}) {
					return
				}
			}
		}, nil)
		check("with all")
	}
	if len(p.Blocks()) < 4 {
		t.Fatalf("%d blocks", len(p.Blocks()))
	}
	for _, at := range slices.SortedFunc(maps.Keys(want), Coordinate.Compare) {
		p = *p.With(at, "")
		delete(want, at)
	}
	check("all removed")
}

// BenchmarkWith shows that a change takes the same for a large phext.
func BenchmarkWith(b *testing.B) {
	p := Parse(strings.Repeat(strings.Repeat("x\x17", 900)+"\x18", 900))
	at := slices.Collect(p.All())[p.Len()/2].At
	b.ReportAllocs()
	for b.Loop() {
		p.With(at, "changed")
	}
}

// TestABlockKeepsNoRoom for scrolls that were taken out, or did not come.
func TestABlockKeepsNoRoom(t *testing.T) {
	one := func(yield func(Scroll) bool) { yield(Scroll{At: Origin(), Text: "text"}) }
	var many []Scroll
	for i := range uint32(400) {
		many = append(many, Scroll{At: Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 1 + i}, Text: "text"})
	}
	gone := func(yield func(Scroll) bool) {
		for _, s := range many[1:] {
			if !yield(Scroll{At: s.At}) {
				return
			}
		}
	}
	for name, p := range map[string]*Phext{
		"did not come":  Ordered(blockSize, one, nil),
		"are taken out": Of(many).WithAll(len(many), gone, nil),
	} {
		if p.Len() != 1 || cap(p.blocks[0]) > 2 {
			t.Errorf("others %s: %d scrolls have room for %d", name, p.Len(), cap(p.blocks[0]))
		}
	}
}
