package phext

import (
	"cmp"
	"errors"
	"fmt"
	"math"
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

// ErrCoordinate is what all errors of ParseCoordinate wrap. ErrRange is the one for
// numbers that no file can keep.
var (
	ErrCoordinate = errors.New("not a coordinate")
	ErrRange      = fmt.Errorf("%w: each number must be from %d to %d", ErrCoordinate, Min, Max)
)

// errMalformed is made only once, because ParseCoordinate is tried on each named
// coordinate too.
var errMalformed = fmt.Errorf("%w: up to nine numbers separated by '.', '/' or ';' are wanted, such as 1.1.1/1.1.1/1.1.1", ErrCoordinate)

// Origin is the first coordinate of every phext, 1.1.1/1.1.1/1.1.1.
func Origin() Coordinate { return Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 1} }

// ParseCoordinate reads one to nine numbers from Min to Max, with '.', '/' or ';'
// between them. They may have leading zeros. As in SQ, the last number is the scroll,
// and those that are missing are 1, so 2.3.5 is 2.3.1/1.1.1/1.1.5 (recorded in "short,
// dated and zero coordinates"). The error wraps ErrCoordinate and says what is wanted.
func ParseCoordinate(s string) (Coordinate, error) {
	c, ok := Numbers(s)
	switch {
	case !ok:
		return Coordinate{}, errMalformed
	case !c.Valid():
		return Coordinate{}, ErrRange
	}
	return c, nil
}

// Numbers reads what ParseCoordinate reads, and numbers of any size. One that is too
// large for a Coordinate becomes the largest that fits.
func Numbers(s string) (c Coordinate, ok bool) {
	const last = len(c) - 1
	field, digits := 0, 0
	for i := range len(s) {
		switch b := s[i]; {
		case b >= '0' && b <= '9':
			c[field] = uint32(min(uint64(c[field])*10+uint64(b-'0'), math.MaxUint32))
			digits++
		case isSeparator(b) && digits > 0 && field < last:
			field, digits = field+1, 0
		default:
			return Coordinate{}, false
		}
	}
	if digits == 0 {
		return Coordinate{}, false
	}
	for c[last] = c[field]; field < last; field++ {
		c[field] = Min
	}
	return c, true
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

// LastWith is the last coordinate that has the first n numbers of c.
func (c Coordinate) LastWith(n int) Coordinate {
	for i := n; i < len(c); i++ {
		c[i] = Max
	}
	return c
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
