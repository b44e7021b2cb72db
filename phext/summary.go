package phext

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"
)

// orOrigin gives a phext without scrolls the one empty scroll that SQ finds in
// an empty file (recorded in "seeded empty").
func (p *Phext) orOrigin() []Scroll {
	if len(p.scrolls) == 0 {
		return []Scroll{{At: Origin()}}
	}
	return p.scrolls
}

// Textmap is what toc prints: a line for each scroll, with its coordinate and
// its text up to the first line break, and "..." if there is more (recorded in
// "crud" and "seeded long").
func (p *Phext) Textmap() string { return p.TextmapBy(new(Phext)) }

// TextmapBy is Textmap with names in the place of coordinates: each stands as
// text at the coordinate that it names.
func (p *Phext) TextmapBy(names *Phext) string {
	var label []byte
	return built(func(out sink) {
		named := names.inOrder()
		for _, s := range p.orOrigin() {
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
	})
}

// Checksum is the xxh3-128 of text, as 32 hexadecimal digits.
func Checksum(text string) string {
	var b [32]byte
	return string(AppendChecksum(b[:0], text))
}

// AppendChecksum appends Checksum(text) to b.
func AppendChecksum(b []byte, text string) []byte {
	sum := xxh3.HashString128(text).Bytes()
	return hex.AppendEncode(b, sum[:])
}

// Checksum is that of the rendered phext, which is what SQ hashes: delimiters
// at the end of a file do not count (recorded in "seeded trail").
func (p *Phext) Checksum() string { return Checksum(p.Render()) }

// Manifest is what a client sends to delta: a line "coordinate: checksum" for each scroll.
func (p *Phext) Manifest() string {
	var out strings.Builder
	for _, s := range p.scrolls {
		out.WriteString(s.At.String() + ": " + Checksum(s.Text) + "\n")
	}
	return out.String()
}

// Missing is what delta answers in the place of a scroll that only the client has.
const Missing = "---sq:Scroll-Missing---"

// Delta is the rendered phext of what a client lacks: each scroll that its
// manifest lacks or has with another checksum, and Missing where the manifest
// has a scroll that p has not (recorded in "manifest delta").
func (p *Phext) Delta(manifest map[Coordinate]string) string {
	var out []Scroll
	for _, s := range p.scrolls {
		if hash, ok := manifest[s.At]; !ok || hash != Checksum(s.Text) {
			out = append(out, s)
		}
	}
	for at := range manifest {
		if _, ok := p.Select(at); !ok && !p.holdsEmpty(at) {
			out = append(out, Scroll{at, Missing})
		}
	}
	return Of(out).Render()
}

// holdsEmpty says whether SQ has an empty scroll at c in memory, which it
// counts as there: the one at the origin of an empty file.
func (p *Phext) holdsEmpty(c Coordinate) bool { return len(p.scrolls) == 0 && c == Origin() }

// Where is what `where` answers: the coordinate that SQ computes from a text.
// limit is in bytes; with checksum, the xxh3-128 decides instead of the scrolls.
func Where(text string, limit uint64, checksum bool) string {
	algo, at := "xor", xorOfScrolls(text, limit)
	if checksum {
		algo, at = "checksum", spread(Checksum(text))
	}
	return "Calculated coordinate " + at.String() + " for input (algo=" + algo + ", limit=" + strconv.FormatUint(limit, 10) + ")."
}

// xorOfScrolls combines the coordinates of the scrolls of at least limit
// bytes, starting from the origin (recorded in "whole-phext reads").
func xorOfScrolls(text string, limit uint64) Coordinate {
	at := Origin()
	eachScroll(text, func(s Scroll) {
		if uint64(len(s.Text)) < limit {
			return
		}
		for i := range at {
			at[i] ^= s.At[i]
		}
	})
	return at
}

// spread maps pairs of a checksum's digits, as characters, to the nine numbers.
func spread(sum string) Coordinate {
	var at Coordinate
	for i := range at {
		at[i] = max(1, (uint32(sum[2*i])<<8|uint32(sum[2*i+1]))%Max)
	}
	return at
}

// sink takes what is written of an answer. It cannot fail.
type sink interface {
	Write(b []byte) (int, error)
	WriteString(s string) (int, error)
}

// count is the length of what would be written, in bytes.
type count int

func (n *count) Write(b []byte) (int, error) {
	*n += count(len(b))
	return len(b), nil
}

func (n *count) WriteString(s string) (int, error) {
	*n += count(len(s))
	return len(s), nil
}

// built is what write writes. It is run twice, first for the length alone: an
// answer may be large and may be kept, and a text that grows as it is written
// takes several times its length on the way, and more than it at the end.
func built(write func(sink)) string {
	var n count
	write(&n)
	var out strings.Builder
	out.Grow(int(n))
	write(&out)
	return out.String()
}

// inOrder is Select for coordinates of which none comes before the one asked
// for last: it walks along p once for all of them.
func (p *Phext) inOrder() func(Coordinate) (string, bool) {
	rest := p.scrolls
	return func(at Coordinate) (string, bool) {
		for len(rest) > 0 && rest[0].At.Compare(at) < 0 {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0].At != at {
			return "", false
		}
		return rest[0].Text, true
	}
}
