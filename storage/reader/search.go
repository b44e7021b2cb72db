package reader

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// matcher scores a text: 0 if a term is missing, and otherwise up to 1, higher the more
// often the terms are there and the shorter the text is. Upper and lower case are the
// same. Without terms, every text scores 1. It takes as much memory as the text has, for a
// moment.
func matcher(terms []string) (score func(text string) float64) {
	if len(terms) == 0 {
		return func(string) float64 { return 1 }
	}
	lower := make([]string, len(terms))
	for i, term := range terms {
		lower[i] = strings.ToLower(term)
	}
	return func(text string) float64 {
		text = strings.ToLower(text)
		times := 0
		for _, term := range lower {
			n := strings.Count(text, term)
			if n == 0 {
				return 0
			}
			times += n
		}
		return float64(times) / (float64(times) + 1 + float64(len(text))/1000)
	}
}

// A snippet has at most snippetLength characters, and begins beforeMatch characters
// before the match.
const (
	snippetLength = 160
	beforeMatch   = 40
)

// snippet is the text around the first match of a term.
func snippet(text, term string) string {
	found := regexp.MustCompile("(?i)" + regexp.QuoteMeta(term)).FindStringIndex(text)
	if found == nil {
		found = []int{0, 0}
	}
	begin := found[0]
	for range beforeMatch {
		if begin == 0 {
			break
		}
		_, width := utf8.DecodeLastRuneInString(text[:begin])
		begin -= width
	}
	end := begin
	for range snippetLength {
		_, width := utf8.DecodeRuneInString(text[end:])
		end += width
	}
	return strings.TrimSpace(text[begin:end])
}
