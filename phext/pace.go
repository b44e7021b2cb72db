package phext

import (
	"encoding/hex"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"
)

// Pace is told by what takes long how much work it has done since it said so last, in
// bytes, so that others can have the processor in between. nil = nobody wants to know.
type Pace func(bytes int)

// What counts as so many bytes of work: a delimiter and a scroll that are found, a
// scroll that is looked up, a part of a text that is written, and a comparison while a
// list is sorted.
const (
	perWrite     = 16
	perDelimiter = 16
	perScroll    = 64
	perEntry     = 512
	perCompare   = 64
)

// pieceSize is the longest text, in bytes, that is handled at once.
const pieceSize = 64 << 10

// Did tells of work.
func (p Pace) Did(bytes int) {
	if p != nil {
		p(bytes)
	}
}

// IsText says whether text is UTF-8.
func (p Pace) IsText(text string) bool {
	for text != "" {
		one := firstPiece(text)
		if !utf8.ValidString(one) {
			return false
		}
		p.Did(len(one))
		text = text[len(one):]
	}
	return true
}

// Checksum is Checksum(text).
func (p Pace) Checksum(text string) string {
	var b [32]byte
	return string(p.AppendChecksum(b[:0], text))
}

// AppendChecksum is AppendChecksum(b, text).
func (p Pace) AppendChecksum(b []byte, text string) []byte {
	if len(text) <= pieceSize {
		p.Did(len(text) / 8) // hashing is that much faster than other work
		sum := xxh3.HashString128(text).Bytes()
		return hex.AppendEncode(b, sum[:])
	}
	h := hasher{pace: p}
	_, _ = h.WriteString(text) // which never fails
	return h.appendSum(b)
}

// hasher is the checksum of what is written to it.
type hasher struct {
	xxh3.Hasher
	pace Pace
}

func (h *hasher) WriteString(text string) (int, error) {
	for rest := text; rest != ""; {
		one := rest[:min(len(rest), pieceSize)]
		_, _ = h.Hasher.WriteString(one) // which never fails
		h.pace.Did(len(one)/8 + perWrite)
		rest = rest[len(one):]
	}
	return len(text), nil
}

func (h *hasher) appendSum(b []byte) []byte {
	sum := h.Sum128().Bytes()
	return hex.AppendEncode(b, sum[:])
}

// HasDelimiter is HasDelimiter(text).
func (p Pace) HasDelimiter(text string) bool { return p.nextDelimiter(text, 0) < len(text) }

// Outermost is the index, in a Coordinate, of the first number that a delimiter in text
// moves on; -1 = there is no delimiter. As the text of a scroll it changes what has the
// same numbers before that one, from its coordinate on, and nothing else.
func (p Pace) Outermost(text string) int {
	least := len(delimiters)
	for i := p.nextDelimiter(text, 0); i < len(text); i = p.nextDelimiter(text, i+1) {
		least = min(least, int(dimension[text[i]])-1)
	}
	if least == len(delimiters) {
		return -1
	}
	return least
}

// Index is strings.Index(text, part).
func (p Pace) Index(text, part string) int {
	for from := 0; ; from += pieceSize {
		end := min(len(text), from+pieceSize+len(part)-1)
		if i := strings.Index(text[from:end], part); i >= 0 {
			p.Did(i)
			return from + i
		}
		p.Did(end - from)
		if end == len(text) {
			return -1
		}
	}
}

// nextDelimiter is nextDelimiter(text, i).
func (p Pace) nextDelimiter(text string, i int) int {
	for {
		end := min(i+pieceSize, len(text))
		if at := nextDelimiter(text[:end], i); at < end || end == len(text) {
			p.Did(at - i + perDelimiter)
			return at
		}
		p.Did(end - i)
		i = end
	}
}

// firstPiece is the beginning of text, without a part of a character at its end.
func firstPiece(text string) string {
	if len(text) <= pieceSize {
		return text
	}
	for end := pieceSize; end > pieceSize-utf8.UTFMax; end-- {
		if utf8.RuneStart(text[end]) {
			return text[:end]
		}
	}
	return text[:pieceSize] // it is not UTF-8
}

// Reader is r, which tells of what is read.
func (p Pace) Reader(r io.Reader) io.Reader { return &pacedReader{r, p} }

type pacedReader struct {
	io.Reader
	pace Pace
}

func (r *pacedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.pace.Did(n)
	return n, err
}

// Builder is a strings.Builder for a text that may be long.
type Builder struct {
	strings.Builder
	Pace Pace
}

// Write is strings.Builder's.
func (b *Builder) Write(text []byte) (int, error) {
	b.Pace.Did(len(text) + perWrite)
	return b.Builder.Write(text)
}

// WriteString is strings.Builder's, piece by piece.
func (b *Builder) WriteString(text string) (int, error) {
	for rest := text; rest != ""; {
		one := rest[:min(len(rest), pieceSize)]
		_, _ = b.Builder.WriteString(one) // which never fails
		b.Pace.Did(len(one) + perWrite)
		rest = rest[len(one):]
	}
	return len(text), nil
}
