package phext

import (
	"fmt"
	"iter"
	"unicode/utf8"
)

// JSON is the answer to json-export. It is laid out as SQ's, but is valid JSON in
// the order of coordinates. SQ escapes only quotes and line breaks, and its order
// is that of a hash map.
func (p *Phext) JSON() string { return p.JSONBy(new(Phext), nil) }

// JSONBy is JSON with the names of coordinates instead of their numbers, as in
// TextmapBy.
func (p *Phext) JSONBy(names *Phext, pace Pace) string {
	return build(pace, func(out TextWriter) { p.WriteJSON(out, names) })
}

// WriteJSON writes JSONBy, piece by piece.
func (p *Phext) WriteJSON(out TextWriter, names *Phext) {
	var label []byte
	named := names.InOrder()
	out.WriteString("[\n")
	begin := `   { "coord": "`
	for s := range p.listed() {
		out.WriteString(begin)
		begin = `,   { "coord": "`
		if name, ok := named(s.At); ok {
			writeEscaped(out, name, &escapes)
		} else {
			label = s.At.Append(label[:0])
			out.Write(label)
		}
		out.WriteString(`", "scroll": "`)
		writeEscaped(out, s.Text, &escapes)
		out.WriteString("\" }\n")
	}
	out.WriteString("]\n")
}

// Entry is a scroll in the answer to query.
type Entry struct {
	At    Coordinate
	Label string // what the coordinate is called, if not by its numbers; else ""
	Text  string
}

// Entries are the answer to query, in their order.
type Entries iter.Seq[Entry]

// Size is the length of JSON, in bytes.
func (e Entries) Size(pace Pace) int {
	n := counter{pace: pace}
	e.WriteJSON(&n)
	return n.n
}

// JSON is laid out and escaped as SQ does it, with serde_json (recorded in "query by
// range and set").
func (e Entries) JSON(pace Pace) string { return build(pace, e.WriteJSON) }

// WriteJSON writes JSON, piece by piece.
func (e Entries) WriteJSON(out TextWriter) {
	var label []byte
	out.WriteString("[")
	begin := `{"coordinate":"`
	for entry := range e {
		out.WriteString(begin)
		begin = `,{"coordinate":"`
		if entry.Label != "" {
			writeEscaped(out, entry.Label, &serdeEscapes)
		} else {
			label = entry.At.Append(label[:0])
			out.Write(label)
		}
		out.WriteString(`","scroll":"`)
		writeEscaped(out, entry.Text, &serdeEscapes)
		out.WriteString(`"}`)
	}
	out.WriteString("]")
}

// QuotedLen is the length of what WriteQuoted writes, in bytes.
func QuotedLen(text string, pace Pace) int {
	n := counter{pace: pace}
	writeEscaped(&n, text, &serdeEscapes)
	return len(`""`) + n.n
}

// WriteQuoted writes text as a JSON string. It makes no copy, which encoding/json
// does several times.
func WriteQuoted(out *Builder, text string) {
	out.WriteByte('"')
	writeEscaped(out, text, &serdeEscapes)
	out.WriteByte('"')
}

// writeEscaped escapes only what JSON requires. Bytes that are not UTF-8 become
// U+FFFD, because JSON cannot represent them.
func writeEscaped(out TextWriter, text string, escapes *escapeTable) {
	for text != "" {
		one := firstPiece(text)
		at, width, escape := firstEscape(one, escapes)
		out.WriteString(one[:at])
		out.WriteString(escape)
		text = text[at+width:]
	}
}

// firstEscape finds the first character of text that must be escaped: its index,
// its width in bytes, and what to write instead.
func firstEscape(text string, escapes *escapeTable) (at, width int, escape string) {
	for i, r := range text {
		switch {
		case r < utf8.RuneSelf && escapes[r] != "":
			return i, 1, escapes[r]
		case r == utf8.RuneError:
			_, width = utf8.DecodeRuneInString(text[i:])
			return i, width, string(utf8.RuneError)
		}
	}
	return len(text), 0, ""
}

// escapeTable has the JSON escape of each ASCII character, or "" if it needs none.
type escapeTable [utf8.RuneSelf]string

// escapes are those of json-export.
var escapes = func() (table escapeTable) {
	for b := range 0x20 {
		table[b] = fmt.Sprintf(`\u%04x`, b)
	}
	table['\n'], table['"'], table['\\'] = `\n`, `\"`, `\\`
	return table
}()

// serdeEscapes are those of query.
var serdeEscapes = func() escapeTable {
	table := escapes
	table['\b'], table['\f'], table['\r'], table['\t'] = `\b`, `\f`, `\r`, `\t`
	return table
}()
