package phext

import "math/bits"

// delimiters are the bytes that move on to the next library, shelf, ..., scroll, in
// the order of the numbers in a Coordinate.
var delimiters = [9]byte{0x01, 0x1f, 0x1e, 0x1d, 0x1c, 0x1a, 0x19, 0x18, 0x17}

// dimension[b] is 1 + the index in delimiters of the byte b, or 0 if b is no
// delimiter.
var dimension = func() (table [256]uint8) {
	for i, b := range delimiters {
		table[b] = uint8(i + 1)
	}
	return table
}()

// IsDelimiter says whether b is one of 01 17 18 19 1A 1C 1D 1E 1F.
func IsDelimiter(b byte) bool { return dimension[b] != 0 }

// nextDelimiter is the index of the first delimiter in text at i or later, or
// len(text).
func nextDelimiter(text string, i int) int {
	for ; i < len(text); i++ {
		i += skip(text[i:])
		if i < len(text) && dimension[text[i]] != 0 {
			return i
		}
	}
	return len(text)
}

// skip is a number of bytes at the start of text that are no delimiters. It looks at
// eight bytes at once, for 01 and for bytes from 10 to 1F, which all other
// delimiters are.
func skip(text string) int {
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

// each has 1 in each of its eight bytes.
const each = 0x0101010101010101

// zeros has the top bit set in the lowest byte of word that is 0, and in no lower
// byte. Its higher bytes mean nothing.
func zeros(word uint64) uint64 { return (word - each) & ^word & (0x80 * each) }

// HasDelimiter says whether s has a delimiter. As the text of a scroll it would
// then move all scrolls behind it.
func HasDelimiter[T ~string | ~[]byte](s T) bool {
	for i := range len(s) {
		if IsDelimiter(s[i]) {
			return true
		}
	}
	return false
}

// CountDelimiters is how many delimiters text has.
func CountDelimiters(text string) (n int) {
	for i := nextDelimiter(text, 0); i < len(text); i = nextDelimiter(text, i+1) {
		n++
	}
	return n
}

// advance moves c past one delimiter of dimension d, which counts from 0. A number
// at Max stays there, but those behind it start again at 1, as in libphext. So
// coordinates can go backwards in a file.
func (c *Coordinate) advance(d uint8) {
	if c[d] < Max {
		c[d]++
	}
	for i := int(d) + 1; i < len(c); i++ {
		c[i] = 1
	}
}

// Delimiters is the number of delimiters, in bytes, between a scroll at from and
// the next scroll, at to.
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

// steps is the number of delimiters of dimension i between from and to, which
// first differ in dimension level. Behind level every dimension starts again at 1.
// A number 0, which only SQ can have, needs no delimiter.
func steps(from, to Coordinate, i, level int) int {
	start := 1
	if i == level {
		start = int(from[i])
	}
	return max(0, int(to[i])-start)
}
