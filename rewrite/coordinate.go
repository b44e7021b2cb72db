package rewrite

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// components splits a coordinate at its separators.
func components(s string) []string {
	return strings.FieldsFunc(s, isSeparator)
}

func isSeparator(r rune) bool { return r == '.' || r == '/' || r == ';' }

// parseCoordinate reads a client's coordinate: up to nine numbers, or a name. The
// caller's own id may be in front of nine numbers. The error for another id does not
// tell whether there is such a tenant, so that nobody can find out ids.
//
// Numbers that no file can keep, a 0 or one above 999, are a name. SQ keeps them until
// it reads the file again, and then 2025.2.13/... and 2026.2.13/... are one scroll
// (recorded in "short, dated and zero coordinates").
func parseCoordinate(s, ownID string) (at phext.Coordinate, name string, err *apierror.Error) {
	if len(s) > longestCoordinate {
		return at, "", badCoordinate("coordinate %s is %d bytes long: no coordinate, and no name of one, is", clip(s), len(s))
	}
	at, bad := phext.ParseCoordinate(s)
	if bad == nil {
		return at, "", nil // an id in front would have made it ten components
	}
	if id, numbers, ok := splitPrefix(s); ok {
		if id != ownID {
			return at, "", forbidden("coordinate %s has a prefix that is not your tenant id: leave the prefix out", clip(s))
		}
		s = numbers
		at, bad = phext.ParseCoordinate(s)
	}
	switch {
	case bad == nil:
		return at, "", nil
	case errors.Is(bad, phext.ErrRange):
		name, err = parseName(numericName(s))
		return phext.Origin(), name, err
	case hasLetter(s):
		name, err = parseName(s)
		return phext.Origin(), name, err
	}
	return at, "", badCoordinate("coordinate %s: %v", clip(s), bad)
}

// numericName is the name of a coordinate whose numbers no file can keep. It has all
// nine, without leading zeros, so that two spellings of the same numbers are one name.
func numericName(s string) string {
	given := components(s)
	all := slices.Repeat([]string{"1"}, len(phext.Coordinate{}))
	copy(all, given[:len(given)-1])
	all[len(all)-1] = given[len(given)-1]
	for i, n := range all {
		all[i] = cmp.Or(strings.TrimLeft(n, "0"), "0")
	}
	return strings.Join(all[:3], ".") + "/" + strings.Join(all[3:6], ".") + "/" + strings.Join(all[6:], ".")
}

// longestCoordinate is how much is read of what may be a coordinate, in bytes: an id and a name,
// or numbers with zeros in front.
const longestCoordinate = 2 * longestCoordinateName

// longestCoordinateName is the length of the longest name of a coordinate, in
// bytes.
const longestCoordinateName = 512

// parseName reads the name of a coordinate. It refuses characters that would break
// the phext in which names are kept, or the lines of toc.
func parseName(s string) (string, *apierror.Error) {
	switch {
	case len(s) > longestCoordinateName:
		return "", badCoordinate("the coordinate's name %s is %d bytes long: %d is the most", clip(s), len(s), longestCoordinateName)
	case strings.ContainsFunc(s, isControl):
		return "", badCoordinate("the coordinate's name %s has a control character: leave it out", clip(s))
	case strings.ContainsAny(s, "?&="):
		return "", badCoordinate("the coordinate's name %s has a '?', '&' or '=' in it, as if the URL were put together wrongly: leave it out", clip(s))
	}
	return canonicalName(s), nil
}

// WellFormedName says whether s has the form that names are meant to have: components
// that are not empty, at least two of them separated by a dot, and no '*'. Other names
// were always taken by SQ's own operations.
func WellFormedName(s string) bool {
	_, err := parseName(s)
	return err == nil && hasLetter(s) && strings.Contains(s, ".") && !strings.Contains(s, "*") && !hasEmptyComponent(s)
}

func hasEmptyComponent(s string) bool {
	return 1+strings.Count(s, ".")+strings.Count(s, "/")+strings.Count(s, ";") != len(components(s))
}

// canonicalName writes a name with '/'. Clients may write ';' instead, which needs
// no escaping in a URL.
func canonicalName(s string) string { return strings.ReplaceAll(s, ";", "/") }

// splitPrefix splits an id and nine numbers. An id may consist of digits alone, so
// ten components are the sign of one, and not letters.
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

// dimensionCoordinate makes a coordinate of the nine dimension parameters. It
// wants all nine or none, because without one another scroll would be addressed.
func (p *params) dimensionCoordinate() (at phext.Coordinate, name string, given bool, err *apierror.Error) {
	if !p.hasDimension() {
		return at, "", false, nil
	}
	var values, missing []string
	for i, name := range dimensions {
		value := p.get(paramLibrary + param(i))
		switch {
		case !p.given(paramLibrary + param(i)):
			missing = append(missing, name)
		case !isNumber(value):
			return at, "", true, badCoordinate("parameter %q is %s: a number is wanted", name, clip(value))
		}
		values = append(values, value)
	}
	if missing != nil {
		return at, "", true, badCoordinate("a coordinate needs all nine dimensions, and %s is missing", strings.Join(missing, ", "))
	}
	at, name, err = parseCoordinate(strings.Join(values, "."), "")
	return at, name, true, err
}
