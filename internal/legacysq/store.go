package legacysq

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"mirrorborn.us/sqgate/phext"
)

// store is SQ's memory: one phext at a time, under one lock.
type store struct {
	release  string
	mu       sync.Mutex
	poisoned bool // 0.5.3: a panic under the lock, and nothing works any more
	path     string
	scrolls  map[phext.Coordinate]string
}

// locked runs work under the lock. A panic in it poisons the lock: 0.5.3 then
// panics at every later request, 0.5.6 carries on.
func (s *store) locked(work func() string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poisoned && s.release == Release053 {
		panic("the lock is poisoned")
	}
	s.poisoned = true
	answer := work()
	s.poisoned = false
	return answer
}

// open reads a phext unless it is the one in memory, and makes an empty file
// of one that does not exist.
func (s *store) open(path string, again bool) {
	if !again && s.path == path {
		return
	}
	if _, err := os.Stat(path); err != nil {
		if s.release != Release053 {
			_ = os.MkdirAll(filepath.Dir(path), 0o755) // SQ goes on without
		}
		_ = os.WriteFile(path, nil, 0o644) // SQ goes on without
	}
	text, err := os.ReadFile(path)
	if err != nil || !utf8.Valid(text) {
		if s.release == Release053 {
			panic("unable to open " + path)
		}
		text = nil
	}
	s.scrolls = map[phext.Coordinate]string{}
	for _, scroll := range phext.Sequence(string(text)) {
		s.scrolls[scroll.At] = scroll.Text
	}
	s.path = path
}

// flush rewrites the whole file in place, and does not look at the result.
func (s *store) flush() { _ = os.WriteFile(s.path, []byte(s.text()), 0o644) }

// sorted are the scrolls in memory, empty ones too, in coordinate order.
func (s *store) sorted() []phext.Scroll {
	all := make([]phext.Scroll, 0, len(s.scrolls))
	for at, text := range s.scrolls {
		all = append(all, phext.Scroll{At: at, Text: text})
	}
	slices.SortFunc(all, func(a, b phext.Scroll) int { return a.At.Compare(b.At) })
	return all
}

// text is the phext as SQ writes it.
func (s *store) text() string { return phext.Of(s.sorted()).Render() }

// imploded renders as `delta` does: an empty scroll moves the position without
// a delimiter, so that those behind it land too early.
func imploded(scrolls []phext.Scroll) string {
	var out strings.Builder
	from := phext.Origin()
	for _, s := range scrolls {
		if s.Text != "" {
			out.Write(phext.AppendDelimiters(nil, from, s.At))
			out.WriteString(s.Text)
		}
		from = s.At
	}
	return out.String()
}
