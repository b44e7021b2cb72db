package rewrite

import (
	"slices"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// Prefix is what coordinates begin with: those of list and search, and of a Scope.
// Numbers cover the coordinates that begin with them. A name covers what begins like it
// without the 1s at its end, so that docs.readme.1 covers docs.readme.2, and notes.1.1
// covers notes.today.1. The zero Prefix covers everything.
type Prefix struct {
	Text    string   // as it was written
	parts   []string // with which the coordinates begin
	numbers bool     // parts are numbers
}

// ParsePrefix reads a prefix as list has it. The error is an *apierror.Error, BadCoordinate.
func ParsePrefix(text string) (Prefix, error) {
	p, err := parsePrefix(text)
	if err != nil {
		return p, err
	}
	return p, nil
}

func parsePrefix(text string) (Prefix, *apierror.Error) {
	if len(text) > longestCoordinate {
		return Prefix{}, badCoordinate("the prefix %s is %d bytes long: no coordinate is", clip(text), len(text))
	}
	p := Prefix{Text: text}
	s := strings.TrimRight(text, "*/.;")
	if s == "" && strings.Trim(text, "*/") == "" {
		return p, nil
	}
	_, bad := parseName(s)
	p.numbers, p.parts = !hasLetter(s), components(s)
	switch {
	case bad != nil || hasEmptyComponent(s) || strings.Contains(s, "*"):
	case p.numbers && (len(p.parts) > len(phext.Coordinate{}) || !slices.ContainsFunc(p.parts, isNumber) || slices.ContainsFunc(p.parts, isNoNumber)):
	default:
		for !p.numbers && p.parts[len(p.parts)-1] == "1" {
			p.parts = p.parts[:len(p.parts)-1]
		}
		return p, nil
	}
	return Prefix{}, badCoordinate("the prefix %s: numbers or a name are wanted, such as 1.1.1/1.1.1 or docs.readme.1", clip(text))
}

func isNoNumber(s string) bool { return !isNumber(s) }

// CoversAll says whether every coordinate begins with the prefix.
func (p *Prefix) CoversAll() bool { return len(p.parts) == 0 }

// Covers says whether the scroll at a coordinate, which may have a name, begins as the
// prefix does.
func (p *Prefix) Covers(at phext.Coordinate, name string) bool {
	if name == "" {
		if len(p.parts) > 0 && !p.numbers {
			return false
		}
		for i, part := range p.parts {
			if n, err := strconv.ParseUint(part, 10, 32); err != nil || uint32(n) != at[i] {
				return false
			}
		}
		return true
	}
	for _, part := range p.parts {
		end := strings.IndexAny(name, "./")
		if end < 0 {
			end = len(name)
		}
		if !samePart(part, name[:end]) {
			return false
		}
		name = name[min(end+1, len(name)):]
	}
	return true
}

// reaches says whether a coordinate from one up to another begins with the prefix.
func (p *Prefix) reaches(from, to phext.Coordinate) bool {
	first := phext.Origin()
	for i, part := range p.parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if !p.numbers || err != nil {
			return false
		}
		first[i] = uint32(n)
	}
	return first.Compare(to) <= 0 && from.Compare(first.LastWith(len(p.parts))) <= 0
}

// samePart compares components: numbers as numbers.
func samePart(a, b string) bool {
	return a == b || isNumber(a) && isNumber(b) && strings.TrimLeft(a, "0") == strings.TrimLeft(b, "0")
}
