package phext

import "math/bits"

// delimiters are the bytes that move to the next library, shelf, ... scroll,
// in the order of a Coordinate's numbers.
var delimiters = [9]byte{0x01, 0x1f, 0x1e, 0x1d, 0x1c, 0x1a, 0x19, 0x18, 0x17}

// dimension[b] is 1 + the dimension that byte b moves along, or 0.
var dimension = func() (table [256]uint8) {
	for i, b := range delimiters {
		table[b] = uint8(i + 1)
	}
	return table
}()

// IsDelimiter says whether b is one of 01 17 18 19 1A 1C 1D 1E 1F.
func IsDelimiter(b byte) bool { return dimension[b] != 0 }

// nextDelimiter is where in text the first delimiter stands from i on, or len(text).
func nextDelimiter(text string, i int) int {
	for ; i < len(text); i++ {
		i += plain(text[i:])
		if i < len(text) && dimension[text[i]] != 0 {
			return i
		}
	}
	return len(text)
}

// plain is how many bytes at the start of text are surely no delimiter. It
// looks at eight at once: a delimiter is 01, or has 1 as its upper half.
func plain(text string) int {
	i := 0
	for ; i+8 <= len(text); i += 8 {
		s := text[i : i+8]
		word := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		if found := zeros(word^1*each) | zeros(word&(0xf0*each)^0x10*each); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	return i
}

// each has the number 1 in each of eight bytes.
const each = 0x0101010101010101

// zeros sets the top bit of the first byte of word that is 0, as numbers of
// several bytes are stored from the lowest on; what it sets behind that one
// means nothing.
func zeros(word uint64) uint64 { return (word - each) & ^word & (0x80 * each) }

// HasDelimiter says whether a scroll of text s would be more than one scroll
// after the file is read again.
func HasDelimiter[T ~string | ~[]byte](s T) bool {
	for i := range len(s) {
		if IsDelimiter(s[i]) {
			return true
		}
	}
	return false
}

// advance moves c past one delimiter, along dimension d (from 0). A number
// that is at Max stays there, while those behind it start again, as libphext
// has it: coordinates can go backwards in such a file.
func (c *Coordinate) advance(d uint8) {
	if c[d] < Max {
		c[d]++
	}
	for i := int(d) + 1; i < len(c); i++ {
		c[i] = 1
	}
}

// Delimiters is the number of delimiter bytes that a file has between a scroll
// at from and the next at to.
func Delimiters(from, to Coordinate) int {
	n, level := 0, firstDifference(from, to)
	for i := level; i < len(to); i++ {
		n += steps(from, to, i, level)
	}
	return n
}

// AppendDelimiters appends those delimiters to b.
func AppendDelimiters(b []byte, from, to Coordinate) []byte {
	level := firstDifference(from, to)
	for i := level; i < len(to); i++ {
		for range steps(from, to, i, level) {
			b = append(b, delimiters[i])
		}
	}
	return b
}

func firstDifference(a, b Coordinate) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// steps is how often dimension i is moved along. Behind the first difference
// every dimension starts again at 1. A 0, which only legacy can hold, needs none.
func steps(from, to Coordinate, i, level int) int {
	start := 1
	if i == level {
		start = int(from[i])
	}
	return max(0, int(to[i])-start)
}
