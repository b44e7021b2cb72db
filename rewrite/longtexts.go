package rewrite

import (
	"bytes"
	"crypto/rand"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// The library that reads a message and writes its answer keeps the processor for as long as
// that takes: milliseconds, with long texts. So these are taken out of a message before it, and
// put into the answer behind it, in pieces.

// Of a message of more than smallMessage bytes, each string of more than longString bytes is
// taken out. A number has at most longString bytes.
const (
	smallMessage = 8 << 10
	longString   = 64
)

// LongTexts are the texts of a message and its answer for which names stand there.
type LongTexts struct {
	prefix string // of their names; nobody can know it
	texts  []string
}

// takeOut makes names of the long strings of a message, and leaves white space out. ok is false
// if the message is no JSON. What else is wrong with it, the library finds.
func (l *LongTexts) takeOut(message []byte, pace phext.Pace) (short []byte, ok bool) {
	if len(message) <= smallMessage {
		return message, true
	}
	for plain := 0; len(message) > 0; {
		switch c := message[0]; {
		case c == '"':
			t := &jsonText{rest: message, pace: pace}
			length, err := t.lengthOfString()
			if err != nil {
				return nil, false
			}
			quoted := message[:length]
			if length > longString {
				quoted = []byte(`"` + l.keep(unquote(quoted, pace)) + `"`)
			}
			short, message, plain = append(short, quoted...), message[length:], 0
			continue
		case strings.IndexByte(spaces, c) >= 0:
			plain = 0
		case strings.IndexByte("[]{},:", c) >= 0:
			short, plain = append(short, c), 0
		default: // of a number or a word
			if plain++; plain > longString {
				return nil, false
			}
			if plain == 1 && len(short) > 0 && isPlain(short[len(short)-1]) {
				return nil, false // two words, with white space between them
			}
			short = append(short, c)
		}
		message = message[1:]
	}
	return short, true
}

// isPlain says whether c is a part of a number or a word.
func isPlain(c byte) bool { return strings.IndexByte(`[]{},:"`, c) < 0 }

// Keep is the name of a text, or the text itself if it is short.
func (l *LongTexts) Keep(text string) (name string) {
	if l == nil || len(text) <= longString {
		return text
	}
	return l.keep(text)
}

func (l *LongTexts) keep(text string) (name string) {
	if l.prefix == "" {
		l.prefix = rand.Text() + "-"
	}
	l.texts = append(l.texts, text)
	return l.prefix + strconv.Itoa(len(l.texts)-1)
}

// Text is the text of a name, or s if that is none.
func (l *LongTexts) Text(s string) string {
	if l == nil || l.prefix == "" {
		return s
	}
	rest, ok := strings.CutPrefix(s, l.prefix)
	if i, err := strconv.Atoi(rest); ok && err == nil && i >= 0 && i < len(l.texts) {
		return l.texts[i]
	}
	return s
}

// longestInError is how much of a text is within another string, in bytes.
const longestInError = 4 * longString

// PutBack puts the texts as JSON into the places of the strings that are their names. Within
// another string, such as an error that has a name, it puts the beginning of the text.
func (l *LongTexts) PutBack(answer []byte, pace phext.Pace) []byte {
	if l == nil || l.prefix == "" {
		return answer
	}
	out := phext.Builder{Pace: pace}
	for {
		at := bytes.Index(answer, []byte(l.prefix))
		if at < 0 {
			break
		}
		rest := bytes.TrimLeft(answer[at+len(l.prefix):], "0123456789")
		name := string(answer[at : len(answer)-len(rest)])
		switch text := l.Text(name); {
		case text == name:
			out.WriteString(string(answer[:at]) + name)
		case bytes.HasSuffix(answer[:at], []byte(`"`)) && !bytes.HasSuffix(answer[:at], []byte(`\"`)) && bytes.HasPrefix(rest, []byte(`"`)):
			out.WriteString(string(answer[:at-1]))
			phext.WriteQuoted(&out, text)
			rest = rest[1:]
		default:
			var quoted phext.Builder
			phext.WriteQuoted(&quoted, shortened(text, longestInError, "…"))
			out.WriteString(string(answer[:at]) + quoted.String()[1:quoted.Len()-1])
		}
		answer = rest
	}
	out.WriteString(string(answer))
	return []byte(out.String())
}
