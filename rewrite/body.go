package rewrite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

// scroll finds the text of insert, update and where. With a coordinate in the
// query the body is the scroll whatever it looks like; without one, a form or
// a JSON object may carry phext, coordinate and scroll. A body wins over `s`,
// as in legacy SQ (recorded in "bodies").
func (h *Head) scroll(got *collector, body []byte) ([]byte, *apierror.Error) {
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
// labels everything a form, JSON and plain text included.
func (c *collector) carried(body []byte) (bool, *apierror.Error) {
	fields, ok := jsonFields(body)
	if !ok {
		fields, ok = formFields(body)
	}
	if !ok {
		return false, nil
	}
	c.drop(paramScroll) // the body wins over the query's s
	c.nextSource()
	for _, f := range fields {
		if f.problem != "" {
			return false, badRequest("field %q of the JSON body %s", f.name, f.problem)
		}
		if err := c.add(f.name, f.value); err != nil {
			return false, err
		}
	}
	return true, nil
}

type field struct{ name, value, problem string }

// formFields reads a form. It is one only if a scroll stands in it by name and
// every name in it is known; anything else is text that happens to have a '='.
func formFields(body []byte) ([]field, bool) {
	var fields []field
	for rest, more := string(body), true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, "&")
		name, value, ok := strings.Cut(pair, "=")
		if _, known := canonical(name); !ok || !known || len(fields) == mostFields {
			return nil, false
		}
		fields = append(fields, field{name: name, value: unescape(value)})
	}
	return fields, carriesScroll(fields)
}

// mostFields is more than there are parameters; a body with more is a text
// that looks like something else.
const mostFields = 64

// jsonFields reads one JSON object, repeated names included. It counts as
// carrying parameters if a scroll stands in it by name beside a coordinate.
func jsonFields(body []byte) ([]field, bool) {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' || !json.Valid(body) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	var fields []field
	for d.More() {
		f, err := nextField(d)
		if err != nil {
			return nil, false
		}
		if _, known := canonical(f.name); !known {
			continue
		}
		if len(fields) == mostFields {
			return nil, false
		}
		fields = append(fields, f)
	}
	return fields, carriesScroll(fields) && carriesCoordinate(fields)
}

func nextField(d *json.Decoder) (field, error) {
	name, err := d.Token()
	if err != nil {
		return field{}, err
	}
	var raw json.RawMessage // of a field that means nothing, no more is made
	if err := d.Decode(&raw); err != nil {
		return field{}, err
	}
	f := field{name: fmt.Sprint(name)}
	if _, known := canonical(f.name); !known {
		return f, nil
	}
	var number json.Number
	switch {
	case raw[0] == '"':
		return f, json.Unmarshal(raw, &f.value)
	case json.Unmarshal(raw, &number) == nil && number != "": // a dimension may be a number
		f.value = number.String()
	default:
		f.problem = "must be a string"
	}
	return f, nil
}

func carriesScroll(fields []field) bool {
	return carries(fields, func(p param) bool { return p == paramScroll })
}

func carriesCoordinate(fields []field) bool {
	return carries(fields, func(p param) bool { return p == paramCoordinate || p >= paramLibrary })
}

func carries(fields []field, wanted func(param) bool) bool {
	for _, f := range fields {
		if which, known := canonical(f.name); known && wanted(which) {
			return true
		}
	}
	return false
}
