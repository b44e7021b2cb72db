package reader

import (
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// terms are what a search looks for. Upper and lower case are the same.
type terms struct {
	work
	all    []term
	counts [256]uint32 // how often each byte is in what was counted
	left   int         // how many bytes are still to be counted
}

// term is looked for by one of its letters, the anchor: the last bytes of all forms of
// that letter are searched, and where there is one, the letters before and behind are
// compared.
type term struct {
	letters [][]rune   // the forms of each letter
	anchor  int        // the index of the letter that is looked for
	ends    []byte     // the last bytes of its forms
	before  *[256]bool // which bytes may stand before one of these; nil = all
	behind  *[256]bool // and which behind it
}

const (
	// pieceSize is how much of a text, in bytes, is searched for a byte at once.
	pieceSize = 256 << 10
	// counted is how much text, in bytes, is counted to learn which letters are rare.
	counted = 64 << 10
)

// What counts as so many bytes of work: a term that is looked for in a scroll, a place that
// may be its anchor, and a byte that is compared there. Of a text that is only searched for
// the anchor, perSearched bytes count as one.
const (
	perFind     = 32
	perPlace    = 8
	perLetter   = 4
	perSearched = 4
)

func newTerms(all []string) terms {
	t := terms{left: counted}
	for _, text := range all {
		var one term
		for _, r := range text {
			one.letters = append(one.letters, formsOf(unicode.ToLower(r)))
		}
		one.chooseAnchor(&t.counts)
		t.all = append(t.all, one)
	}
	return t
}

// forms are the letters that are another one in lower case: all of them, by that one.
var forms = sync.OnceValue(func() map[rune][]rune {
	all := map[rune][]rune{}
	for r := range rune(0x20000) { // none beyond has a case
		if lower := unicode.ToLower(r); lower != r {
			all[lower] = append(all[lower], r)
		}
	}
	return all
})

func formsOf(lower rune) []rune { return append([]rune{lower}, forms()[lower]...) }

// learn counts the bytes of a text, until there are enough of them. From then on, each
// term is looked for by its rarest letter.
func (t *terms) learn(text string) {
	if t.left == 0 {
		return
	}
	text = text[:min(len(text), t.left)]
	t.left -= len(text)
	t.done += len(text)
	for i := range len(text) {
		t.counts[text[i]]++
	}
	if t.left == 0 {
		for i := range t.all {
			t.all[i].chooseAnchor(&t.counts)
		}
	}
}

// chooseAnchor takes the letter whose last bytes are the rarest.
func (t *term) chooseAnchor(counts *[256]uint32) {
	least := uint32(math.MaxUint32)
	for i, forms := range t.letters {
		var ends []byte
		n := uint32(0)
		for _, r := range forms {
			text := string(r)
			if end := text[len(text)-1]; !slices.Contains(ends, end) {
				ends = append(ends, end)
				n += counts[end]
			}
		}
		if n < least {
			least, t.anchor, t.ends = n, i, ends
		}
	}
	t.chooseNeighbours()
}

// chooseNeighbours finds the bytes that may stand next to the last one of the anchor. They
// show most of what is no match.
func (t *term) chooseNeighbours() {
	t.before, t.behind = nil, nil
	if t.anchor > 0 {
		t.before = &[256]bool{}
		for _, r := range t.letters[t.anchor-1] {
			for _, anchor := range t.letters[t.anchor] {
				text := string(r) + string(anchor)
				t.before[text[len(text)-2]] = true
			}
		}
	}
	if t.anchor+1 < len(t.letters) {
		t.behind = &[256]bool{}
		for _, r := range t.letters[t.anchor+1] {
			t.behind[string(r)[0]] = true
		}
	}
}

// plausible says whether the bytes next to the one at an index can be those of a match.
func (t *term) plausible(text string, at int) bool {
	return (t.before == nil || at > 0 && t.before[text[at-1]]) && (t.behind == nil || at+1 < len(text) && t.behind[text[at+1]])
}

// match is where a term is: the indexes of its first byte and behind its last one.
type match struct{ begin, end int }

// around is the match whose anchor ends at the index end of the text. Nothing, and what
// is no UTF-8, are no letters.
func (t *term) around(text string, end int) (m match, ok bool) {
	m = match{end, end}
	for i := t.anchor; i >= 0; i-- {
		r, width := utf8.DecodeLastRuneInString(text[:m.begin])
		if r == utf8.RuneError && width <= 1 || !slices.Contains(t.letters[i], r) {
			return m, false
		}
		m.begin -= width
	}
	for i := t.anchor + 1; i < len(t.letters); i++ {
		r, width := utf8.DecodeRuneInString(text[m.end:])
		if r == utf8.RuneError && width <= 1 || !slices.Contains(t.letters[i], r) {
			return m, false
		}
		m.end += width
	}
	return m, true
}

// finder finds a term in a text, one match after the other.
type finder struct {
	*terms
	*term
	text  string
	from  int    // where to look for an end of the anchor
	until int    // where this piece of the text ends
	ahead [4]int // the index of each of the ends, at from or behind it; less = not known
	last  int    // where the match before ends
}

var unknown = [4]int{-1, -1, -1, -1}

func (t *terms) find(i int, text string) finder {
	t.done += perFind
	return finder{terms: t, term: &t.all[i], text: text, until: min(len(text), pieceSize), ahead: unknown}
}

// match finds the next match. There is none if a pause ended the work.
func (f *finder) match() (m match, ok bool) {
	for !f.did(perPlace) {
		at := f.until
		for i, end := range f.ends {
			if f.ahead[i] < f.from {
				f.ahead[i] = f.until
				if index := strings.IndexByte(f.text[f.from:f.until], end); index >= 0 {
					f.ahead[i] = f.from + index
				}
				f.done += (f.ahead[i] - f.from) / perSearched
			}
			at = min(at, f.ahead[i])
		}
		if at == f.until {
			if at == len(f.text) {
				break
			}
			f.from, f.until, f.ahead = at, min(len(f.text), at+pieceSize), unknown
			continue
		}
		f.from = at + 1
		if !f.plausible(f.text, at) {
			continue
		}
		m, ok := f.around(f.text, f.from)
		f.done += perLetter * (m.end - m.begin)
		if ok && m.begin >= f.last {
			f.last = m.end
			return m, true
		}
	}
	return match{}, false
}
