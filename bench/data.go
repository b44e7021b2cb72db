package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The breaks of the format that are used here.
const (
	scrollBreak  = "\x17"
	sectionBreak = "\x18"
	chapterBreak = "\x19"
	libraryBreak = "\x01"
)

// perSection and perChapter keep every number of a coordinate below 1000.
const (
	perSection = 100
	perChapter = 100 * perSection
)

// at returns the coordinate of scroll i in a phext that textOf made.
func at(i int) string {
	return fmt.Sprintf("1.1.1/1.1.1/%d.%d.%d", i/perChapter+1, i/perSection%100+1, i%perSection+1)
}

// textOf makes a phext of n scrolls.
func textOf(n int, scroll func(i int) string) string {
	var b strings.Builder
	for i := range n {
		switch {
		case i == 0:
		case i%perChapter == 0:
			b.WriteString(chapterBreak)
		case i%perSection == 0:
			b.WriteString(sectionBreak)
		default:
			b.WriteString(scrollBreak)
		}
		b.WriteString(scroll(i))
	}
	return b.String()
}

// numbered makes scrolls of size bytes, each with a first line of its own.
func numbered(size int) func(i int) string {
	return func(i int) string {
		head := fmt.Sprintf("scroll %d\n", i)
		return head + strings.Repeat("x", max(0, size-len(head)))
	}
}

// scrollSize is the size of most scrolls, in bytes: 20,000 of them are 4 MB.
const scrollSize = 200

// putPhext writes a phext into a data directory, with the mode that SQ gives it.
// With another mode, sqgate would not have SQ recreate the file.
func putPhext(dir, name, text string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".phext"), []byte(text), 0o666)
}

func selectOf(phext string, i int) string { return "/api/v2/select?p=" + phext + "&c=" + at(i) }

func updateOf(phext string, i int) string { return "/api/v2/update?p=" + phext + "&c=" + at(i) }
