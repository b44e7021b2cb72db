package rewrite

import (
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// components splits a coordinate at every separator that SQ knows.
func components(s string) []string {
	return strings.FieldsFunc(s, isSeparator)
}

func isSeparator(r rune) bool { return r == '.' || r == '/' || r == ';' }

// parseCoordinate reads a client's coordinate. The caller's own id may stand
// in front; another id in that place is refused in the same words whether or
// not there is such a tenant, so that ids cannot be guessed.
func parseCoordinate(s, ownID string) (phext.Coordinate, *Error) {
	if id, numbers, ok := splitPrefix(s); ok {
		if id != ownID {
			return phext.Coordinate{}, forbidden("coordinate %s has a prefix that is not your tenant id: leave the prefix out", clip(s))
		}
		s = numbers
	}
	at, err := phext.ParseCoordinate(s)
	if err == nil {
		return at, nil
	}
	if hasLetter(s) {
		return phext.Coordinate{}, badCoordinate("coordinate %s has a name in it, and named coordinates are not served yet: use nine numbers, such as 1.1.1/1.1.1/1.1.1", clip(s))
	}
	return phext.Coordinate{}, badCoordinate("coordinate %s: %v", clip(s), err)
}

// splitPrefix recognises `<id>.` in front of nine numbers. An id may be all
// digits, so it is the count of ten that tells, not the letters.
func splitPrefix(s string) (id, numbers string, ok bool) {
	id, numbers, ok = strings.Cut(s, ".")
	if !ok || !looksLikeID(id) {
		return "", s, false
	}
	rest := components(numbers)
	if len(rest) != len(phext.Coordinate{}) {
		return "", s, false
	}
	for _, part := range rest {
		if !isNumber(part) {
			return "", s, false
		}
	}
	return id, numbers, true
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func hasLetter(s string) bool {
	for _, r := range s {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0x80 {
			return true
		}
	}
	return false
}

// dimensionCoordinate puts the nine dimension parameters together. All nine or
// none: a missing one would silently address another scroll.
func (p params) dimensionCoordinate() (at phext.Coordinate, given bool, err *Error) {
	var missing []string
	for i, name := range dimensions {
		value, ok := p[name]
		if !ok {
			missing = append(missing, name)
			continue
		}
		given = true
		n, bad := strconv.ParseUint(value, 10, 16)
		if bad != nil || n < phext.Min || n > phext.Max {
			return at, true, badCoordinate("parameter %q is %s: a number from %d to %d is wanted", name, clip(value), phext.Min, phext.Max)
		}
		at[i] = uint32(n)
	}
	if given && missing != nil {
		return at, true, badCoordinate("a coordinate needs all nine dimensions, and %s is missing", strings.Join(missing, ", "))
	}
	return at, given, nil
}
