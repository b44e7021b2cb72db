package reader

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// matcher scores a text: 0 if a term is missing, and otherwise up to 1, higher the more
// often the terms are there and the shorter the text is. Upper and lower case are the
// same. Without terms, every text scores 1. It looks through the whole text and keeps
// nothing.
func matcher(terms []string) (score func(text string) float64) {
	if len(terms) == 0 {
		return func(string) float64 { return 1 }
	}
	patterns := make([]*regexp.Regexp, len(terms))
	for i, term := range terms {
		patterns[i] = ignoringCase(term)
	}
	return func(text string) float64 {
		times := 0
		for _, p := range patterns {
			n := len(p.FindAllStringIndex(text, mostCounted))
			if n == 0 {
				return 0
			}
			times += n
		}
		return float64(times) / (float64(times) + 1 + float64(len(text))/1000)
	}
}

// mostCounted is how often a term counts in one text.
const mostCounted = 100

func ignoringCase(term string) *regexp.Regexp {
	return regexp.MustCompile("(?i)" + regexp.QuoteMeta(term))
}

// A snippet has at most snippetLength characters, and begins beforeMatch characters
// before the match.
const (
	snippetLength = 160
	beforeMatch   = 40
)

// snippet is the text around the first match of a term.
func snippet(text, term string) string {
	found := ignoringCase(term).FindStringIndex(text)
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
