package writer

import (
	"os"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// TestAWriteIsMadeWithinTheMemoryForAnswers writes a text into a phext of many scrolls,
// which is parsed again then: it takes far more memory than the file has bytes.
func TestAWriteIsMadeWithinTheMemoryForAnswers(t *testing.T) {
	const scrolls = 6000
	w := newWorld(t)
	many := strings.TrimSuffix(strings.Repeat(strings.Repeat("x\x17", 600)+"\x18", scrolls/600), "\x17\x18")
	w.check(os.WriteFile(w.path("many.phext"), []byte(many), 0o600))
	if _, err := w.Dirs.File(w.path("many.phext")); err != nil { // that the write finds it read
		t.Fatal(err)
	}
	request := w.mutate(rewrite.Update, "many", scroll(1), strings.Repeat("y", 2*64<<10))
	taken := w.Dirs.Answers.Limit() - scrolls*phext.ScrollSize
	if !w.Dirs.Answers.Take(taken) {
		t.Fatal("somebody holds memory")
	}
	if _, err := w.Commit(t.Context(), request); err != datadir.ErrBusy {
		t.Errorf("%v", err)
	}
	if got := w.file("many.phext"); got != many {
		t.Errorf("a write that was refused left %d bytes", len(got))
	}
	w.Dirs.Answers.Give(taken)
	if _, err := w.Commit(t.Context(), request); err != nil {
		t.Error(err)
	}
	if !w.Dirs.Answers.Take(w.Dirs.Answers.Limit()) {
		t.Error("the memory of a write was not given back")
	}
}
