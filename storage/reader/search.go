package reader

import (
	"cmp"
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// search looks through scrolls and ranks those that have all terms by BM25.
type search struct {
	terms
	words  []string // the terms as they were given
	texts  int      // scrolls that were looked at
	length int64    // of their texts, in bytes
	having []int    // how many of them have each term
	found  []finder // finds each term in the scroll that is looked at
	hits   list[hit]
	times  list[uint8] // how often each term is there, for each hit
}

// hit is a scroll with all terms.
type hit struct {
	scroll *phext.Scroll
	phext  uint32 // index
	score  float32
	times  uint32 // index in search.times
}

func newSearch(words []string) *search {
	return &search{terms: newTerms(words), words: words, having: make([]int, len(words)), found: make([]finder, len(words))}
}

// hitMemory is the most that a hit takes, in bytes, while the lists of them grow.
func (s *search) hitMemory() int64 {
	return 2 * int64(unsafe.Sizeof(hit{})+uintptr(len(s.all))*unsafe.Sizeof(uint8(0)))
}

// look takes a scroll into account. How often a term is there counts only if all of
// them are.
func (s *search) look(index int, scroll *phext.Scroll) {
	text := scroll.Text
	s.texts++
	s.length += int64(len(text))
	s.learn(text)
	every := true
	for i := range s.all {
		s.found[i] = s.find(i, text)
		if _, ok := s.found[i].match(); ok {
			s.having[i]++
		} else {
			every = false
		}
	}
	if !every {
		return
	}
	s.hits.add(hit{scroll, uint32(index), 0, uint32(s.times.len)}, &s.work)
	for i := range s.found {
		times := uint8(1)
		for ; times < enough; times++ {
			if _, ok := s.found[i].match(); !ok {
				break
			}
		}
		s.times.add(times, &s.work)
	}
}

// enough is how often a term is counted in one text. BM25 gives each further
// occurrence less, and all beyond this one a twentieth.
const enough = 24

// The parameters of BM25, with the values that are used mostly.
const (
	saturation = 1.2  // k1: how much further occurrences count
	byLength   = 0.75 // b: how much longer texts count less
)

// best are the hits with the highest scores, up to most of them, the best one
// first. Equal ones are in the order of their coordinates. A score is BM25's as a
// part of the most that it could be, so it is between 0 and 1.
func (s *search) best(most int) *list[hit] {
	weights, all := make([]float64, len(s.all)), 0.0
	for i, n := range s.having {
		weights[i] = math.Log1p((float64(s.texts-n) + 0.5) / (float64(n) + 0.5))
		all += weights[i] * (saturation + 1)
	}
	average := float64(s.length) / float64(max(s.texts, 1))
	best := first[hit]{most: most, work: &s.work, compare: func(a, b *hit) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.phext, b.phext), a.scroll.At.Compare(b.scroll.At))
	}}
	for i := range s.hits.len {
		if s.did(perLook + perScore*len(weights)) {
			break
		}
		h := *s.hits.at(i)
		score, length := 0.0, saturation*(1-byLength+byLength*float64(len(h.scroll.Text))/average)
		for i, weight := range weights {
			n := float64(*s.times.at(int(h.times) + i))
			score += weight * n * (saturation + 1) / (n + length)
		}
		h.score = float32(score / all)
		best.add(h)
	}
	return best.sort()
}

// partSize is how much text, in bytes, is for one worker. perLook is what a scroll or a hit
// counts beside its text, and perScore each term of a hit when its score is computed.
const (
	partSize = 1 << 20
	perLook  = 64
	perScore = 4
)

// workers is how many processors look through a phext at a time, if there are so many.
const workers = 2

// lookThrough has s look at the scrolls of a phext that the call is about. Each
// worker takes a part of them, until there are none left.
func (s *search) lookThrough(ctx context.Context, index int, v datadir.View, l *rewrite.Listing) error {
	own := fairqueue.FromContext(ctx)
	own.Give()
	parts := parts{blocks: v.Phext.Phext.Blocks()}
	group, working := errgroup.WithContext(ctx)
	all := [workers]*search{s}
	for i := range all {
		if i > 0 {
			all[i] = newSearch(s.words)
		}
		turn := own.Another()
		one := all[i]
		one.work = work{pause: func() error { return anotherTurn(working, turn) }}
		group.Go(func() error {
			if err := turn.Take(working); err != nil {
				return err
			}
			defer turn.Give()
			named := v.Names.Phext.InOrder()
			for scrolls := parts.next(); len(scrolls) > 0; scrolls = parts.next() {
				for j := range scrolls {
					scroll := &scrolls[j]
					name, _ := named(scroll.At)
					if l.Covers(scroll.At, name) {
						one.look(index, scroll)
					}
					if one.did(perLook) {
						return one.err
					}
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := own.Take(ctx); err != nil {
		return err
	}
	defer own.Give()
	s.work = work{pause: func() error { return anotherTurn(ctx, own) }}
	for _, other := range all[1:] {
		s.add(other)
	}
	return s.err
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
	for i := range other.hits.len {
		if s.did(perLook) {
			return
		}
		h := *other.hits.at(i)
		times := int(h.times)
		h.times = uint32(s.times.len)
		s.hits.add(h, &s.work)
		for j := range s.all {
			s.times.add(*other.times.at(times + j), &s.work)
		}
	}
}

// parts are the scrolls of a phext in parts of about partSize at most. Its method may be
// called at any time.
type parts struct {
	mu     sync.Mutex
	blocks [][]phext.Scroll // that are left
	first  int              // scroll of the first block that is left
}

// next is the next part: a block, or a part of one. The last ones are empty.
func (p *parts) next() (scrolls []phext.Scroll) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.blocks) == 0 {
		return nil
	}
	block, left, end := p.blocks[0], partSize, p.first
	for ; end < len(block) && left > 0; end++ {
		left -= len(block[end].Text) + perLook
	}
	scrolls, p.first = block[p.first:end], end
	if end == len(block) {
		p.blocks, p.first = p.blocks[1:], 0
	}
	return scrolls
}

// A snippet has at most snippetLength characters, and begins beforeMatch characters
// before the match.
const (
	snippetLength = 160
	beforeMatch   = 40
)

// snippet is the text around the place with the most terms near it.
func (t *terms) snippet(text string) string {
	begin, most := 0, -1
	for i := range t.all {
		first := t.find(i, text)
		m, _ := first.match()
		if n := t.near(text[m.begin:]); n > most {
			begin, most = m.begin, n
		}
	}
	for range beforeMatch {
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

// near is how many of the terms a snippet shows that begins shortly before text.
func (t *terms) near(text string) (n int) {
	text = text[:min(len(text), snippetLength-beforeMatch)]
	for i := range t.all {
		found := t.find(i, text)
		if _, ok := found.match(); ok {
			n++
		}
	}
	return n
}
