package phext

import (
	"fmt"
	"unicode/utf8"
)

// JSON is the answer to json-export. It is laid out as SQ's, but is valid JSON in
// the order of coordinates. SQ escapes only quotes and line breaks, and its order
// is that of a hash map.
func (p *Phext) JSON() string { return p.JSONBy(new(Phext)) }

// JSONBy is JSON with the names of coordinates instead of their numbers, as in
// TextmapBy.
func (p *Phext) JSONBy(names *Phext) string {
	var label []byte
	return build(func(out textWriter) {
		named := names.inOrder()
		out.WriteString("[\n")
		for i, s := range p.listed() {
			if i > 0 {
				out.WriteString(",")
			}
			out.WriteString(`   { "coord": "`)
			if name, ok := named(s.At); ok {
				writeEscaped(out, name)
			} else {
				label = s.At.Append(label[:0])
				out.Write(label)
			}
			out.WriteString(`", "scroll": "`)
			writeEscaped(out, s.Text)
			out.WriteString("\" }\n")
		}
		out.WriteString("]\n")
	})
}

// writeEscaped escapes only what JSON requires. Bytes that are not UTF-8 become
// U+FFFD, because JSON cannot represent them.
func writeEscaped(out textWriter, text string) {
	for text != "" {
		at, width, escape := firstEscape(text)
		out.WriteString(text[:at])
		out.WriteString(escape)
		text = text[at+width:]
	}
}

// firstEscape finds the first character of text that must be escaped: its index,
// its width in bytes, and what to write instead.
func firstEscape(text string) (at, width int, escape string) {
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

// escapes has the JSON escape of each ASCII character, or "" if it needs none.
var escapes = func() (table [utf8.RuneSelf]string) {
	for b := range 0x20 {
		table[b] = fmt.Sprintf(`\u%04x`, b)
	}
	table['\n'], table['"'], table['\\'] = `\n`, `\"`, `\\`
	return table
}()
