package reader

import (
	"context"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/fairqueue"
)

// matches are all matches of the first term in a text.
func (t *terms) matches(text string) (all []match) {
	f := t.find(0, text)
	for m, ok := f.match(); ok; m, ok = f.match() {
		all = append(all, m)
	}
	return all
}

// TestMatchesAreThoseInLowerCase looks for terms of letters that are often in the text,
// of one to four bytes, some of which have another length in lower case.
func TestMatchesAreThoseInLowerCase(t *testing.T) {
	letters := rapid.StringOf(rapid.RuneFrom([]rune("aAbB@[éÉжЖΣςσȺⱥİiIKkKẞßＡａ𐐀𐐨数\u2c7f\x00 ")))
	rapid.Check(t, func(t *rapid.T) {
		term := letters.Filter(func(s string) bool { return s != "" }).Draw(t, "term")
		if rapid.Bool().Draw(t, "replacement") {
			term += "\ufffd"
		}
		text := letters.Draw(t, "before") + strings.Repeat(term, rapid.IntRange(0, 3).Draw(t, "times")) + strings.ToUpper(term) + letters.Draw(t, "behind")
		if rapid.Bool().Draw(t, "invalid") {
			text += "\xff\xd0" + text
		}
		s := newTerms([]string{term})
		if sample := letters.Draw(t, "sample"); sample != "" {
			s.learn(strings.Repeat(sample, 1+counted/len(sample)))
		}
		s.learn(text)
		got, lower := s.matches(text), strings.ToLower(term)
		if want := strings.Count(strings.ToLower(strings.ToValidUTF8(text, "\x01")), lower); len(got) != want {
			t.Fatalf("%q is %d times in %q, want %d", term, len(got), text, want)
		}
		last := 0
		for _, m := range got {
			if m.begin < last || strings.ToLower(text[m.begin:m.end]) != lower {
				t.Fatalf("%q at %v in %q", term, m, text)
			}
			last = m.end
		}
	})
}

// TestNothingIsNoLetter: behind the end of a text there is nothing.
func TestNothingIsNoLetter(t *testing.T) {
	for _, term := range []string{"abc\ufffd", "\ufffdabc"} {
		s := newTerms([]string{term})
		if got := s.matches("abc"); got != nil {
			t.Errorf("%q is at %v", term, got)
		}
	}
}

// TestFormsOfALetter has all letters that are the same one in lower case.
func TestFormsOfALetter(t *testing.T) {
	for r := range rune(unicode.MaxRune) {
		if lower := unicode.ToLower(r); !slices.Contains(formsOf(lower), r) && utf8.ValidRune(r) {
			t.Errorf("%q is no form of %q", r, lower)
		}
	}
	for lower := range forms() {
		one := newTerms([]string{string(lower)})
		if len(one.all[0].ends) > len(finder{}.ahead) {
			t.Errorf("%q has %d ends", lower, len(one.all[0].ends))
		}
	}
}

// TestATermIsLookedForByItsRarestLetter, whatever its place.
func TestATermIsLookedForByItsRarestLetter(t *testing.T) {
	for term, want := range map[string]int{"zoom": 0, "azo": 1, "жёж": 1, "aaaq": 3} {
		s := newTerms([]string{term})
		if s.learn(strings.Repeat("amo Жажа ож ", counted/10)); s.all[0].anchor != want {
			t.Errorf("%q is looked for by letter %d, want %d", term, s.all[0].anchor, want)
		}
	}
}

// TestALargeScrollIsLookedAtInPieces, between which others may have the processor. What
// is at the border of two pieces is found, and a search that has to end does so.
func TestALargeScrollIsLookedAtInPieces(t *testing.T) {
	for _, term := range []string{"needle", "NADEL-É"} {
		for _, at := range []int{0, pieceSize - 3, pieceSize, 2*pieceSize - len(term) + 1, 3*pieceSize - 1} {
			text := strings.Repeat("x", at) + strings.ToUpper(term) + strings.Repeat("ö", 8*pieceSize)
			pauses := 0
			s := newTerms([]string{term})
			s.learn(text)
			s.pause = func() error { pauses++; return nil }
			if got := s.matches(text); !slices.Equal(got, []match{{at, at + len(term)}}) || pauses < len(text)/perSearched/fairqueue.Piece {
				t.Errorf("%s at %d: %v, %d pauses", term, at, got, pauses)
			}
		}
	}
	s, pauses := newSearch([]string{"nowhere"}), 0
	s.pause = func() error { pauses++; return context.Canceled }
	if s.look(0, scroll(0, strings.Repeat("x", 32*pieceSize))); pauses != 1 || s.hits.len != 0 {
		t.Errorf("after the end: %d pauses, %d hits", pauses, s.hits.len)
	}
}

// TestATextThatIsAlmostTheTermIsWorkToo: what is compared counts as what is looked at.
func TestATextThatIsAlmostTheTermIsWorkToo(t *testing.T) {
	term := strings.Repeat("a", 1000)
	text := strings.Repeat(term[1:]+"b", 50)
	s, pauses := newTerms([]string{term}), 0
	s.pause = func() error { pauses++; return nil }
	s.learn(text)
	if got := s.matches(text); len(got) != 0 || pauses < 5 {
		t.Errorf("%d matches, %d pauses", len(got), pauses)
	}
}
