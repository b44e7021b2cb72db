package journal

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// nextDay begins a segment that has nothing but another file.
func (w *world) nextDay() {
	w.now = w.now.Add(25 * time.Hour)
	w.mutate(update("other.phext", 1, fmt.Sprint(w.now.Unix())))
}

func (w *world) wantSeen(file string, want fsutil.FileID) {
	w.t.Helper()
	if got, known := w.j.LastSeen(file); !known || got != want {
		w.t.Fatalf("%s was last seen as %+v (%v), want %+v", file, got, known, want)
	}
}

// TestWhatWasSeenOutlivesASegment also with a restart, and whatever has become of the file
// that says it.
func TestWhatWasSeenOutlivesASegment(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.History = 240 * time.Hour }))
	w.put("gone.phext", text("x"))
	w.mutate(Mutation{File: "gone.phext", Op: Remove})
	w.mutate(update("a.phext", 1, "one"))
	w.nextDay()
	w.mutate(update("b.phext", 1, "one"))
	refused := w.put("refused.phext", text("x"))
	w.must(w.j.NoteIdentity("refused.phext", refused))
	w.must(w.begin(update("refused.phext", 1, "y")).Abort())
	w.nextDay()
	want := map[string]fsutil.FileID{"gone.phext": {}, "refused.phext": refused}
	for _, file := range []string{"a.phext", "b.phext", "other.phext"} {
		id, err := fsutil.Identify(w.path(file))
		w.must(err)
		want[file] = id
	}
	path := filepath.Join(w.j.dir, seenFile)
	whole, err := os.ReadFile(path)
	w.must(err)
	check := func(as string, content []byte) {
		t.Helper()
		w.must(w.set.Close())
		w.must(os.RemoveAll(path))
		if content != nil {
			w.must(os.WriteFile(path, content, 0o600))
		}
		w.open()
		for file, id := range want {
			w.wantSeen(file, id)
		}
		if _, known := w.j.LastSeen("never.phext"); known {
			t.Errorf("%s: something is known of a file that never was", as)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(whole) {
			t.Errorf("%s: it was not written again (%v)", as, err)
		}
	}
	check("as it is", whole)
	check("none", nil)
	for n := range whole {
		check(fmt.Sprint("cut at ", n), whole[:n])
		damaged := slices.Clone(whole)
		damaged[n] ^= 0x40
		check(fmt.Sprint("damaged at ", n), damaged)
	}
	w.nextDay() // an older sqgate begins a segment, and leaves the file
	want["other.phext"], err = fsutil.Identify(w.path("other.phext"))
	w.must(err)
	before := whole
	whole, err = os.ReadFile(path)
	w.must(err)
	check("of the segment before", before)
}

// TestWhatIsPastTheHistoryIsForgotten, or removed files would be known for ever.
func TestWhatIsPastTheHistoryIsForgotten(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.History = 48 * time.Hour }))
	w.mutate(update("a.phext", 1, "one"))
	for days := range 6 {
		w.nextDay()
		_, known := w.j.LastSeen("a.phext")
		w.reopen()
		if _, still := w.j.LastSeen("a.phext"); still != known {
			t.Errorf("day %d: known %v, and %v after a restart", days, known, still)
		}
		if numbers, _, err := segments(w.j.dir); err != nil || known != (numbers[0] == 1) {
			t.Errorf("day %d: known %v with segments %v, %v", days, known, numbers, err)
		}
	}
	if _, known := w.j.LastSeen("a.phext"); known {
		t.Error("it is known for ever")
	}
}

// TestAnotherNumberOfTheDiskIsNoEdit: a reboot may give a file system another one.
func TestAnotherNumberOfTheDiskIsNoEdit(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	for _, file := range []string{"same.phext", "edited.phext", "removed.phext"} {
		w.mutate(update(file, 1, "one"))
	}
	w.nextDay()
	was := maps.Clone(w.j.files)
	for _, t := range w.j.files {
		if t.segment != w.j.seg.number {
			t.lastSeen.Dev += 7 // as if the disk had that number then
		}
	}
	w.j.saveSeen(w.j.seg.number, w.j.files)
	id := was["same.phext"].lastSeen
	id.Dev -= 7
	edited := w.put("edited.phext", text("by hand"))
	w.put("removed.phext", State{})
	w.reopen()
	w.recover()
	for range 2 {
		w.wantSeen("same.phext", id)
		if last, known := w.j.LastSeen("edited.phext"); !known || last == edited {
			t.Errorf("the edit is not noticed: %v, %v", last, known)
		}
		if last, known := w.j.LastSeen("removed.phext"); !known || !last.Exists() {
			t.Errorf("the removal is not noticed: %v, %v", last, known)
		}
		w.reopen()
	}
}

// TestAnEditAfterARefusedWrite: the checkpoint for that write has what was before the edit.
func TestAnEditAfterARefusedWrite(t *testing.T) {
	for _, noted := range []bool{true, false} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		id := w.put("a.phext", text("before"))
		if noted {
			w.must(w.j.NoteIdentity("a.phext", id))
		}
		w.must(w.begin(update("a.phext", 2, "refused")).Abort())
		if noted {
			w.wantSeen("a.phext", id)
		}
		id = w.put("a.phext", text("by hand"))
		if last, known := w.j.LastSeen("a.phext"); known && last != id {
			w.must(w.j.RecordEdit("a.phext", text("by hand"), id))
		}
		w.mutate(update("a.phext", 2, "after"))
		want := w.read("a.phext")
		w.now = w.now.Add(time.Minute)
		if s, err := w.j.At("a.phext", w.now); err != nil || s != want {
			t.Errorf("noted %v: the journal has %q (%v), and the file %q", noted, s.Text, err, want.Text)
		}
	}
}
