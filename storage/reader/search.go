package reader

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// terms are what a search looks for. Upper and lower case are the same.
type terms struct {
	all    []string // in lower case
	beyond bool     // one of them has letters beyond ASCII

	buffer []byte       // for texts in lower case
	pause  func() error // called after each piece of work of pieceSize; an error ends it; nil = never
}

// pieceSize is how much of a text, in bytes, is looked at before others may have the
// processor.
const pieceSize = 1 << 20

func newTerms(all []string) terms {
	var t terms
	for _, term := range all {
		term = strings.ToLower(term)
		t.all = append(t.all, term)
		t.beyond = t.beyond || strings.ContainsFunc(term, func(r rune) bool { return r >= utf8.RuneSelf })
	}
	return t
}

// lower is text in lower case, until the next call. Letters beyond ASCII are
// changed only if a term has some, because that takes several times as long.
func (t *terms) lower(text string) string {
	if !t.beyond && len(text) > len(t.buffer) {
		t.buffer = make([]byte, max(len(text), 2*len(t.buffer)))
	}
	if t.beyond {
		t.buffer = t.buffer[:0]
	}
	for from := 0; from < len(text); {
		end := min(from+pieceSize, len(text))
		for t.beyond && end < len(text) && !utf8.RuneStart(text[end]) {
			end--
		}
		if t.beyond {
			t.buffer = appendLower(t.buffer, text[from:end])
		} else {
			lowerASCII(t.buffer[from:], text[from:end])
		}
		if from = end; end < len(text) && t.over() {
			return ""
		}
	}
	if t.beyond {
		return unsafe.String(unsafe.SliceData(t.buffer), len(t.buffer))
	}
	return unsafe.String(unsafe.SliceData(t.buffer), len(text))
}

// over pauses, and says whether the work has to end.
func (t *terms) over() bool { return t.pause != nil && t.pause() != nil }

// index is strings.Index, piece by piece.
func (t *terms) index(text, term string) int {
	for from := 0; ; from += pieceSize {
		end := min(len(text), from+pieceSize+len(term)-1)
		if i := strings.Index(text[from:end], term); i >= 0 {
			return from + i
		}
		if end == len(text) || t.over() {
			return -1
		}
	}
}

// lowerASCII writes text in lower case to b, eight bytes at a time. A sum of seven
// bits, in each byte, reaches the eighth one if the byte is at least 'A', or above
// 'Z'. The bit of a letter in upper case, moved, is what makes it one in lower case.
func lowerASCII(b []byte, text string) {
	const ones, eighth = 0x0101010101010101, 0x8080808080808080
	in, i := unsafe.Slice(unsafe.StringData(text), len(text)), 0
	b = b[:len(in)]
	for ; i+8 <= len(in); i += 8 {
		x := binary.LittleEndian.Uint64(in[i : i+8])
		seven := x &^ eighth
		upper := (seven + ones*(0x80-'A')) &^ (seven + ones*(0x7f-'Z')) &^ x & eighth
		binary.LittleEndian.PutUint64(b[i:i+8], x|upper>>2)
	}
	for ; i < len(in); i++ {
		b[i] = in[i]
		if c := in[i]; c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// appendLower appends text in lower case, whatever its letters: eight ASCII letters at
// a time, and others by a table of those that most texts have.
func appendLower(b []byte, text string) []byte {
	letters := lowerLetters()
	for len(text) > 0 {
		if len(text) >= 8 && isASCII(text[:8]) {
			b = append(b, text[:8]...)
			lowerASCII(b[len(b)-8:], text[:8])
			text = text[8:]
			continue
		}
		r, width := utf8.DecodeRuneInString(text)
		if int(r) < len(letters) {
			r = letters[r]
		} else {
			r = unicode.ToLower(r)
		}
		b, text = utf8.AppendRune(b, r), text[width:]
	}
	return b
}

func isASCII(eight string) bool {
	return binary.LittleEndian.Uint64(unsafe.Slice(unsafe.StringData(eight), 8))&0x8080808080808080 == 0
}

// lowerLetters are the letters of Latin, Greek, Cyrillic and the scripts up to U+2FFF in
// lower case.
var lowerLetters = sync.OnceValue(func() *[0x3000]rune {
	var all [0x3000]rune
	for r := range all {
		all[r] = unicode.ToLower(rune(r))
	}
	return &all
})

// search looks through scrolls and ranks those that have all terms by BM25.
type search struct {
	terms
	texts  int   // scrolls that were looked at
	length int64 // of their texts, in bytes
	having []int // how many of them have each term
	first  []int // where each term is in the one that is looked at; -1 = it is not there
	hits   []hit
	times  []uint32 // how often each term is there, for each hit
}

// hit is a scroll with all terms.
type hit struct {
	phext, scroll uint32 // indexes
	length        uint32 // in bytes
	score         float32
	times         uint32 // index in search.times
}

func newSearch(all []string) *search {
	return &search{terms: newTerms(all), having: make([]int, len(all)), first: make([]int, len(all))}
}

// hitMemory is the most that a hit takes, in bytes, while the lists of them grow.
func (s *search) hitMemory() int64 {
	return 2 * int64(unsafe.Sizeof(hit{})+uintptr(len(s.all))*unsafe.Sizeof(s.times[0]))
}

// look takes a scroll into account. How often a term is there counts only if all of
// them are.
func (s *search) look(phext, scroll int, text string) {
	s.texts++
	s.length += int64(len(text))
	lower, every := s.lower(text), true
	for i, term := range s.all {
		if s.first[i] = s.index(lower, term); s.first[i] >= 0 {
			s.having[i]++
		} else {
			every = false
		}
	}
	if !every {
		return
	}
	s.hits = append(s.hits, hit{uint32(phext), uint32(scroll), uint32(len(text)), 0, uint32(len(s.times))})
	for i, term := range s.all {
		s.times = append(s.times, 1+s.countUpTo(enough-1, lower[s.first[i]+len(term):], term))
	}
}

// enough is how often a term is counted in one text. BM25 gives each further
// occurrence less, and all beyond this one a twentieth.
const enough = 24

func (t *terms) countUpTo(most uint32, text, term string) (n uint32) {
	for ; n < most; n++ {
		i := t.index(text, term)
		if i < 0 {
			break
		}
		text = text[i+len(term):]
	}
	return n
}

// The parameters of BM25, with the values that are used mostly.
const (
	saturation = 1.2  // k1: how much further occurrences count
	byLength   = 0.75 // b: how much longer texts count less
)

// best are the hits with the highest scores, up to most of them, the best one
// first. Equal ones are in the order of their coordinates. A score is BM25's as a
// part of the most that it could be, so it is between 0 and 1.
func (s *search) best(most int) []hit {
	weights, all := make([]float64, len(s.all)), 0.0
	for i, n := range s.having {
		weights[i] = math.Log1p((float64(s.texts-n) + 0.5) / (float64(n) + 0.5))
		all += weights[i] * (saturation + 1)
	}
	average := float64(s.length) / float64(max(s.texts, 1))
	var best []hit
	least := float32(0) // that a hit must have to be among the best
	for _, h := range s.hits {
		score, length := 0.0, saturation*(1-byLength+byLength*float64(h.length)/average)
		for i, weight := range weights {
			n := float64(s.times[int(h.times)+i])
			score += weight * n * (saturation + 1) / (n + length)
		}
		if h.score = float32(score / all); h.score < least {
			continue
		}
		best = append(best, h)
		if len(best) >= 2*most+1024 {
			best = top(best, most)
			least = best[most-1].score
		}
	}
	return top(best, most)
}

func top(hits []hit, most int) []hit {
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.phext, b.phext), cmp.Compare(a.scroll, b.scroll))
	})
	return hits[:min(most, len(hits))]
}

// inOneTurn is how much text, in bytes, is looked at in one turn, and perLook what a
// scroll counts beside its text.
const (
	inOneTurn = 1 << 20
	perLook   = 64
)

// workers is how many processors look through a phext at a time, if there are so many.
const workers = 2

// lookThrough has s look at the scrolls of a phext that the call is about. Each
// worker takes a part of them in one turn, until there are none left.
func (s *search) lookThrough(ctx context.Context, index int, v datadir.View, l *rewrite.Listing) error {
	own := fairqueue.FromContext(ctx)
	own.Give()
	parts := parts{scrolls: v.Phext.Phext.Scrolls()}
	group, ctx := errgroup.WithContext(ctx)
	all := [workers]*search{s}
	for i := range all {
		if i > 0 {
			all[i] = newSearch(s.all)
		}
		turn := own.Another()
		group.Go(func() error {
			defer turn.Give()
			named := v.Names.Phext.InOrder()
			for first, scrolls := parts.next(); len(scrolls) > 0; first, scrolls = parts.next() {
				err := anotherTurn(ctx, turn)
				if err != nil {
					return err
				}
				all[i].pause = func() error { err = anotherTurn(ctx, turn); return err } // a scroll may be large
				for j, scroll := range scrolls {
					if err != nil {
						return err
					}
					name, _ := named(scroll.At)
					if l.Covers(scroll.At, name) {
						all[i].look(index, first+j, scroll.Text)
					}
				}
				turn.Give()
			}
			return nil
		})
	}
	err := group.Wait()
	for _, other := range all[1:] {
		s.add(other)
	}
	return err
}

// anotherTurn waits for a turn, behind those who wait for one. The error is that of a
// ctx that is over.
func anotherTurn(ctx context.Context, turn *fairqueue.Turn) error {
	turn.Give()
	return errors.Join(turn.Take(ctx), ctx.Err())
}

// add takes into account what another search for the same terms has looked at.
func (s *search) add(other *search) {
	s.texts += other.texts
	s.length += other.length
	for i, n := range other.having {
		s.having[i] += n
	}
	s.hits, s.times = slices.Grow(s.hits, len(other.hits)), slices.Grow(s.times, len(other.times))
	for _, h := range other.hits {
		h.times += uint32(len(s.times))
		s.hits = append(s.hits, h)
	}
	s.times = append(s.times, other.times...)
	if len(other.buffer) > len(s.buffer) {
		s.buffer = other.buffer // the snippets need it
	}
}

// parts are the scrolls of a phext in parts for one turn each. Its method may be
// called at any time.
type parts struct {
	mu      sync.Mutex
	scrolls []phext.Scroll
	first   int // the index of the first one that is left
}

// next is the next part, and the index of its first scroll. The last ones are empty.
func (p *parts) next() (first int, scrolls []phext.Scroll) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, left, end := p.first, inOneTurn, p.first
	for ; end < len(p.scrolls) && left > 0; end++ {
		left -= len(p.scrolls[end].Text) + perLook
	}
	p.first = end
	return first, p.scrolls[first:end]
}

// A snippet has at most snippetLength characters, and begins beforeMatch characters
// before the match.
const (
	snippetLength = 160
	beforeMatch   = 40
)

// snippet is the text around the place with the most terms near it.
func (t *terms) snippet(text string) string {
	lower, begin, most := t.lower(text), 0, -1
	for _, term := range t.all {
		at := max(0, t.index(lower, term))
		if n := t.near(lower[at:]); n > most {
			begin, most = at, n
		}
	}
	for begin = min(begin, len(text)); begin > 0 && begin < len(text) && !utf8.RuneStart(text[begin]); {
		begin-- // in lower case, a letter may have another length
	}
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

// near is how many of the terms a snippet shows behind the beginning of lower.
func (t *terms) near(lower string) (n int) {
	lower = lower[:min(len(lower), snippetLength-beforeMatch)]
	for _, term := range t.all {
		if strings.Contains(lower, term) {
			n++
		}
	}
	return n
}
