package phext

import (
	"fmt"
	"unicode/utf8"
)

// JSON is json-export: legacy's layout, in coordinate order, and valid JSON.
// Legacy escapes quotes and line breaks alone and leaves the order to a hash map.
func (p *Phext) JSON() string { return p.JSONBy(new(Phext)) }

// JSONBy is JSON with names in the place of coordinates, as TextmapBy has them.
func (p *Phext) JSONBy(names *Phext) string {
	var label []byte
	return built(func(out sink) {
		named := names.inOrder()
		out.WriteString("[\n")
		for i, s := range p.orOrigin() {
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

// writeEscaped escapes what JSON must have escaped, and no more. Bytes that
// are not UTF-8 become U+FFFD, since JSON has no way to hold them.
func writeEscaped(out sink, text string) {
	for text != "" {
		at, width, escape := firstEscape(text)
		out.WriteString(text[:at])
		out.WriteString(escape)
		text = text[at+width:]
	}
}

// firstEscape is where in text the first character stands that must be
// escaped, how many bytes it takes, and what is written instead.
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

// escapes has what stands in JSON for an ASCII character, "" for itself.
var escapes = func() (table [utf8.RuneSelf]string) {
	for b := range 0x20 {
		table[b] = fmt.Sprintf(`\u%04x`, b)
	}
	table['\n'], table['"'], table['\\'] = `\n`, `\"`, `\\`
	return table
}()
