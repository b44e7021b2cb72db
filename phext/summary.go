package phext

import (
	"iter"
	"slices"
	"strconv"
	"strings"
)

// listed are the scrolls in a summary. For a phext without scrolls that is the one
// empty scroll that SQ finds in an empty file (recorded in "seeded empty").
func (p *Phext) listed() iter.Seq[Scroll] {
	if p.n == 0 {
		return slices.Values([]Scroll{{At: Origin()}})
	}
	return p.All()
}

// Textmap is the answer to toc: a line for each scroll, with its coordinate and its
// text up to the first line break, and "..." if there is more (recorded in "crud"
// and "seeded long").
func (p *Phext) Textmap() string { return p.TextmapBy(new(Phext), nil) }

// TextmapBy is Textmap with the names of coordinates instead of their numbers. The
// text of names at a coordinate is the name of that coordinate.
func (p *Phext) TextmapBy(names *Phext, pace Pace) string {
	return build(pace, func(out TextWriter) { p.WriteTextmap(out, names) })
}

// WriteTextmap writes TextmapBy, piece by piece.
func (p *Phext) WriteTextmap(out TextWriter, names *Phext) {
	var label []byte
	named := names.InOrder()
	for s := range p.listed() {
		out.WriteString("* ")
		if name, ok := named(s.At); ok {
			out.WriteString(name)
		} else {
			label = s.At.Append(label[:0])
			out.Write(label)
		}
		out.WriteString(": ")
		line, _, more := strings.Cut(s.Text, "\n")
		out.WriteString(line)
		if more {
			out.WriteString("...")
		}
		out.WriteString("\n")
	}
}

// Checksum is the xxh3-128 hash of text, as 32 hexadecimal digits.
func Checksum(text string) string {
	var b [32]byte
	return string(AppendChecksum(b[:0], text))
}

// AppendChecksum appends Checksum(text) to b.
func AppendChecksum(b []byte, text string) []byte { return Pace(nil).AppendChecksum(b, text) }

// Checksum is the checksum of the rendered phext, as in SQ: delimiters at the end of
// a file do not count (recorded in "seeded trail").
func (p *Phext) Checksum() string { return p.ChecksumPaced(nil) }

// ChecksumPaced is Checksum.
func (p *Phext) ChecksumPaced(pace Pace) string {
	h := hasher{pace: pace}
	_, _ = p.WriteTo(&h) // which takes everything
	return string(h.appendSum(nil))
}

// Manifest is what a client with the scrolls of p sends to delta: a line
// "coordinate: checksum" for each of them.
func (p *Phext) Manifest() string {
	var out strings.Builder
	for s := range p.All() {
		out.WriteString(s.At.String() + ": " + Checksum(s.Text) + "\n")
	}
	return out.String()
}

// Missing is the text in the answer to delta of a scroll that only the client has.
const Missing = "---sq:Scroll-Missing---"

// Delta is the answer to delta, a rendered phext: all scrolls of p that are not in
// the client's manifest or have another checksum there, and Missing at the
// coordinates that only the manifest has (recorded in "manifest delta").
func (p *Phext) Delta(manifest map[Coordinate]string, pace Pace) string {
	return p.DeltaPhext(manifest, pace).RenderPaced(pace)
}

// DeltaPhext is what Delta renders.
func (p *Phext) DeltaPhext(manifest map[Coordinate]string, pace Pace) *Phext {
	var missing []Scroll
	for at := range manifest {
		pace.Did(perEntry)
		if _, ok := p.Select(at); !ok && !p.hasEmptyScroll(at) {
			missing = append(missing, Scroll{at, Missing})
		}
	}
	return ofOwn(missing, pace).WithAll(p.n, func(yield func(Scroll) bool) {
		for s := range p.All() {
			pace.Did(perEntry)
			if hash, ok := manifest[s.At]; (!ok || hash != pace.Checksum(s.Text)) && !yield(s) {
				return
			}
		}
	}, pace)
}

// hasEmptyScroll says whether SQ counts an empty scroll at c. It does so only at the
// origin of a phext without scrolls.
func (p *Phext) hasEmptyScroll(c Coordinate) bool { return p.n == 0 && c == Origin() }

// Where is the answer to where: the coordinate that SQ calculates from the scrolls
// of text that have at least limit bytes or, with checksum, from the checksum of
// text (recorded in "whole-phext reads").
func Where(text string, limit uint64, checksum bool, pace Pace) string {
	algo, at := "xor", Coordinate{}
	if checksum {
		algo, at = "checksum", spread(pace.Checksum(text))
	} else {
		at = xorOfScrolls(text, limit, pace)
	}
	return "Calculated coordinate " + at.String() + " for input (algo=" + algo + ", limit=" + strconv.FormatUint(limit, 10) + ")."
}

// xorOfScrolls combines the origin and the coordinates of all scrolls with at least
// limit bytes.
func xorOfScrolls(text string, limit uint64, pace Pace) Coordinate {
	at := Origin()
	eachScroll(text, pace, func(s Scroll) {
		if uint64(len(s.Text)) < limit {
			return
		}
		for i := range at {
			at[i] ^= s.At[i]
		}
	})
	return at
}

// spread makes each number of a coordinate of two characters of a checksum.
func spread(sum string) Coordinate {
	var at Coordinate
	for i := range at {
		at[i] = max(1, (uint32(sum[2*i])<<8|uint32(sum[2*i+1]))%Max)
	}
	return at
}

// TextWriter is a Builder, a counter, or what sends an answer. Callers do not look at
// errors.
type TextWriter interface {
	Write(b []byte) (int, error)
	WriteString(s string) (int, error)
}

// counter counts the bytes that are written.
type counter struct {
	n    int
	pace Pace
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += len(b)
	return len(b), nil
}

func (c *counter) WriteString(s string) (int, error) {
	c.n += len(s)
	c.pace.Did(len(s) + perWrite)
	return len(s), nil
}

// build returns what write writes. It calls write twice, first to learn the length:
// an answer can be large and can be kept in memory, and a text that grows while it
// is written takes several times its length, and more than its length at the end.
func build(pace Pace, write func(TextWriter)) string {
	length := counter{pace: pace}
	write(&length)
	out := Builder{Pace: pace}
	out.Grow(length.n)
	write(&out)
	return out.String()
}
