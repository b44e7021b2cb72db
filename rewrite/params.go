package rewrite

import (
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// param is a parameter of a request, whichever of its names the client uses.
type param int

// All parameters. The last nine are the dimensions, outermost first: each is one
// number of a coordinate.
const (
	paramPhext param = iota
	paramCoordinate
	paramScroll
	paramAlgo
	paramLimit
	paramFrom
	paramTo
	paramSet
	paramQ
	paramNamespace
	paramPage
	paramSince
	paramAfter
	paramLibrary
	paramCount = paramLibrary + param(len(dimensions))
)

// dimensions are the names of the nine dimensions, outermost first.
var dimensions = [9]string{"library", "shelf", "series", "collection", "volume", "book", "chapter", "section", "scroll"}

// names are the names that a client may use, and the parameter of each
// (docs/clients.md). In a body there are also scrollNames.
var names = [...]struct {
	text  string
	param param
}{
	{"p", paramPhext}, {"phext", paramPhext},
	{"c", paramCoordinate}, {"coord", paramCoordinate}, {"coordinate", paramCoordinate}, {"a", paramCoordinate},
	{"s", paramScroll}, {"content", paramScroll}, {"data", paramScroll},
	{"algo", paramAlgo}, {"limit", paramLimit},
	{dimensions[0], paramLibrary}, {dimensions[1], paramLibrary + 1}, {dimensions[2], paramLibrary + 2},
	{dimensions[3], paramLibrary + 3}, {dimensions[4], paramLibrary + 4}, {dimensions[5], paramLibrary + 5},
	{dimensions[6], paramLibrary + 6}, {dimensions[7], paramLibrary + 7}, {dimensions[8], paramLibrary + 8},
	{"from", paramFrom}, {"to", paramTo}, {"set", paramSet}, {"q", paramQ}, {"namespace", paramNamespace}, {"page", paramPage}, {"since", paramSince}, {"after", paramAfter},
}

// inURLsAlone says whether bodies do not have the parameter: there, such a name is
// part of a text.
func inURLsAlone(p param) bool { return p >= paramFrom && p < paramLibrary }

// nameIndex is the index of a name in names.
func nameIndex(name string) (index int, known bool) {
	for i := range names {
		if names[i].text == name {
			return i, true
		}
	}
	return 0, false
}

// params are the values of a request's parameters. They are an array because
// every request needs them, and a map costs more.
type params [paramCount]struct {
	value string
	name  string // that the client used; "" if the parameter was not given
}

func (p *params) given(which param) bool { return p[which].name != "" }

// get is the value of a parameter, or "" if it was not given.
func (p *params) get(which param) string { return p[which].value }

// remove removes a parameter, as if it had not been given.
func (p *params) remove(which param) { p[which].value, p[which].name = "", "" }

// collector collects the parameters of a request from its query, path and body.
// It refuses a parameter with two values. In SQ the last one counts (recorded in
// "query spellings").
type collector struct {
	params
	op   Op
	pace phext.Pace
	seen uint64 // a bit for each of names and scrollNames that this source has
}

// nextSource begins another source. A name may be repeated there, but not within
// one source.
func (c *collector) nextSource() { c.seen = 0 }

// add adds one parameter. It ignores an unknown name, as SQ does.
func (c *collector) add(name, value string) *apierror.Error {
	i, known := nameIndex(name)
	if !known || c.op == Query && names[i].param == paramScroll && name != "content" { // SQ's query has no s
		return nil
	}
	return c.put(names[i].param, i, name, value)
}

// put adds a parameter. bit is the bit of its name in seen.
func (c *collector) put(which param, bit int, name, value string) *apierror.Error {
	if c.seen&(1<<bit) != 0 {
		return badRequest("parameter %q is given twice: give it once", name)
	}
	c.seen |= 1 << bit
	if !c.pace.IsText(value) {
		return notUTF8("parameter " + name)
	}
	p := &c.params[which]
	if p.name != "" && !sameValue(which, p.value, value) {
		return badRequest("parameters %q and %q are the same parameter with different values: give one of them", p.name, name)
	}
	p.value, p.name = value, name
	return nil
}

// sameValue says whether a and b mean the same. Coordinates do if only their spelling
// differs.
func sameValue(which param, a, b string) bool {
	if which != paramCoordinate || a == b {
		return a == b
	}
	atA, nameA, errA := parseCoordinate(a, "")
	atB, nameB, errB := parseCoordinate(b, "")
	return errA == nil && errB == nil && atA == atB && nameA == nameB
}

// query reads a raw query as SQ does (recorded in "query spellings"): '&' ends a
// parameter, the first '=' ends its name, and a parameter without '=' does not
// count.
func (c *collector) query(raw string) *apierror.Error {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		if err := c.add(unescape(name, nil), unescape(value, nil)); err != nil {
			return err
		}
	}
	return nil
}

// unescape decodes a part of a query or form as SQ does: '+' is a space, and a '%'
// without two hexadecimal digits stays a '%'.
func unescape(s string, pace phext.Pace) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	var out strings.Builder // which is not filled with zeros first
	out.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if out.Len()%pieceSize == 0 {
			pace.Did(pieceSize)
		}
		switch {
		case s[i] == '+':
			out.WriteByte(' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
		default:
			out.WriteByte(s[i])
		}
	}
	return out.String()
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
