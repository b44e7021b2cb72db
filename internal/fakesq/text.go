package fakesq

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// decode is SQ's percent-decoding: '+' is a space, a '%' that starts no escape
// stays (recorded in "query spellings").
func decode(s string) string {
	s = strings.ReplaceAll(s, "+", " ")
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil && s[i+1] != '+' {
				out = append(out, byte(b))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return lossy(out)
}

// lossy replaces what is not UTF-8 as Rust does: one U+FFFD for each longest
// beginning of a character that is not gone on with.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = brokenLength(b)
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// brokenLength is how many bytes at the start of b could have begun a character.
func brokenLength(b []byte) int {
	n := 1
	for n < len(b) && n < utf8.UTFMax-1 && couldBegin(b[:n+1]) {
		n++
	}
	return n
}

// couldBegin says whether some continuation makes b one character.
func couldBegin(b []byte) bool {
	for _, next := range []byte{0x80, 0xbf} {
		whole := append([]byte(nil), b...)
		for len(whole) < utf8.UTFMax {
			whole = append(whole, next)
			if r, n := utf8.DecodeRune(whole); r != utf8.RuneError && n == len(whole) {
				return true
			}
		}
	}
	return false
}
