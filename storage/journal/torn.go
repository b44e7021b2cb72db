package journal

import (
	"strings"
	"unicode/utf8"
)

// torn says whether found is what an interrupted write of want leaves: nothing,
// a beginning of it, or half a character.
func torn(found, want State) bool {
	switch {
	case !want.Exists:
		return false
	case !found.Exists:
		return true
	}
	return len(found.Text) < len(want.Text) && strings.HasPrefix(want.Text, found.Text)
}

// holed says whether found is what a power cut leaves of want: blocks that were
// never written, and read as NUL.
func holed(found, want State) bool {
	if !found.Exists || !want.Exists || found.Text == want.Text {
		return false
	}
	for i := range len(found.Text) {
		if b := found.Text[i]; b != 0 && (i >= len(want.Text) || b != want.Text[i]) {
			return false
		}
	}
	return strings.IndexByte(found.Text, 0) >= 0
}

// holes says whether found has NULs although nothing in want has: it is what a
// power cut left, whatever of.
func holes(found, want State) bool {
	return strings.IndexByte(found.Text, 0) >= 0 && strings.IndexByte(want.Text, 0) < 0
}

func readableText(s State) bool { return utf8.ValidString(s.Text) }
