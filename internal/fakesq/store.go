package fakesq

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"mirrorborn.us/sqgate/phext"
)

// store is SQ's memory, which holds one phext at a time. Only process takes the
// lock. The other methods expect it to be held.
type store struct {
	release string
	out     io.Writer
	logf    func(format string, args ...any)

	mu       sync.Mutex
	poisoned bool   // there was a panic while the lock was held; Rust never forgets it
	path     string // of the phext in memory
	scrolls  map[phext.Coordinate]string
}

// process does what is asked and makes the answer. A panic poisons the lock.
func (s *store) process(c call) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkPoison(c.id)
	panicked := true
	defer func() { s.poisoned = s.poisoned || panicked }()
	answer := s.processLocked(c)
	panicked = false
	return answer
}

// checkPoison is what SQ does on every request after the lock was poisoned:
// 0.5.3 panics again, and later releases log it and carry on.
func (s *store) checkPoison(id uint64) {
	switch {
	case !s.poisoned:
	case s.release == Release053:
		panic(rustPanic("the lock is poisoned"))
	default:
		s.logf("[#%d] recovering from poisoned mutex", id)
	}
}

func (s *store) processLocked(c call) string {
	s.open(c.path, c.op == "load" || c.op == "json-export")
	switch c.op {
	case "insert", "update", "delete":
		answer := s.mutate(c)
		s.flush(c.id)
		return answer
	case "load":
		return "Loaded " + c.path
	case "select":
		return s.scrolls[c.at]
	case "get":
		return s.get()
	case "toc":
		return textmap(s.text())
	case "checksum":
		return phext.Checksum(s.text())
	case "status":
		return fmt.Sprintf("Hosting: %s\nConnection ID: %d\nPhext Size: %d\nScrolls: %d", c.path, c.id, len(s.text()), len(s.scrolls))
	case "delta":
		return s.delta(c.scroll)
	case "json-export":
		return s.export()
	case "where":
		return s.where(c)
	case "query":
		return c.query.run(s.scrolls)
	}
	return s.release // version
}

func (s *store) mutate(c call) string {
	switch c.op {
	case "insert":
		s.scrolls[c.at] += c.scroll
		return fmt.Sprintf("Inserted %d bytes", len(c.scroll))
	case "update":
		s.scrolls[c.at] = c.scroll
		return fmt.Sprintf("Updated %d bytes", len(c.scroll))
	}
	old := s.scrolls[c.at]
	delete(s.scrolls, c.at)
	return fmt.Sprintf("Removed %d bytes", len(old))
}

// open reads a phext, unless it is in memory already and reload is false. It
// creates an empty file if there is none.
func (s *store) open(path string, reload bool) {
	if !reload && s.path == path {
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
		_ = os.WriteFile(path, nil, 0o644) // 0.5.3 ignores the error too
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

// unreadable is a panic in 0.5.3. To later releases such a file is empty.
func (s *store) unreadable(path string, err error) {
	if s.release == Release053 {
		panic(rustPanic(fmt.Sprintf("Unable to open %s: %v", path, err)))
	}
	s.logf("Warning: Failed to read %s (creating empty): %v", path, err)
}

// flush rewrites the whole file in place. If that fails, it is logged, but the
// client is not told.
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

// where writes a line to standard output, and panics if that fails.
func (s *store) where(c call) string {
	if _, err := fmt.Fprintln(s.out, "Processing where"); err != nil {
		panic(rustPanic("failed printing to stdout"))
	}
	return phext.Where(c.scroll, c.limit, c.sum, nil)
}

// get answers with the file, whatever is in memory.
func (s *store) get() string {
	text, err := readText(s.path)
	if err == nil {
		return text
	}
	if s.release == Release053 {
		panic(rustPanic("Unable to open requested phext " + s.path))
	}
	return fmt.Sprintf("Unable to open requested phext %s: %v", s.path, err)
}

// delta answers with the scrolls that a client's manifest lacks or has with
// another checksum (recorded in "manifest delta").
func (s *store) delta(manifest string) string {
	has := map[phext.Coordinate]string{}
	for line := range lines(manifest) {
		parts := strings.Split(line, ": ")
		if at := readCoordinate(parts[0]); len(parts) > 1 && printable(at) {
			has[at] = parts[1]
		}
	}
	var out []phext.Scroll
	for _, scroll := range s.sorted() {
		if hash, ok := has[scroll.At]; !ok || hash != phext.Checksum(scroll.Text) {
			out = append(out, scroll)
		}
	}
	for at := range has {
		if _, ok := s.scrolls[at]; !ok {
			out = append(out, phext.Scroll{At: at, Text: phext.Missing})
		}
	}
	slices.SortFunc(out, func(a, b phext.Scroll) int { return a.At.Compare(b.At) })
	return imploded(out)
}

// imploded renders as `delta` does: one delimiter at a time, until the position
// is no longer before the scroll. An empty scroll moves the position without a
// delimiter, so the scrolls after it land too early.
func imploded(scrolls []phext.Scroll) string {
	var out strings.Builder
	from := phext.Origin()
	for _, s := range scrolls {
		if s.Text != "" {
			for from.Compare(s.At) < 0 {
				next := stepTowards(from, s.At)
				out.Write(phext.AppendDelimiters(nil, from, next))
				from = next
			}
			out.WriteString(s.Text)
		}
		from = s.At
	}
	return out.String()
}

// stepTowards is where one more delimiter leads on the way to to. No delimiter
// leads past 999. SQ tries for ever then, and its memory grows while it holds
// the lock. The stand-in only holds the lock for ever.
func stepTowards(from, to phext.Coordinate) phext.Coordinate {
	level := 0
	for from[level] == to[level] {
		level++
	}
	if from[level] >= phext.Max {
		select {}
	}
	from[level]++
	for i := level + 1; i < len(from); i++ {
		from[i] = phext.Min
	}
	return from
}

// export escapes only quotes and line breaks, and leaves a file behind. SQ's
// order is that of a hash map. Here it is that of the coordinates.
func (s *store) export() string {
	escape := strings.NewReplacer(`"`, `\"`, "\n", `\n`)
	entries := make([]string, 0, len(s.scrolls))
	for _, scroll := range s.sorted() {
		entries = append(entries, fmt.Sprintf("   { \"coord\": \"%s\", \"scroll\": \"%s\" }\n", show(scroll.At), escape.Replace(scroll.Text)))
	}
	text := "[\n" + strings.Join(entries, ",") + "]\n"
	_ = os.WriteFile(s.path+".json", []byte(text), 0o644) // SQ ignores the error too
	return text
}

// textmap is the answer to toc: a line for each scroll, with its text up to the
// first line break, and "..." if there is more.
func textmap(text string) string {
	var out strings.Builder
	for _, scroll := range phext.Sequence(text) {
		line, _, more := strings.Cut(scroll.Text, "\n")
		if more {
			line += "..."
		}
		fmt.Fprintf(&out, "* %s: %s\n", show(scroll.At), line)
	}
	return out.String()
}

var errNotText = errors.New("stream did not contain valid UTF-8")

// readText reads a file as Rust reads a string. The error has Rust's words,
// because 0.5.6 and 0.6.0 answer with it.
func readText(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", rustError(path, err)
	}
	if !utf8.Valid(text) {
		return "", errNotText
	}
	return string(text), nil
}

// rustError is err in the words of Rust's standard library.
func rustError(path string, err error) error {
	if strings.Contains(path, "\x00") {
		return errors.New("file name contained an unexpected NUL byte")
	}
	var n syscall.Errno
	if !errors.As(err, &n) {
		return err
	}
	text := n.Error()
	return fmt.Errorf("%s%s (os error %d)", strings.ToUpper(text[:1]), text[1:], int(n))
}
