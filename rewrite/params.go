package rewrite

import (
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/apierror"
)

// param is one of the parameters that sqgate knows.
type param int

// The parameters. The nine dimensions, which spell a coordinate one number
// each, come last, outermost first.
const (
	paramPhext param = iota
	paramCoordinate
	paramScroll
	paramAlgo
	paramLimit
	paramLibrary
	parameters = paramLibrary + param(len(dimensions))
)

// dimensions are the names of the nine dimensions.
var dimensions = [9]string{"library", "shelf", "series", "collection", "volume", "book", "chapter", "section", "scroll"}

// names are all that a client may use, with the parameter that each stands for
// (CLIENTS.md). A name's place here is its bit in collector.seen.
var names = [...]struct {
	text string
	is   param
}{
	{"p", paramPhext}, {"phext", paramPhext},
	{"c", paramCoordinate}, {"coord", paramCoordinate}, {"coordinate", paramCoordinate}, {"a", paramCoordinate},
	{"s", paramScroll}, {"content", paramScroll}, {"data", paramScroll},
	{"algo", paramAlgo}, {"limit", paramLimit},
	{dimensions[0], paramLibrary}, {dimensions[1], paramLibrary + 1}, {dimensions[2], paramLibrary + 2},
	{dimensions[3], paramLibrary + 3}, {dimensions[4], paramLibrary + 4}, {dimensions[5], paramLibrary + 5},
	{dimensions[6], paramLibrary + 6}, {dimensions[7], paramLibrary + 7}, {dimensions[8], paramLibrary + 8},
}

// named is the place of a name in names.
func named(name string) (at int, known bool) {
	for i := range names {
		if names[i].text == name {
			return i, true
		}
	}
	return 0, false
}

// canonical is the parameter that a name stands for.
func canonical(name string) (param, bool) {
	at, known := named(name)
	return names[at].is, known
}

// params are the values of a request's parameters. Each may be given once in
// the query and once in the body, with one value. They are an array, and not a
// map, since every request makes one.
type params [parameters]struct {
	value string
	spelt string // the name it came under; "" if it was not given
}

func (p *params) given(which param) bool { return p[which].spelt != "" }

// get is the value of a parameter, "" if it was not given.
func (p *params) get(which param) string { return p[which].value }

// drop forgets a parameter.
func (p *params) drop(which param) { p[which].value, p[which].spelt = "", "" }

// collector gathers parameters and refuses what legacy would resolve silently:
// there, the last of a repeated parameter wins (recorded in "query spellings").
type collector struct {
	params
	seen uint32 // the names that were given in this source, by their places
}

// nextSource lets a name that stood in the query stand in the body as well.
func (c *collector) nextSource() { c.seen = 0 }

// add takes one parameter; unknown names are ignored, as in legacy SQ.
func (c *collector) add(name, value string) *apierror.Error {
	at, known := named(name)
	if !known {
		return nil
	}
	return c.put(names[at].is, at, name, value)
}

// put takes a parameter under a name with that place in seen.
func (c *collector) put(is param, at int, name, value string) *apierror.Error {
	if c.seen&(1<<at) != 0 {
		return badRequest("parameter %q is given twice: give it once", name)
	}
	c.seen |= 1 << at
	if !utf8.ValidString(value) {
		return notUTF8("parameter " + name)
	}
	had := &c.params[is]
	if had.spelt != "" && !sameValue(is, had.value, value) {
		return badRequest("parameters %q and %q are the same parameter with different values: give one of them", had.spelt, name)
	}
	had.value, had.spelt = value, name
	return nil
}

// sameValue compares two spellings of one parameter; a coordinate may be
// written with other separators and still be the same.
func sameValue(which param, a, b string) bool {
	switch {
	case which != paramCoordinate:
		return a == b
	case hasLetter(a) || hasLetter(b):
		return canonicalName(a) == canonicalName(b)
	}
	return strings.Join(components(a), ".") == strings.Join(components(b), ".")
}

// query reads a raw query as legacy SQ does: split at '&', the first '=' ends
// the name, a name without '=' is nothing, '+' is a space, a '%' that starts no
// escape stands for itself (recorded in "query spellings").
func (c *collector) query(raw string) *apierror.Error {
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
