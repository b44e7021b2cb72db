package rewrite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// scroll finds the text of insert, update and where. With a coordinate in the
// query, the body is the scroll, whatever it looks like. Without one, a form or a
// JSON object may carry phext, coordinate and scroll. A body wins over `s`, as in
// legacy SQ (recorded in "bodies"). body is nil if the request has none, not even
// an empty one.
func (h *Head) scroll(got *collector, body []byte) ([]byte, *apierror.Error) {
	if body == nil && (h.Op == Insert || h.Op == Update) && !got.given(paramScroll) {
		return nil, noText(h.Op)
	}
	if !h.TakesBody() || len(body) == 0 || h.Op == Delta {
		return got.text(), nil
	}
	if h.Op == Where || got.hasCoordinate() {
		return body, nil
	}
	carried, err := got.carried(body)
	if err != nil || carried {
		return got.text(), err
	}
	return body, nil
}

// text is the scroll that the parameters carry.
func (p *params) text() []byte { return []byte(p.get(paramScroll)) }

func (p *params) hasCoordinate() bool { return p.given(paramCoordinate) || p.hasDimension() }

func (p *params) hasDimension() bool {
	for which := paramLibrary; which < parameters; which++ {
		if p.given(which) {
			return true
		}
	}
	return false
}

// carried takes the parameters out of a body that is a JSON object or a form
// holding a scroll by name. Whether it does is told by the body alone: curl -d
// labels everything a form, JSON and plain text included. A body that has a
// coordinate by name and no scroll is an error, and not the text of the origin.
func (c *collector) carried(body []byte) (bool, *apierror.Error) {
	b, ok := jsonBody(body)
	if !ok {
		b, ok = formBody(body)
	}
	switch {
	case !ok:
		return false, nil
	case !b.has(func(p param) bool { return p == paramScroll }):
		if b.hasCoordinate() {
			return false, noScroll(b.kind)
		}
		return false, nil
	case b.kind == "JSON object" && !b.has(isCoordinate):
		return false, nil
	case b.cut:
		return false, badRequest("the %s has more than %d fields: send the parameters alone", b.kind, mostFields)
	}
	c.drop(paramScroll) // the body wins over the query's s
	c.nextSource()
	for _, f := range b.fields {
		if f.problem != "" {
			return false, badRequest("field %q of the %s %s", f.name, b.kind, f.problem)
		}
		if err := c.put(f.is, f.place, f.name, f.value); err != nil {
			return false, err
		}
	}
	return true, nil
}

// fieldsOf are the known fields of a body that is a form or a JSON object.
type fieldsOf struct {
	kind   string // for errors
	fields []field
	cut    bool // there are more than mostFields
}

type field struct {
	name, value, problem string
	is                   param
	place                int // in collector.seen
}

func (b *fieldsOf) has(wanted func(param) bool) bool {
	for _, f := range b.fields {
		if wanted(f.is) {
			return true
		}
	}
	return false
}

func isCoordinate(p param) bool { return p == paramCoordinate || p >= paramLibrary }

// hasCoordinate says whether a field is a coordinate. In a form, a name without
// separators is not enough: `a=1 and more` may be a text.
func (b *fieldsOf) hasCoordinate() bool {
	for _, f := range b.fields {
		if f.is != paramCoordinate {
			continue
		}
		_, name, err := parseCoordinate(f.value, "")
		if err == nil && (name == "" || b.kind != "form" || strings.ContainsAny(f.value, "/;")) {
			return true
		}
	}
	return false
}

// mostFields is more than there are parameters. A body with more fields is a text
// that looks like something else.
const mostFields = 64

// scrollNames are further names of the scroll in a body (SPEC section 3). Only
// the first is one in a form too.
var scrollNames = [...]string{"text", "value", "body", "scroll"}

// bodyName is the parameter that a name stands for in a body, and its place in
// collector.seen.
func bodyName(name string, others []string) (is param, place int, known bool) {
	if place, known := named(name); known {
		return names[place].is, place, true
	}
	for i, other := range others {
		if name == other {
			return paramScroll, len(names) + i, true
		}
	}
	return 0, 0, false
}

// formBody reads a form. Any unknown name in it makes it a text that happens to
// have a '=', unless it has a coordinate.
func formBody(body []byte) (*fieldsOf, bool) {
	b, unknown := &fieldsOf{kind: "form"}, false
	for rest, more := string(body), true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, "&")
		name, value, ok := strings.Cut(pair, "=")
		if !ok || len(b.fields) == mostFields {
			return nil, false
		}
		is, place, known := bodyName(name, scrollNames[:1])
		if !known {
			unknown = true
			continue
		}
		b.fields = append(b.fields, field{name: name, value: unescape(value), is: is, place: place})
	}
	if unknown && b.has(func(p param) bool { return p == paramScroll }) {
		return nil, false
	}
	return b, true
}

// jsonBody reads one JSON object, repeated names included.
func jsonBody(body []byte) (*fieldsOf, bool) {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' || !json.Valid(body) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	b := &fieldsOf{kind: "JSON object"}
	for n := 0; d.More(); n++ {
		if n == mostFields {
			b.cut = true
			break
		}
		f, known, err := nextField(d)
		if err != nil {
			return nil, false
		}
		if known {
			b.fields = append(b.fields, f)
		}
	}
	b.tellDimensions()
	return b, true
}

// tellDimensions decides what `scroll` is in a JSON object: one of the nine
// dimensions beside another of them, and the text otherwise.
func (b *fieldsOf) tellDimensions() {
	last := paramLibrary + param(len(dimensions)) - 1
	if b.has(func(p param) bool { return p >= paramLibrary && p < last }) {
		return
	}
	for i := range b.fields {
		if f := &b.fields[i]; f.is == last {
			f.is, f.place = paramScroll, len(names)+len(scrollNames)-1
		}
	}
}

func nextField(d *json.Decoder) (f field, known bool, err error) {
	name, err := d.Token()
	if err != nil {
		return f, false, err
	}
	var raw json.RawMessage // of a field that means nothing, no more is made
	if err := d.Decode(&raw); err != nil {
		return f, false, err
	}
	f.name = fmt.Sprint(name)
	if f.is, f.place, known = bodyName(f.name, scrollNames[:]); !known {
		return f, false, nil
	}
	var number json.Number
	switch {
	case raw[0] == '"':
		return f, true, json.Unmarshal(raw, &f.value)
	case json.Unmarshal(raw, &number) == nil && number != "": // a dimension may be a number
		f.value = number.String()
	default:
		f.problem = "must be a string"
	}
	return f, true, nil
}

// largestMissing bounds the delimiters that the markers of missing scrolls may
// need, in bytes: legacy renders each at its coordinate, so that a manifest of
// a few megabytes could ask for an answer of gigabytes.
const largestMissing = 64 << 20

// setManifest reads the body of delta, lines of "coordinate: hash". Lines
// without ": " say nothing, as in legacy SQ; the last of two for one
// coordinate wins. A coordinate that is none is refused: legacy takes it for
// the origin (recorded in "manifest delta").
func (c *Call) setManifest(body []byte) *apierror.Error {
	if !utf8.Valid(body) {
		return notUTF8("the manifest")
	}
	number := 0
	for line := range strings.Lines(string(body)) {
		number++
		if err := c.addLine(strings.TrimRight(line, "\r\n")); err != nil {
			err.Message = "line " + strconv.Itoa(number) + " of the manifest: " + err.Message
			return err
		}
	}
	return c.boundMissing()
}

// mostLines bounds the memory of a manifest: a line of 22 bytes takes several times that.
const mostLines = 1_000_000

func (c *Call) addLine(line string) *apierror.Error {
	text, rest, ok := strings.Cut(line, ": ")
	if !ok {
		return nil
	}
	if len(c.Manifest) == mostLines {
		return apierror.New(apierror.TooLarge, "a manifest may have %d lines: send it in parts", mostLines)
	}
	at, name, err := parseCoordinate(text, c.tenant.ID)
	if err != nil {
		return err
	}
	hash, _, _ := strings.Cut(rest, ": ")
	c.Manifest = append(c.Manifest, ManifestLine{At: at, Name: name, Hash: hash})
	return nil
}

func (c *Call) boundMissing() *apierror.Error {
	sorted := slices.Clone(c.Manifest)
	slices.SortFunc(sorted, func(a, b ManifestLine) int { return a.At.Compare(b.At) })
	size, from := 0, phext.Origin()
	for _, line := range sorted {
		size += phext.Delimiters(from, line.At)
		from = line.At
	}
	if size > largestMissing {
		return apierror.New(apierror.TooLarge, "the manifest's coordinates lie so far apart that the answer could not be sent: send it in parts")
	}
	return nil
}
