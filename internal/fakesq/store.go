package fakesq

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"mirrorborn.us/sqgate/phext"
)

// store is SQ's memory: one phext at a time, under one lock.
type store struct {
	release string
	out     io.Writer
	logf    func(format string, args ...any)

	mu       sync.Mutex
	poisoned bool // there was a panic under the lock, and Rust remembers it for good
	path     string
	scrolls  map[phext.Coordinate]string
}

// locked processes c under the lock. A panic in it poisons the lock.
func (s *store) locked(c call) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pastPoison(c.id)
	whole := false
	defer func() { s.poisoned = s.poisoned || !whole }()
	answer := s.process(c)
	whole = true
	return answer
}

// pastPoison panics again in 0.5.3, at every later request; 0.5.6 says so in
// its log and carries on.
func (s *store) pastPoison(id uint64) {
	switch {
	case !s.poisoned:
	case s.release == Release053:
		panic(panicked("the lock is poisoned"))
	default:
		s.logf("[#%d] recovering from poisoned mutex", id)
	}
}

// open reads a phext unless it is the one in memory, and makes an empty file
// of one that does not exist.
func (s *store) open(path string, again bool) {
	if !again && s.path == path {
		return
	}
	if _, err := os.Stat(path); err != nil {
		s.create(path)
	}
	text, err := readText(path)
	if err != nil {
		s.unreadable(path, err)
	}
	s.scrolls = map[phext.Coordinate]string{}
	for _, scroll := range phext.Sequence(text) {
		s.scrolls[scroll.At] = scroll.Text
	}
	s.path = path
}

func (s *store) create(path string) {
	if s.release == Release053 {
		_ = os.WriteFile(path, nil, 0o644) // it does not look whether it could
		return
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.logf("Warning: Failed to create directory %s: %v", dir, rustError(dir, err))
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		s.logf("Warning: Failed to create empty phext %s: %v", path, rustError(path, err))
	}
}

// unreadable is a panic in 0.5.3; 0.5.6 takes the phext for an empty one.
func (s *store) unreadable(path string, err error) {
	if s.release == Release053 {
		panic(panicked(fmt.Sprintf("Unable to open %s: %v", path, err)))
	}
	s.logf("Warning: Failed to read %s (creating empty): %v", path, err)
}

// flush rewrites the whole file in place. When that fails it is logged, and
// the client is not told.
func (s *store) flush(id uint64) {
	if err := os.WriteFile(s.path, []byte(s.text()), 0o644); err != nil {
		s.logf("[#%d] disk write failed for %s: %v", id, s.path, rustError(s.path, err))
	}
}

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
