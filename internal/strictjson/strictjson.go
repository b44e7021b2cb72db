// Package strictjson reads JSON that people write: names of fields count exactly, and
// what is wrong is said in words, with line and column. encoding/json would take
// "Quota_MB" for "quota_mb", and of two fields with one name the last. It also writes JSON
// on lines, with texts as they are.
//
// It never repeats more of a text than the name of a field, because keys stand in such
// texts.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Mistake is why and where a text is not JSON.
type Mistake struct {
	Line, Column int // from 1, in characters; 0 is the whole text
	Problem      string
	Fix          string
}

func (m *Mistake) Error() string {
	if m.Line == 0 {
		return m.Problem + ": " + m.Fix
	}
	return fmt.Sprintf("line %d, column %d: %s: %s", m.Line, m.Column, m.Problem, m.Fix)
}

// Check is the first mistake in a text that should be one JSON value in UTF-8, or nil.
// It uses json.Unmarshal, which bounds how deeply values are nested.
func Check(text []byte) *Mistake {
	switch {
	case bytes.HasPrefix(text, []byte("\ufeff")):
		return &Mistake{Line: 1, Column: 1, Problem: "there is a byte order mark (BOM) in front of the JSON", Fix: "save the text as UTF-8 without BOM"}
	case !utf8.Valid(text):
		return &Mistake{Problem: "the text is not UTF-8", Fix: "save it as UTF-8"}
	}
	var raw json.RawMessage
	err := json.Unmarshal(text, &raw)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return &Mistake{Problem: "not JSON", Fix: err.Error()}
	}
	at := min(len(text), max(0, int(syntax.Offset)-1))
	m := &Mistake{}
	if strings.HasPrefix(err.Error(), "unexpected end") {
		m.Problem, m.Fix = "the text is empty or ends before its JSON does", "complete it"
	} else if before := bytes.TrimRight(text[:at], " \t\r\n"); bytes.HasSuffix(before, []byte(",")) && strings.ContainsRune("]},", rune(text[at])) {
		at = len(before) - 1
		m.Problem, m.Fix = "a comma has nothing behind it", "remove it"
	} else {
		m.Problem, m.Fix = explain(text[at:], err.Error())
	}
	m.Line, m.Column = position(text, at)
	return m
}

// explain says what is wrong at the beginning of a text, of which encoding/json says
// what it was reading.
func explain(text []byte, reading string) (problem, fix string) {
	has := func(all ...string) bool {
		for _, one := range all {
			if bytes.HasPrefix(text, []byte(one)) {
				return true
			}
		}
		return false
	}
	switch {
	case strings.Contains(reading, "in string literal"):
		return "a text in quotes holds a line end or another control character", `close its quotes before, or write \n for a line end`
	case strings.Contains(reading, "in string escape"), strings.Contains(reading, "in \\u"):
		return "a backslash has no meaning here", `write \\ for a backslash`
	case has("/", "#"):
		return "JSON has no comments", "remove it"
	case has("'"):
		return "single quotes are no quotes in JSON", `use double ones, "..."`
	case has("“", "”", "„", "‘", "’", "«"):
		return "typographic quotes are no quotes in JSON", `use straight ones, "..."`
	case strings.HasSuffix(reading, "after top-level value"):
		return "there is more behind the end of the JSON object", "remove it"
	case strings.HasSuffix(reading, "beginning of object key string"):
		return "a field has no quotes around its name", `write "name": value`
	case strings.HasSuffix(reading, "after object key"):
		return "a colon is missing here", `write "name": value`
	case (strings.HasSuffix(reading, "key:value pair") || strings.HasSuffix(reading, "array element")) && has(`"`, "{", "["):
		return "a comma is missing before this", "separate fields and elements with commas"
	case strings.HasSuffix(reading, "beginning of value"), strings.Contains(reading, "in literal"):
		return "this is no value of JSON", `write a "text" in quotes, a number, true, false, a list [...] or an object {...}`
	}
	return "not JSON", reading
}

// position is the line and column of a byte.
func position(text []byte, at int) (line, column int) {
	before := text[:at]
	line = bytes.Count(before, []byte("\n")) + 1
	return line, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
}

// Field is a field of a JSON object with its undecoded value.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Fields returns the fields of a JSON object in their order, with duplicates. It
// reports false for any other value. The JSON must be valid.
func Fields(valid json.RawMessage) (list []Field, isObject bool) {
	d := json.NewDecoder(bytes.NewReader(valid))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		f := Field{Name: fmt.Sprint(name)}
		if err := d.Decode(&f.Value); err != nil {
			return nil, false
		}
		list = append(list, f)
	}
	return list, true
}
