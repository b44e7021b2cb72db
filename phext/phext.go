package phext

import (
	"errors"
	"io"
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
	scrolls []Scroll
	size    int // of the rendered file, in bytes
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
// a single byte takes as much memory as one of 50. Before memory is taken for scrolls,
// room is asked for it, in bytes, and its error ends the parsing. The memory is in use until
// the Phext is not. The scrolls are counted first, so that the list of them is not copied.
func ParseWithin(text string, pace Pace, room func(bytes int64) error) (*Phext, error) {
	n := countScrolls(text, pace)
	if err := room(ScrollSize * int64(n)); err != nil {
		return nil, err
	}
	scrolls := make([]Scroll, 0, n)
	ordered := true
	at := Origin()
	for begin := 0; begin < len(text); {
		end := pace.nextDelimiter(text, begin)
		if end > begin {
			pace.Did(perScroll)
			ordered = ordered && follows(scrolls, at)
			scrolls = append(scrolls, Scroll{at, text[begin:end]})
		}
		if end < len(text) {
			at.advance(dimension[text[end]] - 1)
		}
		begin = end + 1
	}
	var overwritten []Coordinate
	if !ordered {
		all := len(scrolls)
		scrolls = sortScrolls(scrolls, pace)
		if len(scrolls) < all {
			if err := room(seenSize * int64(all)); err != nil {
				return nil, err
			}
			overwritten = severalAt(text, pace)
		}
	}
	return &Phext{scrolls: scrolls, size: renderedSize(scrolls, pace), overwritten: overwritten}, nil
}

// seenSize is at least the memory of one coordinate in a map, in bytes.
const seenSize = 128

// Memory is what the scrolls take beside their texts, in bytes.
func (p *Phext) Memory() int64 { return ScrollSize * int64(cap(p.scrolls)) }

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

// follows says whether at is behind the last of scrolls.
func follows(scrolls []Scroll, at Coordinate) bool {
	return len(scrolls) == 0 || scrolls[len(scrolls)-1].At.Compare(at) < 0
}

// sortScrolls sorts scrolls and keeps the last one of those at one coordinate.
func sortScrolls(scrolls []Scroll, pace Pace) []Scroll {
	slices.SortStableFunc(scrolls, func(a, b Scroll) int {
		pace.Did(perCompare)
		return a.At.Compare(b.At)
	})
	kept := scrolls[:0]
	for i, s := range scrolls {
		pace.Did(perScroll)
		if i+1 < len(scrolls) && scrolls[i+1].At == s.At {
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// Of makes a phext of scrolls in any order. It leaves out empty ones, and of two
// at one coordinate it keeps the later one.
func Of(scrolls []Scroll) *Phext { return OfPaced(scrolls, nil) }

// OfPaced is Of(scrolls).
func OfPaced(scrolls []Scroll, pace Pace) *Phext {
	kept := sortScrolls(slices.Clone(scrolls), pace)
	kept = slices.DeleteFunc(kept, func(s Scroll) bool { return s.Text == "" })
	return &Phext{scrolls: kept, size: renderedSize(kept, pace)}
}

// Scrolls are all scrolls in the order of their coordinates. The caller must not
// change the slice.
func (p *Phext) Scrolls() []Scroll { return p.scrolls }

// Len is the number of scrolls that are not empty.
func (p *Phext) Len() int { return len(p.scrolls) }

// Select is the text at c, and whether there is any.
func (p *Phext) Select(c Coordinate) (string, bool) {
	i, ok := p.find(c)
	if !ok {
		return "", false
	}
	return p.scrolls[i].Text, true
}

func (p *Phext) find(c Coordinate) (int, bool) {
	return slices.BinarySearchFunc(p.scrolls, c, func(s Scroll, c Coordinate) int { return s.At.Compare(c) })
}

// With is p with text at c, or without a scroll at c if text is empty. It does not
// change p.
func (p *Phext) With(c Coordinate, text string) *Phext {
	i, ok := p.find(c)
	next := make([]Scroll, 0, len(p.scrolls)+1)
	next = append(next, p.scrolls[:i]...)
	if text != "" {
		next = append(next, Scroll{c, text})
	}
	if ok {
		i++
	}
	rest := p.scrolls[i:]
	return &Phext{scrolls: append(next, rest...), size: p.size + p.sizeGrowth(c, text, rest)}
}

// sizeGrowth is the number of bytes by which the file grows if text is put at c. rest
// are the scrolls behind c. Only what is between the scrolls before and behind c
// changes, so it looks at no others.
func (p *Phext) sizeGrowth(c Coordinate, text string, rest []Scroll) int {
	i, replaces := p.find(c)
	from := Origin()
	if i > 0 {
		from = p.scrolls[i-1].At
	}
	was, is := toNext(from, rest), toNext(from, rest)
	around := Delimiters(from, c) + toNext(c, rest)
	if replaces {
		was = around + len(p.scrolls[i].Text)
	}
	if text != "" {
		is = around + len(text)
	}
	return is - was
}

// SizeWith is the RenderedSize of With(c, text), in bytes.
func (p *Phext) SizeWith(c Coordinate, text string) int {
	i, ok := p.find(c)
	if ok {
		i++
	}
	return p.size + p.sizeGrowth(c, text, p.scrolls[i:])
}

// toNext is the number of delimiters, in bytes, between from and the first of rest.
func toNext(from Coordinate, rest []Scroll) int {
	if len(rest) == 0 {
		return 0
	}
	return Delimiters(from, rest[0].At)
}

// renderedSize is the size of a file with scrolls, in bytes.
func renderedSize(scrolls []Scroll, pace Pace) int {
	n, from := 0, Origin()
	for _, s := range scrolls {
		pace.Did(perScroll / 4)
		n += Delimiters(from, s.At) + len(s.Text)
		from = s.At
	}
	return n
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
	for _, s := range p.scrolls {
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
	for _, s := range p.scrolls {
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
	for _, s := range p.scrolls {
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
