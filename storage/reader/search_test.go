package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/turnstest"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
)

// scroll is the one with a number among those of a test.
func scroll(i int, text string) *phext.Scroll {
	return &phext.Scroll{At: phext.Coordinate{8: uint32(i)}, Text: text}
}

func allOf[T any](l *list[T]) (all []T) {
	for i := range l.len {
		all = append(all, *l.at(i))
	}
	return all
}

func listOf[T any](all []T) (l list[T]) {
	for _, x := range all {
		l.add(x, &work{})
	}
	return l
}

// TestBestAreTheBest compares the selection with a sort of all hits.
func TestBestAreTheBest(t *testing.T) {
	s := newSearch([]string{"needle", "hay"})
	for i := range 10_000 {
		s.look(i%3, scroll(i, strings.Repeat("needle ", i*i%17)+strings.Repeat("hay ", i%5)+strings.Repeat("x", i%100)))
	}
	all := allOf(s.best(s.hits.len))
	if len(all) < 1000 || s.texts != 10_000 || all[0].score >= 1 || all[len(all)-1].score <= 0 {
		t.Fatalf("%d hits of %d texts, %v to %v", len(all), s.texts, all[0], all[len(all)-1])
	}
	if few := allOf(s.best(10)); !slices.Equal(few, all[:10]) {
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
	if n := view.Phext.Phext.Len(); n < 900 {
		t.Fatalf("%d scrolls", n)
	} else if first := (&parts{blocks: view.Phext.Phext.Blocks()}).next(); len(first) > n/3 {
		t.Fatalf("%d scrolls in one part", len(first))
	}
	terms := []string{"needle", "hay"}
	one, several := newSearch(terms), newSearch(terms)
	for scroll := range view.Phext.Phext.All() {
		one.look(7, &scroll)
	}
	if err := several.lookThrough(t.Context(), 7, view, &rewrite.Listing{}); err != nil {
		t.Fatal(err)
	}
	if several.texts != one.texts || several.length != one.length || !slices.Equal(several.having, one.having) || several.hits.len != one.hits.len {
		t.Fatalf("%d texts of %d bytes, %v, %d hits; want %d of %d, %v, %d", several.texts, several.length, several.having, several.hits.len, one.texts, one.length, one.having, one.hits.len)
	}
	most := one.hits.len
	occurrences := func(s *search) (all [][]uint8) {
		for _, h := range allOf(s.best(most)) {
			all = append(all, allOf(&s.times)[h.times:h.times+2])
		}
		return all
	}
	if got, want := occurrences(several), occurrences(one); !slices.EqualFunc(got, want, slices.Equal[[]uint8]) {
		t.Error("terms are counted for other scrolls")
	}
	if got, want := allOf(several.best(20)), allOf(one.best(20)); !slices.EqualFunc(got, want, func(a, b hit) bool { return *a.scroll == *b.scroll && a.score == b.score && a.phext == b.phext }) {
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
			s.look(0, scroll(i, text))
		}
		for _, h := range allOf(s.best(5)) {
			all = append(all, int(h.scroll.At[8]))
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

// almost are terms that texts of "ab" again and again have nowhere, but nearly at each place.
func almost() (all []string) {
	for k := range 16 {
		all = append(all, strings.Repeat("ab", 14+k)+"b")
	}
	return all
}

// TestASearchPausesAfterEachPiece, whatever its work is: terms that are compared in short
// texts, short texts, hits, or snippets.
func TestASearchPausesAfterEachPiece(t *testing.T) {
	const n = 1000
	words := strings.Fields(strings.Repeat("a ", 16))
	for name, test := range map[string]struct {
		terms []string
		bytes int // are looked at, at least
		work  func(*search)
	}{
		"comparing": {almost(), n * 16 * 30 * 20, func(s *search) {
			for i := range n {
				s.look(0, scroll(i, strings.Repeat("ab", 30)))
			}
		}},
		"finding": {words, 20 * n * 16 * (perFind + perPlace), func(s *search) {
			for i := range 20 * n {
				s.look(0, scroll(i, "x"))
			}
		}},
		"ranking": {words, 20 * n * (perLook + 16*perScore), func(s *search) {
			s.hits, s.times = listOf(slices.Repeat([]hit{{scroll: scroll(0, "x")}}, 20*n)), listOf([]uint8{15: 1})
			s.best(10)
		}},
		"adding": {words, 20 * n * perLook, func(s *search) {
			other := newSearch(words)
			other.hits, other.times = listOf(make([]hit, 20*n)), listOf([]uint8{15: 1})
			s.add(other)
		}},
		"showing": {almost(), n / 40 * 16 * 16 * 30 * 10, func(s *search) {
			for range n / 40 {
				s.snippet(strings.Repeat("ab", 30))
			}
		}},
	} {
		s, pauses := newSearch(test.terms), 0
		s.pause = func() error { pauses++; return nil }
		if test.work(s); pauses < test.bytes/fairqueue.Piece {
			t.Errorf("%s: %d pauses, want %d", name, pauses, test.bytes/fairqueue.Piece)
		}
		s.pause = func() error { return context.Canceled }
		s.done = fairqueue.Piece
		if test.work(s); !errors.Is(s.err, context.Canceled) {
			t.Errorf("%s: after the end: %v", name, s.err)
		}
	}
}

// TestOthersGoFirst while a search compares, of which all texts are one part.
func TestOthersGoFirst(t *testing.T) {
	const n = 400
	w := newWorld(t, 1<<20)
	w.put("notes.phext", strings.Repeat(strings.Repeat(strings.Repeat("ab", 30)+"\x17", n/4)+"\x18", 4))
	call := w.call("search", "q="+strings.Join(almost(), "+"))
	turns := turnstest.Count(t, func(ctx context.Context) {
		a, err := w.Read(ctx, w.dir, call, false)
		w.check(err)
		a.Release()
	})
	if want := n * 16 * 30 * 20 / fairqueue.Piece; turns < want {
		t.Errorf("%d turns, want %d", turns, want)
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
	scrolls := slices.Collect(phext.Parse(text.String()).All())
	for _, query := range [][]string{{"needle"}, {"the"}, {"summer", "fox", "zebra"}, {"e"}} {
		b.Run(fmt.Sprint(query), func(b *testing.B) {
			b.SetBytes(int64(text.Len()))
			for b.Loop() {
				s := newSearch(query)
				for i := range scrolls {
					s.look(0, &scrolls[i])
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
