package phext

import (
	"iter"
	"slices"
	"sort"
	"unsafe"
)

// The scrolls of a phext are kept in blocks, so that a list of them is never allocated or
// copied as a whole: it may have a million, and to change one takes a block and the list of
// blocks.
const (
	blockSize   = 512 // scrolls at most
	blockMemory = int64(unsafe.Sizeof([]Scroll(nil)))
)

// builder makes a phext of scrolls that come in the order of their coordinates.
type builder struct {
	Phext
	most int // how many more may come
	last Coordinate
}

func newBuilder(most int) *builder { return &builder{most: most, last: Origin()} }

// add adds a scroll that is not empty. It returns false, and adds nothing, if its
// coordinate is not behind the last one.
func (b *builder) add(s Scroll) bool {
	if b.n > 0 && b.last.Compare(s.At) >= 0 {
		return false
	}
	if b.n%blockSize == 0 {
		b.blocks = append(b.blocks, make([]Scroll, 0, min(b.most, blockSize)))
	}
	block := &b.blocks[len(b.blocks)-1]
	*block = append(*block, s)
	b.n++
	b.most--
	b.size += Delimiters(b.last, s.At) + len(s.Text)
	b.last = s.At
	return true
}

// phext is what was added. The last block may have had room for more that did not come.
func (b *builder) phext() *Phext {
	if n := len(b.blocks); n > 0 && cap(b.blocks[n-1]) > 2*len(b.blocks[n-1]) {
		b.blocks[n-1] = slices.Clone(b.blocks[n-1])
	}
	return &b.Phext
}

// Ordered makes a phext of at most so many scrolls, which come in the order of their
// coordinates, each once. It leaves out empty ones.
func Ordered(most int, scrolls iter.Seq[Scroll], pace Pace) *Phext {
	return new(Phext).WithAll(most, scrolls, pace)
}

// Blocks are all scrolls in the order of their coordinates, in blocks, of which none is
// empty. The caller must not change them.
func (p *Phext) Blocks() [][]Scroll { return p.blocks }

// All are all scrolls in the order of their coordinates.
func (p *Phext) All() iter.Seq[Scroll] { return p.From(Coordinate{}) }

// From are the scrolls at c and behind it.
func (p *Phext) From(c Coordinate) iter.Seq[Scroll] {
	return func(yield func(Scroll) bool) {
		k, i, _ := p.find(c)
		for ; k < len(p.blocks); k, i = k+1, 0 {
			for _, s := range p.blocks[k][i:] {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// find is where the scroll at c is, or belongs: in which block, and where in it.
func (p *Phext) find(c Coordinate) (block, at int, there bool) {
	if len(p.blocks) == 0 {
		return 0, 0, false
	}
	block = max(0, sort.Search(len(p.blocks), func(k int) bool { return p.blocks[k][0].At.Compare(c) > 0 })-1)
	at, there = slices.BinarySearchFunc(p.blocks[block], c, func(s Scroll, c Coordinate) int { return s.At.Compare(c) })
	return block, at, there
}

// before is how many scrolls are before c.
func (p *Phext) before(c Coordinate) int {
	block, n, _ := p.find(c)
	for _, b := range p.blocks[:block] {
		n += len(b)
	}
	return n
}

// Within is how many scrolls lie from one coordinate to another, both included.
func (p *Phext) Within(from, to Coordinate) int {
	n := p.before(to) - p.before(from)
	if _, ok := p.Select(to); ok {
		n++
	}
	return n
}

// Before is the last scroll before c, if there is one.
func (p *Phext) Before(c Coordinate) (last Scroll, ok bool) {
	block, at, _ := p.find(c)
	switch {
	case at > 0:
		return p.blocks[block][at-1], true
	case block > 0:
		all := p.blocks[block-1]
		return all[len(all)-1], true
	}
	return Scroll{}, false
}

// Last is the last scroll, if there is one.
func (p *Phext) Last() (last Scroll, ok bool) {
	if len(p.blocks) == 0 {
		return Scroll{}, false
	}
	all := p.blocks[len(p.blocks)-1]
	return all[len(all)-1], true
}

// cursor goes through scrolls in order.
type cursor struct {
	blocks [][]Scroll
	i      int // in the first of them
}

// peek is the scroll at which it is, or nil behind the last one.
func (c *cursor) peek() *Scroll {
	if len(c.blocks) > 0 && c.i == len(c.blocks[0]) {
		c.blocks, c.i = c.blocks[1:], 0
	}
	if len(c.blocks) == 0 {
		return nil
	}
	return &c.blocks[0][c.i]
}

func (c *cursor) next() { c.i++ }

// InOrder returns a Select for coordinates in ascending order. It goes through p
// only once for all of them.
func (p *Phext) InOrder() func(Coordinate) (string, bool) {
	rest := cursor{blocks: p.blocks}
	return func(at Coordinate) (string, bool) {
		for s := rest.peek(); s != nil; s = rest.peek() {
			switch c := s.At.Compare(at); {
			case c == 0:
				return s.Text, true
			case c > 0:
				return "", false
			}
			rest.next()
		}
		return "", false
	}
}

// With is p with text at c, or without a scroll at c if text is empty. It does not
// change p, and shares most of it.
func (p *Phext) With(c Coordinate, text string) *Phext {
	k, i, there := p.find(c)
	var block, put []Scroll
	var behind [][]Scroll
	if len(p.blocks) > 0 {
		block, behind = p.blocks[k], p.blocks[k+1:]
	}
	next := &Phext{n: p.n, size: p.SizeWith(c, text)}
	if text != "" {
		put = []Scroll{{c, text}}
		next.n++
	}
	rest := block[i:]
	if there {
		rest = rest[1:]
		next.n--
	}
	var changed [][]Scroll
	switch all := slices.Concat(block[:i], put, rest); {
	case len(all) > blockSize:
		changed = [][]Scroll{slices.Clone(all[:blockSize/2]), slices.Clone(all[blockSize/2:])}
	case len(all) > 0:
		changed = [][]Scroll{all}
	}
	next.blocks = slices.Concat(p.blocks[:k], changed, behind)
	return next
}

// WithMemory is at least the memory that With takes beside the text, in bytes.
func (p *Phext) WithMemory() int64 {
	return 2*ScrollSize*blockSize + blockMemory*int64(len(p.blocks)+1)
}

// SizeWith is the RenderedSize of With(c, text), in bytes. Only what is between the scrolls
// before and behind c changes, so it looks at no others.
func (p *Phext) SizeWith(c Coordinate, text string) int {
	from, was := Origin(), ""
	if last, ok := p.Before(c); ok {
		from = last.At
	}
	block, i, there := p.find(c)
	rest := cursor{p.blocks[block:], i}
	if there {
		was = rest.peek().Text
		rest.next()
	}
	behind := rest.peek()
	return p.size + sizeBetween(from, c, text, behind) - sizeBetween(from, c, was, behind)
}

// sizeBetween is the size of what a file with text at c has between the scroll before c, at
// from, and the one behind it, if there is one, in bytes.
func sizeBetween(from, c Coordinate, text string, behind *Scroll) (n int) {
	if text != "" {
		n, from = Delimiters(from, c)+len(text), c
	}
	if behind != nil {
		n += Delimiters(from, behind.At)
	}
	return n
}

// WithAll is p with at most so many other scrolls, which come in the order of their
// coordinates, each once. An empty one is removed from p.
func (p *Phext) WithAll(most int, changed iter.Seq[Scroll], pace Pace) *Phext {
	b, rest := newBuilder(p.n+most), cursor{blocks: p.blocks}
	for s := range changed {
		for old := rest.peek(); old != nil && old.At.Compare(s.At) < 0; old = rest.peek() {
			pace.Did(perScroll)
			b.add(*old)
			rest.next()
		}
		if old := rest.peek(); old != nil && old.At == s.At {
			rest.next()
		}
		if s.Text != "" {
			pace.Did(perScroll)
			b.add(s)
		}
	}
	for old := rest.peek(); old != nil; old = rest.peek() {
		pace.Did(perScroll)
		b.add(*old)
		rest.next()
	}
	return b.phext()
}
