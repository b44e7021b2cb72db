package rewrite

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/phext"
)

// JSON is read piece by piece here. encoding/json would look several times at a text of
// many megabytes, each time at all of it at once.

const spaces = " \t\r\n"

func looksLikeJSON(body []byte, pace phext.Pace) bool {
	return bytes.HasPrefix(trimSpaces(bytes.TrimPrefix(body, byteOrderMark), pace), []byte("{"))
}

// trimSpaces is body without the white space in front of it.
func trimSpaces(body []byte, pace phext.Pace) []byte {
	for {
		one := body[:min(len(body), pieceSize)]
		trimmed := len(one) - len(bytes.TrimLeft(one, spaces))
		body = body[trimmed:]
		pace.Did(trimmed)
		if trimmed < pieceSize {
			return body
		}
	}
}

// pieceSize is how much of a body, in bytes, is looked at at once.
const pieceSize = 64 << 10

// perJSONByte is how much work a byte of JSON is.
const perJSONByte = 4

// jsonBody reads a JSON object, including repeated names. If its syntax is wrong, the
// only field is a coordinate, if it mentions one.
func jsonBody(body []byte, pace phext.Pace) (*bodyFields, bool) {
	if !looksLikeJSON(body, pace) {
		return nil, false
	}
	body = bytes.TrimPrefix(body, byteOrderMark)
	b, t := &bodyFields{kind: kindJSON}, &jsonText{rest: body, pace: pace}
	switch err := b.readObject(t); {
	case errors.Is(err, errManyFields):
		b.problem = err.Error()
		b.fields = append(b.fields, mentioned(body, pace)...)
	case err != nil:
		b.problem = fmt.Sprintf("a mistake in its syntax at byte %d", len(body)-len(t.rest))
		b.fields = mentioned(body, pace)
		return b, true
	}
	b.resolveScroll()
	return b, true
}

var (
	errSyntax     = errors.New("a mistake in the syntax of JSON")
	errManyFields = fmt.Errorf("more than %d fields", maxFields)
)

func (b *bodyFields) readObject(t *jsonText) error {
	if !t.skip('{') {
		return errSyntax
	}
	for n := 0; !t.skip('}'); n++ {
		if n > 0 && !t.skip(',') {
			return errSyntax
		}
		if n == maxFields {
			return errManyFields
		}
		name, err := t.value()
		if err != nil || name[0] != '"' || !t.skip(':') {
			return errSyntax
		}
		value, err := t.value()
		if err != nil {
			return err
		}
		if f, known := newField(name, value, t.pace); known {
			b.fields = append(b.fields, f)
		}
	}
	if t.rest = trimSpaces(t.rest, t.pace); len(t.rest) > 0 {
		return errSyntax
	}
	return nil
}

// longestField is longer than any name with a meaning, and longestOther than any value
// but a text, both in bytes of JSON.
const (
	longestField = 256
	longestOther = 64 << 10
)

// newField is a field of an object, if its name is known.
func newField(name, value []byte, pace phext.Pace) (f field, known bool) {
	if len(name) > longestField {
		return f, false
	}
	f.name = unquote(name, pace)
	if f.param, f.bit, known = paramNamed(f.name, scrollNames[:]); !known {
		if meant := meantInJSON(f.name, value); meant != "" {
			f.param, f.bit, known = paramNamed(meant, nil)
			f.problem, f.value = fmt.Sprintf("must be spelled %q", meant), unquote(value, pace)
			return f, known
		}
		lower := strings.ToLower(f.name)
		if f.param, f.bit, known = paramNamed(lower, scrollNames[:]); !known {
			return f, false
		}
		f.problem = fmt.Sprintf("must be spelled %q", lower)
	}
	var number json.Number
	switch {
	case len(value) > longestOther && !mayBeText(f.param):
		f.problem = "is too long"
	case value[0] == '"':
		f.value = unquote(value, pace)
	case len(value) <= longestOther && json.Unmarshal(value, &number) == nil && number != "": // a dimension may be a number
		f.value = number.String()
	default:
		f.problem = "must be a string"
	}
	return f, true
}

// mayBeText says whether a parameter of a body may be as long as a body. "scroll" may be
// the last dimension or the text.
func mayBeText(p param) bool { return p == paramScroll || p == paramCount-1 }

// mentioned looks for "coordinate":"1.1.1/1.1.1/1.1.1" in what is not quite JSON: a
// quote in the text was not escaped, or the names have other quotes or none.
func mentioned(body []byte, pace phext.Pace) (fields []field) {
	for _, key := range []string{"coordinate", "coord", `"c"`, `'c'`, `"a"`, `'a'`} {
		rest := view(body)
		for len(fields) < maxFields {
			at := pace.Index(rest, key)
			if at < 0 {
				break
			}
			rest = rest[at+len(key):]
			value, found := strings.CutPrefix(strings.TrimLeft(rest[:min(len(rest), 2*longestCoordinateName)], `"'`+spaces), ":")
			value = strings.TrimLeft(value, `"'[`+spaces)
			value = value[:min(len(value), longestCoordinateName)]
			if end := strings.IndexAny(value, "\"'\r\n,}"); found && end >= 0 {
				fields = append(fields, field{value: strings.ReplaceAll(value[:end], `\/`, "/"), param: paramCoordinate})
			}
		}
	}
	return fields
}

// resolveScroll decides what the field "scroll" is in a JSON object: a dimension if
// the object has another dimension too, and otherwise the text.
func (b *bodyFields) resolveScroll() {
	last := paramLibrary + param(len(dimensions)) - 1
	if b.has(func(p param) bool { return p >= paramLibrary && p < last }) {
		return
	}
	for i := range b.fields {
		if f := &b.fields[i]; f.param == last {
			f.param, f.bit = paramScroll, len(names)+len(scrollNames)-1
		}
	}
}

// jsonText is JSON that has not been read yet.
type jsonText struct {
	rest []byte
	pace phext.Pace
}

// isJSON says whether body is one value in JSON.
func isJSON(body []byte, pace phext.Pace) bool {
	t := &jsonText{rest: body, pace: pace}
	_, err := t.value()
	return err == nil && len(trimSpaces(t.rest, pace)) == 0
}

// skip skips white space and then c, if it comes.
func (t *jsonText) skip(c byte) bool {
	t.rest = trimSpaces(t.rest, t.pace)
	if len(t.rest) == 0 || t.rest[0] != c {
		return false
	}
	t.rest = t.rest[1:]
	return true
}

// value is the next value, as it is written.
func (t *jsonText) value() ([]byte, error) {
	t.rest = trimSpaces(t.rest, t.pace)
	length, err := t.lengthOfValue()
	if err != nil {
		return nil, err
	}
	value := t.rest[:length]
	t.rest = t.rest[length:]
	return value, nil
}

func (t *jsonText) lengthOfValue() (int, error) {
	if len(t.rest) > 0 && t.rest[0] == '"' {
		return t.lengthOfString()
	}
	d := json.NewDecoder(&piecewise{t.rest, t.pace})
	var nothing any // Decode reads a value and checks it before it sees that nothing is to be made of it
	if err := d.Decode(nothing); !errors.As(err, new(*json.InvalidUnmarshalError)) {
		return 0, err
	}
	return int(d.InputOffset()), nil
}

// lengthOfString finds the end of the string that begins the rest.
func (t *jsonText) lengthOfString() (int, error) {
	s := t.rest
	for i, told := 1, 0; i < len(s); i++ {
		if i-told >= pieceSize {
			t.pace.Did(perJSONByte * (i - told))
			told = i
		}
		switch {
		case s[i] == '"':
			t.pace.Did(perJSONByte * (i - told))
			return i + 1, nil
		case s[i] < ' ':
			return 0, errSyntax
		case s[i] == '\\':
			n := lengthOfEscape(s[i:])
			if n == 0 {
				return 0, errSyntax
			}
			i += n - 1
		}
	}
	return 0, errSyntax
}

// lengthOfEscape is the length of the escape that begins s, or 0 if it is none.
func lengthOfEscape(s []byte) int {
	switch {
	case len(s) >= 2 && strings.IndexByte(`"\/bfnrt`, s[1]) >= 0:
		return 2
	case len(s) >= 6 && s[1] == 'u' && !slices.ContainsFunc(s[2:6], func(c byte) bool { return !isHex(c) }):
		return 6
	}
	return 0
}

// unquote is the text of a JSON string whose syntax is right. encoding/json does the
// work, on one piece after the other.
func unquote(quoted []byte, pace phext.Pace) string {
	var text strings.Builder
	rest := quoted[1 : len(quoted)-1]
	if len(rest) > pieceSize {
		text.Grow(len(rest)) // what is written for a character is seldom shorter than it
	}
	one := make([]byte, 0, min(len(rest), pieceSize)+len(`""`)+utf8.UTFMax)
	for len(rest) > 0 {
		if n := plainCharacters(rest); n > 0 {
			_, _ = text.Write(rest[:n])
			pace.Did(n)
			rest = rest[n:]
			continue
		}
		n := firstCharacters(rest)
		one = append(append(append(one[:0], '"'), rest[:n]...), '"')
		var decoded string
		_ = json.Unmarshal(one, &decoded) // which cannot fail
		_, _ = text.WriteString(decoded)
		pace.Did(perJSONByte * n)
		rest = rest[n:]
	}
	return text.String()
}

// plainCharacters is the length of the same piece if it has only characters that stand for themselves, as most
// have; else 0.
func plainCharacters(s []byte) int {
	n := min(len(s), pieceSize)
	for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
		n--
	}
	if bytes.IndexByte(s[:n], '\\') >= 0 || !utf8.Valid(s[:n]) {
		return 0
	}
	return n
}

// firstCharacters is the length of a piece of a JSON string that ends between two
// characters. One may be written as a pair of escapes, or in several bytes.
func firstCharacters(s []byte) int {
	i, first := 0, false // whether the first half of a pair is before i
	for i < len(s) && i < pieceSize {
		n := 1
		if s[i] == '\\' {
			n = lengthOfEscape(s[i:])
		}
		first = n == 6 && isSurrogate(s[i:], "89abAB")
		i += n
	}
	if first && i < len(s) && s[i] == '\\' && isSurrogate(s[i:], "cdefCDEF") {
		i += lengthOfEscape(s[i:])
	}
	for range utf8.UTFMax - 1 {
		if i < len(s) && !utf8.RuneStart(s[i]) {
			i++
		}
	}
	return i
}

// isSurrogate says whether an escape is one half of a pair: \ud and one of the digits.
func isSurrogate(escape []byte, digits string) bool {
	return len(escape) >= 6 && escape[1] == 'u' && (escape[2] == 'd' || escape[2] == 'D') && strings.IndexByte(digits, escape[3]) >= 0
}

// piecewise reads a text in pieces.
type piecewise struct {
	rest []byte
	pace phext.Pace
}

func (r *piecewise) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), pieceSize)], r.rest)
	r.rest = r.rest[n:]
	r.pace.Did(perJSONByte * n)
	return n, nil
}
