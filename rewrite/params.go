package rewrite

import (
	"strings"
	"unicode/utf8"
)

// params are the parameters of a request that sqgate knows, by canonical name.
// Each may be given once in the query and once in the body, with one value.
type params map[string]string

// Canonical parameter names.
const (
	paramPhext      = "p"
	paramCoordinate = "c"
	paramScroll     = "s"
	paramAlgo       = "algo"
	paramLimit      = "limit"
)

// aliases maps every name a client may use to the canonical one (CLIENTS.md).
var aliases = map[string]string{
	"p": paramPhext, "phext": paramPhext,
	"c": paramCoordinate, "coord": paramCoordinate, "coordinate": paramCoordinate, "a": paramCoordinate,
	"s": paramScroll, "content": paramScroll, "data": paramScroll,
	"algo": paramAlgo, "limit": paramLimit,
}

// dimensions are the nine parameters that spell a coordinate one number each, outermost first.
var dimensions = [9]string{"library", "shelf", "series", "collection", "volume", "book", "chapter", "section", "scroll"}

func canonical(name string) (string, bool) {
	if c, ok := aliases[name]; ok {
		return c, true
	}
	return name, contains(dimensions[:], name)
}

// collector gathers parameters and refuses what legacy would resolve silently:
// there, the last of a repeated parameter wins (recorded in "query spellings").
type collector struct {
	values params
	spelt  map[string]string // canonical name -> the name it came under
	seen   map[string]bool   // names as written, in this source
}

func newCollector() *collector {
	return &collector{values: params{}, spelt: map[string]string{}, seen: map[string]bool{}}
}

// nextSource lets a name that stood in the query stand in the body as well.
func (c *collector) nextSource() { c.seen = map[string]bool{} }

// add takes one parameter; unknown names are ignored, as in legacy SQ.
func (c *collector) add(name, value string) *Error {
	canon, known := canonical(name)
	if !known {
		return nil
	}
	if c.seen[name] {
		return badRequest("parameter %q is given twice: give it once", name)
	}
	c.seen[name] = true
	if !utf8.ValidString(value) {
		return notUTF8("parameter " + name)
	}
	if had, ok := c.values[canon]; ok && !sameValue(canon, had, value) {
		return badRequest("parameters %q and %q are the same parameter with different values: give one of them", c.spelt[canon], name)
	}
	c.values[canon], c.spelt[canon] = value, name
	return nil
}

// sameValue compares two spellings of one parameter; a coordinate may be
// written with other separators and still be the same.
func sameValue(canon, a, b string) bool {
	switch {
	case canon != paramCoordinate:
		return a == b
	case hasLetter(a) || hasLetter(b):
		return canonicalName(a) == canonicalName(b)
	}
	return strings.Join(components(a), ".") == strings.Join(components(b), ".")
}

// query reads a raw query as legacy SQ does: split at '&', the first '=' ends
// the name, a name without '=' is nothing, '+' is a space, a '%' that starts no
// escape stands for itself (recorded in "query spellings").
func (c *collector) query(raw string) *Error {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		if err := c.add(unescape(name), unescape(value)); err != nil {
			return err
		}
	}
	return nil
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			out = append(out, ' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
