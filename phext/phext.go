package phext

import (
	"errors"
	"io"
	"iter"
	"slices"
	"unsafe"
)

// Extension ends the names of phext files: SQ keeps the phext NAME in the file
// NAME.phext.
const Extension = ".phext"

// NamesSuffix ends the name of the phext that holds the names of another phext's
// coordinates: its scroll at a coordinate is the name of that coordinate
// (docs/differences-from-sq.md, "Named coordinates").
const NamesSuffix = ".names"

// Scroll is a text and its coordinate.
type Scroll struct {
	At   Coordinate
	Text string
}

// Phext is a parsed file: its scrolls that are not empty, in the order of their
// coordinates. It is immutable. Its texts share the memory of the text that was
// parsed. The zero Phext has no scrolls.
type Phext struct {
	blocks [][]Scroll
	n      int // scrolls in them
	size   int // of the rendered file, in bytes
	// overwritten are the coordinates at which the parsed text has several scrolls.
	overwritten []Coordinate
}

// Parse reads the text of a file in one pass, as SQ does: it leaves out empty
// scrolls, and of two scrolls at one coordinate it keeps the later one. Only a file
// that counts past Max can have two.
func Parse(text string) *Phext {
	p, _ := ParseWithin(text, nil, func(int64) error { return nil }) // which never fails
	return p
}

// ScrollSize is the memory of one parsed scroll beside its text, in bytes.
const ScrollSize = int64(unsafe.Sizeof(Scroll{}))

// ParseWithin is Parse for a text that may have far more scrolls than is good: one of
// a single byte takes as much memory as one of 50. The scrolls are counted first: before
// memory is taken for them, room is asked for it, in bytes, and its error ends the parsing.
// The memory is in use until the Phext is not.
func ParseWithin(text string, pace Pace, room func(bytes int64) error) (*Phext, error) {
	n := countScrolls(text, pace)
	if err := room(ScrollSize * int64(n)); err != nil {
		return nil, err
	}
	b := newBuilder(n)
	for s := range scrollsOf(text, pace) {
		if !b.add(s) {
			return parseUnordered(text, n, pace, room)
		}
	}
	return b.phext(), nil
}

// parseUnordered is ParseWithin for a text of n scrolls that counts past Max.
func parseUnordered(text string, n int, pace Pace, room func(bytes int64) error) (*Phext, error) {
	if err := room((ScrollSize + seenSize) * int64(n)); err != nil {
		return nil, err
	}
	p := ofOwn(slices.AppendSeq(make([]Scroll, 0, n), scrollsOf(text, pace)), pace)
	if p.n < n {
		p.overwritten = severalAt(text, pace)
	}
	return p, nil
}

// scrollsOf are the scrolls of a text that are not empty, in the order of the text.
func scrollsOf(text string, pace Pace) iter.Seq[Scroll] {
	return func(yield func(Scroll) bool) {
		at := Origin()
		for begin := 0; begin < len(text); {
			end := pace.nextDelimiter(text, begin)
			if end > begin {
				pace.Did(perScroll)
				if !yield(Scroll{at, text[begin:end]}) {
					return
				}
			}
			if end < len(text) {
				at.advance(dimension[text[end]] - 1)
			}
			begin = end + 1
		}
	}
}

// seenSize is at least the memory of one coordinate in a map, in bytes.
const seenSize = 128

// Memory is what the scrolls take beside their texts, in bytes.
func (p *Phext) Memory() int64 { return ScrollSize*int64(p.n) + blockMemory*int64(len(p.blocks)) }

// severalAt are the coordinates, in order, at which text has more than one scroll.
func severalAt(text string, pace Pace) (all []Coordinate) {
	seen := map[Coordinate]int{}
	eachScroll(text, pace, func(s Scroll) {
		if s.Text == "" {
			return
		}
		if seen[s.At]++; seen[s.At] == 2 {
			all = append(all, s.At)
		}
	})
	slices.SortFunc(all, func(a, b Coordinate) int {
		pace.Did(perCompare)
		return a.Compare(b)
	})
	return all
}

// Overwritten are the coordinates at which the parsed file has more than one
// scroll, because its delimiters count past Max. SQ keeps the last one of each,
// and its next write loses the others (LEGACY.md, "The data").
func (p *Phext) Overwritten() []Coordinate { return p.overwritten }

// countScrolls is how many scrolls of a text are not empty.
func countScrolls(text string, pace Pace) (n int) {
	for begin := 0; begin < len(text); {
		end := pace.nextDelimiter(text, begin)
		if end > begin {
			n++
		}
		begin = end + 1
	}
	return n
}

// Of makes a phext of scrolls in any order. It leaves out empty ones, and of two
// at one coordinate it keeps the later one.
func Of(scrolls []Scroll) *Phext { return OfPaced(scrolls, nil) }

// OfPaced is Of(scrolls).
func OfPaced(scrolls []Scroll, pace Pace) *Phext { return ofOwn(slices.Clone(scrolls), pace) }

// ofOwn is OfPaced of scrolls that nobody else has. It sorts them.
func ofOwn(sorted []Scroll, pace Pace) *Phext {
	slices.SortStableFunc(sorted, func(a, b Scroll) int {
		pace.Did(perCompare)
		return a.At.Compare(b.At)
	})
	b := newBuilder(len(sorted))
	for i, s := range sorted {
		pace.Did(perScroll)
		if replaced := i+1 < len(sorted) && sorted[i+1].At == s.At; !replaced && s.Text != "" {
			b.add(s)
		}
	}
	return b.phext()
}

// Len is the number of scrolls that are not empty.
func (p *Phext) Len() int { return p.n }

// Select is the text at c, and whether there is any.
func (p *Phext) Select(c Coordinate) (string, bool) {
	block, at, there := p.find(c)
	if !there {
		return "", false
	}
	return p.blocks[block][at].Text, true
}

// RenderedSize is the length of what Render returns, in bytes. It does not render.
func (p *Phext) RenderedSize() int { return p.size }

// Render is the text of the file as SQ writes it: with as few delimiters as
// possible, and none behind the last scroll.
func (p *Phext) Render() string { return p.RenderPaced(nil) }

// RenderPaced is Render.
func (p *Phext) RenderPaced(pace Pace) string {
	out := Builder{Pace: pace}
	out.Grow(p.size)
	from := Origin()
	var run []byte
	for s := range p.All() {
		run = AppendDelimiters(run[:0], from, s.At)
		out.Write(run)
		out.WriteString(s.Text)
		pace.Did(perScroll)
		from = s.At
	}
	return out.String()
}

// WriteTo writes what Render returns to w, piece by piece.
func (p *Phext) WriteTo(w io.Writer) (n int64, err error) {
	from := Origin()
	var run []byte
	for s := range p.All() {
		run = AppendDelimiters(run[:0], from, s.At)
		written, err := w.Write(run)
		n += int64(written)
		if err != nil {
			return n, err
		}
		written, err = io.WriteString(w, s.Text)
		n += int64(written)
		if err != nil {
			return n, err
		}
		from = s.At
	}
	return n, nil
}

// Same says whether r has exactly what Render returns, without rendering. Its
// errors are those of r.
func (p *Phext) Same(r io.Reader) (bool, error) {
	c := comparison{r: r, same: true, buf: make([]byte, min(p.size+1, 64<<10))}
	from := Origin()
	var run []byte
	for s := range p.All() {
		run = AppendDelimiters(run[:0], from, s.At)
		c.expect(string(run))
		c.expect(s.Text)
		from = s.At
		if !c.same || c.err != nil {
			return false, c.err
		}
	}
	return c.end()
}

// SameText says whether r has exactly text. Its errors are those of r.
func SameText(r io.Reader, text string) (bool, error) {
	c := comparison{r: r, same: true, buf: make([]byte, min(len(text)+1, 64<<10))}
	c.expect(text)
	if !c.same || c.err != nil {
		return false, c.err
	}
	return c.end()
}

// comparison compares what r has with the expected text, piece by piece.
type comparison struct {
	r    io.Reader
	buf  []byte
	rest []byte // of buf: read, but not compared yet
	same bool   // so far
	err  error  // of r
}

// expect compares the next piece.
func (c *comparison) expect(text string) {
	for len(text) > 0 && c.same && c.err == nil {
		if len(c.rest) == 0 && !c.fill() {
			c.same = false
			return
		}
		n := min(len(c.rest), len(text))
		c.same = string(c.rest[:n]) == text[:n]
		c.rest, text = c.rest[n:], text[n:]
	}
}

// fill reads more, or returns false at the end of r or on an error.
func (c *comparison) fill() bool {
	for c.err == nil {
		n, err := c.r.Read(c.buf)
		c.rest = c.buf[:n]
		if errors.Is(err, io.EOF) {
			return n > 0
		}
		c.err = err
		if n > 0 {
			return true
		}
	}
	return false
}

// end says whether all was the same and r has no more.
func (c *comparison) end() (bool, error) {
	return c.same && len(c.rest) == 0 && !c.fill() && c.err == nil, c.err
}
