package phext

import (
	"errors"
	"io"
	"slices"
	"strings"
)

// Scroll is a text and where it lies.
type Scroll struct {
	At   Coordinate
	Text string
}

// Phext is a parsed file: its scrolls that are not empty, in coordinate order.
// It is immutable, and its texts share the memory of what was parsed.
type Phext struct {
	scrolls []Scroll
	size    int // bytes when rendered
	// overwritten are the coordinates at which the parsed text has several scrolls.
	overwritten []Coordinate
}

// Parse reads a file in one pass, as SQ loads it: empty scrolls are nothing,
// and of two scrolls at one coordinate (which only a file that counts past Max
// can have) the later one stands. Any text is a phext.
func Parse(text string) *Phext {
	var scrolls []Scroll
	ordered := true
	at := Origin()
	for begin := 0; begin < len(text); {
		end := nextDelimiter(text, begin)
		if end > begin {
			ordered = ordered && follows(scrolls, at)
			scrolls = append(withRoom(scrolls, end, len(text)), Scroll{at, text[begin:end]})
		}
		if end < len(text) {
			at.advance(dimension[text[end]] - 1)
		}
		begin = end + 1
	}
	var overwritten []Coordinate
	if !ordered {
		all := len(scrolls)
		scrolls = tidy(scrolls)
		if len(scrolls) < all {
			overwritten = severalAt(text)
		}
	}
	return &Phext{scrolls: scrolls, size: rendered(scrolls), overwritten: overwritten}
}

// severalAt are the coordinates at which text has more than one scroll, in order.
func severalAt(text string) (all []Coordinate) {
	seen := map[Coordinate]int{}
	eachScroll(text, func(s Scroll) {
		if s.Text == "" {
			return
		}
		if seen[s.At]++; seen[s.At] == 2 {
			all = append(all, s.At)
		}
	})
	slices.SortFunc(all, Coordinate.Compare)
	return all
}

// Overwritten are the coordinates at which the parsed file has more than one
// scroll, because its delimiters count past Max. SQ keeps the last one of each,
// and its next write loses the others (LEGACY.md, "The data").
func (p *Phext) Overwritten() []Coordinate { return p.overwritten }

// withRoom is scrolls, of the first read bytes of all, with room for one more at
// least. If the rest is like those, it has room for all, so that they are not
// moved again and again; but no more than as many again.
func withRoom(scrolls []Scroll, read, all int) []Scroll {
	n := len(scrolls)
	if n < cap(scrolls) {
		return scrolls
	}
	return slices.Grow(scrolls, 1+min(n, n*(all-read)/read))
}

func follows(scrolls []Scroll, at Coordinate) bool {
	return len(scrolls) == 0 || scrolls[len(scrolls)-1].At.Compare(at) < 0
}

// tidy sorts scrolls and keeps the last of those at one coordinate.
func tidy(scrolls []Scroll) []Scroll {
	slices.SortStableFunc(scrolls, func(a, b Scroll) int { return a.At.Compare(b.At) })
	kept := scrolls[:0]
	for i, s := range scrolls {
		if i+1 < len(scrolls) && scrolls[i+1].At == s.At {
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// Of makes a phext of scrolls in any order; empty ones are left out, and of
// two at one coordinate the later one stands.
func Of(scrolls []Scroll) *Phext {
	kept := tidy(slices.Clone(scrolls))
	kept = slices.DeleteFunc(kept, func(s Scroll) bool { return s.Text == "" })
	return &Phext{scrolls: kept, size: rendered(kept)}
}

// Scrolls are all scrolls in coordinate order. The slice must not be changed.
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

// With is p with text at c, or without a scroll there if text is empty. p stays as it is.
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
	return &Phext{scrolls: append(next, rest...), size: p.size + p.growth(c, text, rest)}
}

// growth is by how many bytes the file grows when text comes to c and rest is
// all that stands behind c: only the way from the scroll before to the scroll
// behind changes, so that no other scroll has to be looked at.
func (p *Phext) growth(c Coordinate, text string, rest []Scroll) int {
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

func toNext(from Coordinate, rest []Scroll) int {
	if len(rest) == 0 {
		return 0
	}
	return Delimiters(from, rest[0].At)
}

// rendered is the size of scrolls in a file, in bytes.
func rendered(scrolls []Scroll) int {
	n, from := 0, Origin()
	for _, s := range scrolls {
		n += Delimiters(from, s.At) + len(s.Text)
		from = s.At
	}
	return n
}

// RenderedSize is len(p.Render()), without rendering.
func (p *Phext) RenderedSize() int { return p.size }

// Render is the file as SQ writes it: as few delimiters as there can be, and
// none behind the last scroll.
func (p *Phext) Render() string {
	var out strings.Builder
	out.Grow(p.size)
	from := Origin()
	var run []byte
	for _, s := range p.scrolls {
		run = AppendDelimiters(run[:0], from, s.At)
		out.Write(run)
		out.WriteString(s.Text)
		from = s.At
	}
	return out.String()
}

// Same says whether r holds exactly what Render would make, without making it.
// Errors are those of reading.
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
	return c.ended()
}

// Extension ends the names of phext files: SQ keeps the phext p as the file
// p.phext.
const Extension = ".phext"

// comparison reads along with what it is told to expect.
type comparison struct {
	r    io.Reader
	buf  []byte
	rest []byte // read and not compared yet
	same bool
	err  error // of reading
}

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

// fill reads on; false is the end, or an error.
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

func (c *comparison) ended() (bool, error) {
	return c.same && len(c.rest) == 0 && !c.fill() && c.err == nil, c.err
}
