package phext

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Coordinate addresses a scroll: library, shelf, series, collection, volume,
// book, chapter, section, scroll, outermost first. A valid one has nine
// numbers from Min to Max; the type holds more, because legacy SQ does.
type Coordinate [9]uint32

// Min and Max bound each number of a valid coordinate. SQ stops counting at
// 999 when it reads a file (recorded in "whole coordinates beyond the range").
const (
	Min = 1
	Max = 999
)

// ErrCoordinate is wrapped by every error of ParseCoordinate.
var ErrCoordinate = errors.New("not a coordinate")

// errMalformed and errRange are made once: a named coordinate is tried as a
// numeric one first, on every request.
var (
	errMalformed = fmt.Errorf("%w: nine numbers separated by '.', '/' or ';' are wanted, such as 1.1.1/1.1.1/1.1.1", ErrCoordinate)
	errRange     = fmt.Errorf("%w: each of the nine numbers must be from %d to %d", ErrCoordinate, Min, Max)
)

// Origin is 1.1.1/1.1.1/1.1.1, where every phext begins.
func Origin() Coordinate { return Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 1} }

// ParseCoordinate reads exactly nine numbers from 1 to 999, separated by any
// of '.', '/' and ';', and nothing else. Leading zeros are let through, as
// legacy lets them. The error wraps ErrCoordinate and says what to do.
func ParseCoordinate(s string) (Coordinate, error) {
	var c Coordinate
	field, digits := 0, 0
	for i := range len(s) {
		switch b := s[i]; {
		case b >= '0' && b <= '9':
			c[field] = min(c[field]*10+uint32(b-'0'), Max+1) // capped: it cannot wrap
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

// Next is the valid coordinate right behind c, and whether there is one.
func (c Coordinate) Next() (Coordinate, bool) {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i] < Max {
			c[i]++
			return c, true
		}
		c[i] = Min
	}
	return c, false
}

// Compare orders coordinates as their scrolls lie in a file.
func (c Coordinate) Compare(d Coordinate) int { return slices.CompareFunc(c[:], d[:], cmp.Compare) }

// String is the canonical form, 1.1.1/1.1.1/1.1.1.
func (c Coordinate) String() string { return string(c.Append(nil)) }

// URL is the form that needs no escaping in a URL, 1.1.1;1.1.1;1.1.1.
func (c Coordinate) URL() string { return string(c.appendWith(nil, ';')) }

// Append appends the canonical form to b.
func (c Coordinate) Append(b []byte) []byte { return c.appendWith(b, '/') }

func (c Coordinate) appendWith(b []byte, macro byte) []byte {
	for i, n := range c {
		switch {
		case i == 0:
		case i%3 == 0:
			b = append(b, macro)
		default:
			b = append(b, '.')
		}
		if n < 10 { // most are
			b = append(b, '0'+byte(n))
			continue
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return b
}
