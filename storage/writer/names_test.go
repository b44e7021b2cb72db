package writer

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
)

// named is a mutation of the scroll that has a name.
func named(op rewrite.Op, name, text string) step { return step{op, name, text} }

// byName is the text of the scroll with that name, and "-" if there is none.
func (w *world) byName(name string) string {
	w.Helper()
	call := w.mutate(rewrite.Update, "n", name, "x").Call
	v, err := w.Dirs.Of(w.tenant.DataDir).RecoveredView(w.Context(), call)
	w.check(err)
	at, ok := v.Names.Find(name, nil)
	if !ok {
		return "-"
	}
	text, ok := v.Phext.Phext.Select(at)
	if !ok {
		return "-"
	}
	return text
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	w.must(named(rewrite.Update, "a.name", "a"), named(rewrite.Update, "b.name", "b"), named(rewrite.Insert, "a.name", "!"))
	check := func(want map[string]string) {
		t.Helper()
		for name, text := range want {
			if got := w.byName(name); got != text {
				t.Errorf("%s is %q, want %q", name, got, text)
			}
		}
	}
	check(map[string]string{"a.name": "a!", "b.name": "b", "c.name": "-"})
	w.restart()
	check(map[string]string{"a.name": "a!", "b.name": "b", "c.name": "-"})
	w.must(named(rewrite.Delete, "a.name", ""), named(rewrite.Update, "c.name", "c"))
	check(map[string]string{"a.name": "-", "b.name": "b", "c.name": "c"})
	if names := w.file("n.names.phext"); strings.Contains(names, "a.name") {
		t.Errorf("the name of a scroll that is gone: %q", names)
	}
	for _, s := range []step{named(rewrite.Delete, "d.name", ""), named(rewrite.Update, "d.name", "")} {
		result, err := w.commit(s)
		if err != nil || result.Changed || !strings.HasSuffix(string(result.Body), " 0 bytes") {
			t.Errorf("%s of a name that does not exist: %+v, %v", s.op, result, err)
		}
	}
	w.must(step{rewrite.Update, "999.1.1/1.1.1/1.1.2", ""}) // b.name, by its coordinate
	check(map[string]string{"b.name": "-", "c.name": "c"})
}

// TestNamesKeepTheirPlaces: names of numbers come behind those that are there already,
// and two spellings of the same numbers are one.
func TestNamesKeepTheirPlaces(t *testing.T) {
	w := newWorld(t)
	w.check(os.WriteFile(w.path("n.phext"), []byte(strings.Repeat("\x01", 998)+"a\x17b"), 0o644))
	w.check(os.WriteFile(w.path("n.names.phext"), []byte(strings.Repeat("\x01", 998)+"a.name\x17b.name"), 0o644))
	w.must(named(rewrite.Update, "2026.2.13/1.1.1/1.1.1", "date"), named(rewrite.Update, "2025.2.13/1.1.1/1.1.1", "another"),
		named(rewrite.Insert, "2026.02.013/1.1.1/1.1.1", "!"), named(rewrite.Update, "1.1.0", "zero"))
	w.restart()
	const places = "a.name\x17b.name\x172026.2.13/1.1.1/1.1.1\x172025.2.13/1.1.1/1.1.1\x171.1.1/1.1.1/1.1.0"
	if got := strings.TrimLeft(w.file("n.names.phext"), "\x01"); got != places {
		t.Errorf("the names are %q, want %q", got, places)
	}
	if got := strings.TrimLeft(w.file("n.phext"), "\x01"); got != "a\x17b\x17date!\x17another\x17zero" {
		t.Errorf("the phext is %q", got)
	}
	w.must(named(rewrite.Delete, "2026.2.13/1.1.1/1.1.1", ""))
	if a, date, another := w.byName("a.name"), w.byName("2026.2.13/1.1.1/1.1.1"), w.byName("2025.2.13/1.1.1/1.1.1"); a != "a" || date != "-" || another != "another" {
		t.Errorf("after a delete: %q, %q, %q", a, date, another)
	}
}

// TestThereIsNoRoomForNames until the scroll is deleted that the error names, or the name
// that a crash has left there without one.
func TestThereIsNoRoomForNames(t *testing.T) {
	const last = "999.999.999/999.999.999/999.999.999"
	for name, fill := range map[string]func(w *world){
		"a scroll": func(w *world) { w.must(step{rewrite.Update, last, "last"}) },
		"a name": func(w *world) {
			at := phext.Origin().LastWith(0)
			w.check(os.WriteFile(w.path("n.names.phext"), []byte(phext.Parse("").With(at, "stale.name").Render()), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			fill(w)
			before := w.file("n.names.phext")
			_, err := w.commit(named(rewrite.Update, "a.name", "a"))
			w.wantError(err, apierror.QuotaExceeded)
			if !strings.Contains(err.Error(), "delete "+last) {
				t.Error(err)
			}
			if w.file("n.names.phext") != before {
				t.Error("a name was written")
			}
			w.must(step{rewrite.Delete, last, ""}, named(rewrite.Update, "a.name", "a"))
			if got := w.byName("a.name"); got != "a" {
				t.Errorf("then the name is %q", got)
			}
		})
	}
}

// TestANameThatCannotBeWritten leaves no scroll without its name, and no other
// name's scroll.
func TestANameThatCannotBeWritten(t *testing.T) {
	broken := errors.New("the disk is broken")
	for _, test := range []struct {
		name  string
		store func(path string, now, next *cache.Version, at phext.Coordinate) error
	}{
		{"nothing is written", func(string, *cache.Version, *cache.Version, phext.Coordinate) error { return broken }},
		{"a part is written", func(path string, now, _ *cache.Version, _ phext.Coordinate) error {
			return errors.Join(broken, os.WriteFile(path, []byte(now.Text()+"\x17b.n"), 0o644))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.must(named(rewrite.Update, "a.name", "a"))
			before, names := w.file("n.phext"), w.file("n.names.phext")
			store := w.Writer.files.storeNames
			w.Writer.files.storeNames = test.store
			_, err := w.commit(named(rewrite.Update, "b.name", "b"))
			w.wantError(err, apierror.BackendFailed)
			w.Writer.files.storeNames = store
			w.want(before)
			if got := w.file("n.names.phext"); got != names {
				t.Errorf("the names are %q, want %q", got, names)
			}
			w.must(named(rewrite.Update, "b.name", "b"))
			if w.byName("a.name") != "a" || w.byName("b.name") != "b" {
				t.Errorf("a.name is %q, b.name is %q", w.byName("a.name"), w.byName("b.name"))
			}
		})
	}
}

// TestANameIsRefusedOnTheDisk: if the journal cannot be flushed, recovery might write it.
func TestANameIsRefusedOnTheDisk(t *testing.T) {
	w := newWorld(t)
	w.must(named(rewrite.Update, "a.name", "a"))
	broken := errors.New("the disk is broken")
	w.disk.set("names", broken)
	w.disk.set("sync", broken)
	_, err := w.commit(named(rewrite.Update, "b.name", "b"))
	w.wantError(err, apierror.NotKnown)
	w.disk.set("names", nil)
	w.disk.set("sync", nil)
	w.must(named(rewrite.Update, "b.name", "b"))
	if w.byName("a.name") != "a" || w.byName("b.name") != "b" {
		t.Errorf("a.name is %q, b.name is %q", w.byName("a.name"), w.byName("b.name"))
	}
}

// TestAScrollThatFailsTakesItsNameBack has SQ fail a write by a new name.
func TestAScrollThatFailsTakesItsNameBack(t *testing.T) {
	w := newWorld(t)
	w.during(hangUp, func() {
		_, err := w.commit(named(rewrite.Update, "a.name", "a"))
		w.wantError(err, apierror.BackendFailed)
	})
	w.want(start)
	if names := w.file("n.names.phext"); strings.Contains(names, "a.name") {
		t.Errorf("the names are %q", names)
	}
	w.must(named(rewrite.Update, "b.name", "b"))
	if w.byName("a.name") != "-" || w.byName("b.name") != "b" {
		t.Errorf("a.name is %q, b.name is %q", w.byName("a.name"), w.byName("b.name"))
	}
}

// TestNamesAcrossACrash ends sqgate at each operation on the disk, while a name
// comes and while one goes. A name has its own text or none, never another's.
func TestNamesAcrossACrash(t *testing.T) {
	for _, test := range []struct {
		step step
		name string
		may  []string
	}{
		{named(rewrite.Update, "c.name", "c"), "c.name", []string{"-", "c"}},
		{named(rewrite.Delete, "b.name", ""), "b.name", []string{"b", "-"}},
	} {
		for crash := 1; ; crash++ {
			w := newWorld(t)
			w.must(named(rewrite.Update, "a.name", "a"), named(rewrite.Update, "b.name", "b"))
			w.disk.mu.Lock()
			w.disk.calls, w.disk.crash = 0, crash
			w.disk.mu.Unlock()
			done := func() (done bool) {
				defer func() {
					if r := recover(); r != nil && r != (errCrash{}) {
						panic(r)
					}
				}()
				w.must(test.step)
				return true
			}()
			if done {
				break
			}
			w.restart()
			if got := w.byName(test.name); got != test.may[0] && got != test.may[1] {
				t.Errorf("%s, crash at operation %d: %q", test.step.op, crash, got)
			}
			w.must(named(rewrite.Update, "d.name", "d"))
			if w.byName("a.name") != "a" || w.byName("d.name") != "d" {
				t.Errorf("%s, crash at operation %d: a.name is %q, d.name is %q", test.step.op, crash, w.byName("a.name"), w.byName("d.name"))
			}
		}
	}
}

// TestAStaleNameIsRemoved: a name without a scroll, as a crash leaves it, must not
// become that of a scroll that is written by its number.
func TestAStaleNameIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.must(named(rewrite.Update, "a.name", "a"))
	w.check(os.WriteFile(w.path("n.phext"), []byte(start), 0o644)) // the scroll is gone, the name is there
	const at = "999.1.1/1.1.1/1.1.1"
	w.must(step{rewrite.Update, at, "another's"})
	if got := w.byName("a.name"); got != "-" {
		t.Errorf("a.name is %q", got)
	}
	w.must(named(rewrite.Update, "a.name", "new"))
	if got := w.byName("a.name"); got != "new" {
		t.Errorf("a.name is %q", got)
	}
}

// TestTheJournalHasTheName of a scroll, whether it was written by that or by its number.
func TestTheJournalHasTheName(t *testing.T) {
	w := newWorld(t)
	const its = "999.1.1/1.1.1/1.1.1"
	w.must(named(rewrite.Update, "a.name", "a"), step{rewrite.Insert, its, "b"}, update(2, "without"), step{rewrite.Update, its, ""},
		step{rewrite.Update, its, "again"}, named(rewrite.Update, "b.name", "b"))
	j, err := w.Dirs.JournalOf(w.Dirs.Of(w.tenant.DataDir))
	w.check(err)
	events, err := j.History(journal.Query{File: "n.phext"})
	w.check(err)
	var names []string
	for _, e := range events[len(events)-6:] {
		names = append(names, e.Note)
	}
	if want := []string{"a.name", "a.name", "", "a.name", "", "b.name"}; !slices.Equal(names, want) {
		t.Errorf("the journal has the names %q, want %q", names, want)
	}
}

// TestANameKeepsNothingElseInMemory: the name that is kept is no part of the request.
func TestANameKeepsNothingElseInMemory(t *testing.T) {
	w := newWorld(t)
	for name, r := range map[string]Request{
		"a.name": w.mutate(rewrite.Update, "n", "a.name", "a"), "b.name": w.batch(op("update", "b.name", "b")),
	} {
		sent := r.Call.Name
		if r.Call.Batch != nil {
			sent = r.Call.Batch[0].Name
		}
		_, err := w.Commit(t.Context(), r)
		w.check(err)
		v, err := w.Dirs.Of(w.tenant.DataDir).RecoveredView(t.Context(), w.mutate(rewrite.Update, "n", name, "x").Call)
		w.check(err)
		at, _ := v.Names.Find(name, nil)
		if kept, _ := v.Names.Phext.Select(at); kept != name || unsafe.StringData(kept) == unsafe.StringData(sent) {
			t.Errorf("%s is kept as %q, which is a part of the request", name, kept)
		}
	}
}
