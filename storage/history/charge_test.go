package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

// leave takes the memory for answers but for some bytes. rest gives it back.
func (w *world) leave(bytes int64) (rest func()) {
	w.Helper()
	taken := w.Dirs.Answers.Limit() - bytes
	if !w.Dirs.Answers.Take(taken) {
		w.Fatal("somebody holds memory")
	}
	return func() { w.Dirs.Answers.Give(taken) }
}

// givenBack checks that nobody holds memory.
func (w *world) givenBack() {
	w.Helper()
	w.leave(0)()
}

// TestAScrollOfThePastIsReadWithinTheMemoryForAnswers.
func TestAScrollOfThePastIsReadWithinTheMemoryForAnswers(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 100_000)
	then := w.update("n.phext", 1, long)
	w.update("n.phext", 1, "later")
	target := Target{At: then, Phext: ptr("n"), Coordinate: coordinate(1)}
	rest := w.leave(100_000)
	w.untouched(func() {
		if _, err := w.Restore(t.Context(), w.tenant, target); !errors.Is(err, datadir.ErrBusy) {
			t.Errorf("%v", err)
		}
	})
	rest()
	w.restore(target)
	w.wantFiles("n.phext=" + long)
	w.givenBack()
}

// TestScrollsOfThePastAreParsedWithinTheMemoryForAnswers has many of one byte.
func TestScrollsOfThePastAreParsedWithinTheMemoryForAnswers(t *testing.T) {
	const scrolls = 5000
	w := newWorld(t)
	many := strings.Repeat(strings.Repeat("x\x17", 500)+"\x18", scrolls/500)
	w.check(os.WriteFile(w.path("n.phext"), []byte(many), 0o600))
	then := w.update("n.phext", 1, "y")
	w.update("n.phext", 1, "z")
	target := Target{At: then, Phext: ptr("n"), To: ptr("copy")}
	rest := w.leave(2*int64(len(many)) + 2*scrolls*phext.ScrollSize)
	w.untouched(func() {
		if _, err := w.Restore(t.Context(), w.tenant, target); !errors.Is(err, datadir.ErrBusy) {
			t.Errorf("%v", err)
		}
	})
	rest()
	w.restore(target)
	if got := w.file("copy.phext"); phext.Parse(got).Len() != scrolls || got[0] != 'y' {
		t.Errorf("%.20q and %d bytes more", got, len(got))
	}
	w.givenBack()
}

// changing changes a phext when a backup begins to be written, and leaves little memory.
type changing struct {
	bytes.Buffer
	begun func()
}

func (c *changing) Write(b []byte) (int, error) {
	if c.begun != nil {
		c.begun()
		c.begun = nil
	}
	return c.Buffer.Write(b)
}

// TestABackupReadsThePastWithinTheMemoryForAnswers.
func TestABackupReadsThePastWithinTheMemoryForAnswers(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 100_000)
	w.update("a.phext", 1, "first")
	w.update("b.phext", 1, long)
	var rest func()
	little := &changing{begun: func() {
		w.update("b.phext", 1, "changed")
		_, err := w.Dirs.File(w.path("b.phext")) // that the backup finds it read
		w.check(err)
		rest = w.leave(150_000)
	}}
	if err := w.Backup(t.Context(), w.tenant, little); !errors.Is(err, datadir.ErrBusy) {
		t.Errorf("%v", err)
	}
	rest()
	enough := &changing{begun: func() {
		w.now = time.Now()
		w.update("b.phext", 1, "again")
	}}
	w.check(w.Backup(t.Context(), w.tenant, enough))
	if got := w.entries(enough.Bytes()); got != "a.phext=first b.phext=changed" {
		t.Errorf("%.100q", got)
	}
	w.givenBack()
}

// TestEventsWithLongNamesAreCharged with at least what it takes to answer them.
func TestEventsWithLongNamesAreCharged(t *testing.T) {
	for _, name := range []string{"a", strings.Repeat("n", 500), strings.Repeat(`"`, 500)} {
		w := newWorld(t)
		j, err := w.journalOf(w.tenant)
		w.check(err)
		const n = 50
		for range n {
			w.check(w.make(j, journal.Mutation{File: strings.Repeat("p", 230) + ".phext", Op: journal.Update, At: at(1), Tenant: "will", Note: name}, journal.State{}))
		}
		page, err := w.Events(t.Context(), w.tenant, Selection{Call: w.ask("GET", "history", "", "", rewrite.Everything), Limit: n})
		w.check(err)
		charged := w.Dirs.Answers.Above(0)
		took := int64(0)
		for _, e := range page.Events {
			took += int64(unsafe.Sizeof(e)) + int64(len(e.File)+len(e.Note))
		}
		text, err := json.Marshal(page.Entries())
		w.check(err)
		took += int64(n*unsafe.Sizeof(Entry{})) + 3*int64(len(text)) // a buffer of up to twice its size, and a copy
		if len(page.Events) != n || took > charged {
			t.Errorf("%d events named %.3s take %d bytes, and %d are charged", len(page.Events), name, took, charged)
		}
		page.Release()
		w.givenBack()
	}
}
