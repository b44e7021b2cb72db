package fakesq

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/phext"
)

func (s *store) process(c call) string {
	s.open(c.path, c.op == "load" || c.op == "json-export")
	switch c.op {
	case "insert", "update", "delete":
		answer := s.change(c)
		s.flush(c.id)
		return answer
	case "where":
		return s.where(c)
	case "select":
		return s.scrolls[c.at]
	case "get":
		return s.get()
	case "delta":
		return s.delta(c.scroll)
	case "json-export":
		return s.export()
	}
	return s.summary(c)
}

func (s *store) change(c call) string {
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

func (s *store) summary(c call) string {
	switch c.op {
	case "load":
		return "Loaded " + c.path
	case "status":
		return fmt.Sprintf("Hosting: %s\nConnection ID: %d\nPhext Size: %d\nScrolls: %d", c.path, c.id, len(s.text()), len(s.scrolls))
	case "checksum":
		return phext.Checksum(s.text())
	case "toc":
		return textmap(s.text())
	case "version":
		return s.release
	}
	return "Unexpected command ignored."
}

// where writes a line to standard output, and panics when nobody reads there.
func (s *store) where(c call) string {
	if _, err := fmt.Fprintln(s.out, "Processing where"); err != nil {
		panic(panicked("failed printing to stdout"))
	}
	return phext.Where(c.scroll, c.limit, c.sum)
}

// get is the file itself, not what is in memory.
func (s *store) get() string {
	text, err := readText(s.path)
	if err == nil {
		return text
	}
	if s.release == Release053 {
		panic(panicked("Unable to open requested phext " + s.path))
	}
	return fmt.Sprintf("Unable to open requested phext %s: %v", s.path, err)
}

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

// export escapes quotes and line breaks alone, and leaves its file behind. SQ's
// order is a hash map's; this one is by coordinate.
func (s *store) export() string {
	escape := strings.NewReplacer(`"`, `\"`, "\n", `\n`)
	entries := make([]string, 0, len(s.scrolls))
	for _, scroll := range s.sorted() {
		entries = append(entries, fmt.Sprintf("   { \"coord\": \"%s\", \"scroll\": \"%s\" }\n", show(scroll.At), escape.Replace(scroll.Text)))
	}
	text := "[\n" + strings.Join(entries, ",") + "]\n"
	_ = os.WriteFile(s.path+".json", []byte(text), 0o644) // SQ does not look whether it could
	return text
}

// summaryBytes is where the recorded toc cuts a scroll.
const summaryBytes = 32

// textmap is toc as recorded: it cuts at a byte, and panics when that was
// inside a character.
func textmap(text string) string {
	var out strings.Builder
	for _, scroll := range phext.Sequence(text) {
		line, _, _ := strings.Cut(scroll.Text[:min(len(scroll.Text), summaryBytes)], "\n")
		if len(line) < len(scroll.Text) {
			line += "..."
		}
		if !utf8.ValidString(line) {
			panic(panicked("invalid utf8"))
		}
		fmt.Fprintf(&out, "* %s: %s\n", show(scroll.At), line)
	}
	return out.String()
}
