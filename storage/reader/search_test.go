package reader

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
)

// TestBestAreTheBest compares the selection with a sort of all hits.
func TestBestAreTheBest(t *testing.T) {
	s := newSearch([]string{"needle", "hay"})
	for i := range 10_000 {
		s.look(i%3, i, strings.Repeat("needle ", i*i%17)+strings.Repeat("hay ", i%5)+strings.Repeat("x", i%100))
	}
	all := s.best(len(s.hits))
	if len(all) < 1000 || s.texts != 10_000 || all[0].score >= 1 || all[len(all)-1].score <= 0 {
		t.Fatalf("%d hits of %d texts, %v to %v", len(all), s.texts, all[0], all[len(all)-1])
	}
	if few := s.best(10); !slices.Equal(few, all[:10]) {
		t.Errorf("%v, want %v", few, all[:10])
	}
}

// TestWorkersFindTheSame as one search that looks at one scroll after the other. The
// phext is large enough for several parts, of which each worker has some.
func TestWorkersFindTheSame(t *testing.T) {
	var text strings.Builder
	for i := range 900 {
		text.WriteString(strings.Repeat("needle ", i%5) + strings.Repeat("hay ", i*i%700) + strings.Repeat("x", 4000) + "\x17")
	}
	view := datadir.View{Phext: cache.NewVersion(text.String(), fsutil.FileID{}), Names: cache.Missing()}
	if parts := (&parts{scrolls: view.Phext.Phext.Scrolls()}); len(parts.scrolls) < 900 {
		t.Fatalf("%d scrolls", len(parts.scrolls))
	} else if _, first := parts.next(); len(first) > len(parts.scrolls)/3 {
		t.Fatalf("%d scrolls in one part", len(first))
	}
	terms := []string{"needle", "hay"}
	one, several := newSearch(terms), newSearch(terms)
	for i, scroll := range view.Phext.Phext.Scrolls() {
		one.look(7, i, scroll.Text)
	}
	if err := several.lookThrough(t.Context(), 7, view, &rewrite.Listing{}); err != nil {
		t.Fatal(err)
	}
	if several.texts != one.texts || several.length != one.length || !slices.Equal(several.having, one.having) || len(several.hits) != len(one.hits) {
		t.Fatalf("%d texts of %d bytes, %v, %d hits; want %d of %d, %v, %d", several.texts, several.length, several.having, len(several.hits), one.texts, one.length, one.having, len(one.hits))
	}
	most := len(one.hits)
	occurrences := func(s *search) (all [][]uint32) {
		for _, h := range s.best(most) {
			all = append(all, s.times[h.times:h.times+2])
		}
		return all
	}
	if got, want := occurrences(several), occurrences(one); !slices.EqualFunc(got, want, slices.Equal[[]uint32]) {
		t.Error("terms are counted for other scrolls")
	}
	if got, want := several.best(20), one.best(20); !slices.EqualFunc(got, want, func(a, b hit) bool { return a.scroll == b.scroll && a.score == b.score && a.phext == b.phext }) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestRank has BM25's properties: more is better, and so is shorter, and a rare
// word counts more than a common one.
func TestRank(t *testing.T) {
	texts := []string{"rare", "common common common", "common and rare, in a text that is longer than the others", "common", "rare and common"}
	order := func(terms ...string) (all []int) {
		s := newSearch(terms)
		for i, text := range append(texts, slices.Repeat([]string{"common words"}, 20)...) {
			s.look(0, i, text)
		}
		for _, h := range s.best(5) {
			all = append(all, int(h.scroll))
		}
		return all
	}
	if got := order("rare"); !slices.Equal(got, []int{0, 4, 2}) {
		t.Errorf("rare: %v", got)
	}
	if got := order("rare", "COMMON"); !slices.Equal(got, []int{4, 2}) {
		t.Errorf("both: %v", got)
	}
	if got := order("common"); got[0] != 1 || got[1] != 3 {
		t.Errorf("common: %v", got)
	}
}

// TestSnippetShowsTheMostTerms has terms far from each other, and then together.
func TestSnippetShowsTheMostTerms(t *testing.T) {
	text := "alpha " + strings.Repeat("é", 300) + " beta then gamma " + strings.Repeat("é", 300)
	terms := newTerms([]string{"alpha", "beta", "GAMMA"})
	if got := terms.snippet(text); !strings.Contains(got, "beta then gamma") || len([]rune(got)) > snippetLength {
		t.Errorf("%q", got)
	}
	for _, text := range []string{"", "é", "İİİİ x", "x İ"} { // in lower case, these letters have another length
		for _, term := range []string{"i x", "x"} {
			terms := newTerms([]string{term})
			if got := terms.snippet(text); !strings.Contains(text, got) {
				t.Errorf("%q in %q: %q", term, text, got)
			}
		}
	}
}

// BenchmarkSearch looks through 200 MB in scrolls of 1 kB.
func BenchmarkSearch(b *testing.B) {
	words := strings.Fields("the quick brown fox jumps over a lazy dog and then it sleeps for the rest of this long and rather warm summer day")
	var text strings.Builder
	for i := range 200_000 {
		for n := 0; n < 1000; {
			w := words[(i*7+n*13)%len(words)]
			text.WriteString(w + " ")
			n += len(w) + 1
		}
		if i%1000 == 0 {
			text.WriteString("Needle")
		}
		text.WriteString(string([]byte{0x17, 0x18, 0x19}[min(2, b2i(i%900 == 899)+b2i(i%800_000 == 799_999))]))
	}
	scrolls := phext.Parse(text.String()).Scrolls()
	for _, query := range [][]string{{"needle"}, {"the"}, {"summer", "fox", "zebra"}, {"e"}} {
		b.Run(fmt.Sprint(query), func(b *testing.B) {
			b.SetBytes(int64(text.Len()))
			for b.Loop() {
				s := newSearch(query)
				for i, scroll := range scrolls {
					s.look(0, i, scroll.Text)
				}
				s.best(10)
			}
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
