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

// TestAWriteCountsThePhextThatItChanges, which may leave the cache meanwhile, and what an
// insert makes of a long scroll.
func TestAWriteCountsThePhextThatItChanges(t *testing.T) {
	w := newWorld(t)
	w.check(os.WriteFile(w.path("n.phext"), []byte(strings.Repeat("x", 2<<20)+"\x17y"), 0o600))
	if _, err := w.Dirs.File(w.path("n.phext")); err != nil { // that the write finds it read
		t.Fatal(err)
	}
	w.Dirs.Cache.Taken = nil // it stays there
	for _, test := range []struct {
		name  string
		spare int64
		write func() error
	}{
		{"an insert to it", 3 << 20, func() error {
			_, err := w.Commit(t.Context(), w.mutate(rewrite.Insert, "n", scroll(1), "y"))
			return err
		}},
		{"a delete beside it", 3 << 19, func() error {
			_, err := w.Commit(t.Context(), w.mutate(rewrite.Delete, "n", scroll(2), ""))
			return err
		}},
	} {
		taken := w.Dirs.Answers.Limit() - test.spare
		if !w.Dirs.Answers.Take(taken) {
			t.Fatal("somebody holds memory")
		}
		if err := test.write(); err != datadir.ErrBusy {
			t.Errorf("%s: %v", test.name, err)
		}
		w.Dirs.Answers.Give(taken)
		if err := test.write(); err == datadir.ErrBusy {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if used := w.Dirs.Answers.Above(0); used != 0 {
		t.Errorf("%d bytes are not given back", used)
	}
}
