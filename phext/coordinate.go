package phext

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Coordinate is the address of a scroll: the numbers of its library, shelf, series,
// collection, volume, book, chapter, section and scroll. Those of a valid one are
// from Min to Max. Others occur too, because SQ answers some requests with them.
type Coordinate [9]uint32

// Min and Max are the limits of each number of a valid coordinate. SQ does not
// count past 999 when it reads a file (recorded in "whole coordinates beyond the
// range").
const (
	Min = 1
	Max = 999
)

// ErrCoordinate is what all errors of ParseCoordinate wrap.
var ErrCoordinate = errors.New("not a coordinate")

// errMalformed and errRange are made only once, because ParseCoordinate is tried
// on each named coordinate too.
var (
	errMalformed = fmt.Errorf("%w: nine numbers separated by '.', '/' or ';' are wanted, such as 1.1.1/1.1.1/1.1.1", ErrCoordinate)
	errRange     = fmt.Errorf("%w: each of the nine numbers must be from %d to %d", ErrCoordinate, Min, Max)
)

// Origin is the first coordinate of every phext, 1.1.1/1.1.1/1.1.1.
func Origin() Coordinate { return Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 1} }

// ParseCoordinate reads exactly nine numbers from Min to Max, with '.', '/' or ';'
// between them. They may have leading zeros, as in SQ. The error wraps
// ErrCoordinate and says what is wanted.
func ParseCoordinate(s string) (Coordinate, error) {
	var c Coordinate
	field, digits := 0, 0
	for i := range len(s) {
		switch b := s[i]; {
		case b >= '0' && b <= '9':
			c[field] = min(c[field]*10+uint32(b-'0'), Max+1) // no overflow, however many digits
			digits++
		case isSeparator(b) && digits > 0 && field < len(c)-1:
			field, digits = field+1, 0
		default:
			return Coordinate{}, errMalformed
		}
	}
	if field != len(c)-1 || digits == 0 {
		return Coordinate{}, errMalformed
	}
	if !c.Valid() {
		return Coordinate{}, errRange
	}
	return c, nil
}

func isSeparator(b byte) bool { return b == '.' || b == '/' || b == ';' }

// Valid says whether each number is from Min to Max.
func (c Coordinate) Valid() bool {
	for _, n := range c {
		if n < Min || n > Max {
			return false
		}
	}
	return true
}

// Next is the valid coordinate that follows c. ok is false if c is the last one.
func (c Coordinate) Next() (next Coordinate, ok bool) {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i] < Max {
			c[i]++
			return c, true
		}
		c[i] = Min
	}
	return c, false
}

// Compare is negative if a scroll at c comes before one at d in a file, positive if
// it comes after it, and 0 if c and d are equal.
func (c Coordinate) Compare(d Coordinate) int { return slices.CompareFunc(c[:], d[:], cmp.Compare) }

// String is the canonical form, 1.1.1/1.1.1/1.1.1.
func (c Coordinate) String() string { return string(c.Append(nil)) }

// Append appends the canonical form to b.
func (c Coordinate) Append(b []byte) []byte {
	for i, n := range c {
		switch {
		case i == 0:
		case i%3 == 0:
			b = append(b, '/')
		default:
			b = append(b, '.')
		}
		if n < 10 { // as most are, and this is faster
			b = append(b, '0'+byte(n))
			continue
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return b
}
