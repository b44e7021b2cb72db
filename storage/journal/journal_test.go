package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
)

func TestAStateOfEachMoment(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.put("notes.phext", text("before"))
	start := w.now
	var want []State
	for i := range 20 {
		w.now = w.now.Add(time.Second)
		w.mutate(update("notes.phext", uint32(i%5+1), fmt.Sprint("text ", i)))
		want = append(want, w.read("notes.phext"))
	}
	for _, reopened := range []bool{false, true} {
		if reopened {
			w.reopen()
		}
		for i, s := range want {
			got, err := w.j.At("notes.phext", start.Add(time.Duration(i+1)*time.Second+time.Millisecond))
			if err != nil || got != s {
				t.Errorf("after mutation %d: %q, %v, want %q", i, got.Text, err, s.Text)
			}
		}
		if got, err := w.j.At("notes.phext", start); err != nil || got != text("before") {
			t.Errorf("before all: %q, %v", got.Text, err)
		}
	}
}

func TestHistoryHasWhatHappened(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "one"))
	w.must(w.begin(update("a.phext", 2, "refused")).Abort())
	w.mutate(Mutation{File: "b.phext", Op: Insert, At: at(1), Text: "two", Note: "why"})
	w.must(w.j.RecordEdit("a.phext", text("by hand"), w.put("a.phext", text("by hand"))))
	w.begin(Mutation{File: "b.phext", Op: Remove})
	w.reopen()
	events, err := w.j.History(Query{})
	w.must(err)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprint(e.File, " ", e.Op, " ", e.Bytes, " ", e.Note))
	}
	want := []string{"a.phext update 3 ", "b.phext insert 3 why", "a.phext edited 7 "}
	if !slices.Equal(got, want) {
		t.Errorf("history %q", got)
	}
	only, err := w.j.History(Query{File: "b.phext"})
	if err != nil || len(only) != 1 || only[0].Op != "insert" || only[0].At != at(1) {
		t.Errorf("history of one: %v, %v", only, err)
	}
}

func TestFilesOfAMoment(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.put("old.phext", text("x"))
	w.put(".sqgate-1", text("half"))
	w.put("image.png", text("x"))
	before := w.now
	w.now = w.now.Add(time.Hour)
	w.mutate(update("new.phext", 1, "x"))
	between := w.now
	w.now = w.now.Add(time.Hour)
	w.mutate(Mutation{File: "old.phext", Op: Remove})
	for moment, want := range map[time.Time][]string{
		before:                   {"old.phext"},
		between.Add(time.Minute): {"new.phext", "old.phext"},
		w.now.Add(time.Minute):   {"new.phext"},
	} {
		if got, err := w.j.FilesAt(w.data, moment); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %v, %v, want %v", moment, got, err, want)
		}
	}
}

func TestLeftTellsAnEditFromOutside(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	if _, ok := w.j.LastSeen("a.phext"); ok {
		t.Error("known before anything happened")
	}
	p := w.begin(update("a.phext", 1, "one"))
	if _, ok := w.j.LastSeen("a.phext"); ok {
		t.Error("known while a mutation is under way")
	}
	id := w.put("a.phext", text("one"))
	w.must(p.Done(id))
	if got, ok := w.j.LastSeen("a.phext"); !ok || got != id {
		t.Errorf("left %v, %v, want %v", got, ok, id)
	}
	w.must(w.begin(update("a.phext", 1, "two")).Abort())
	if got, ok := w.j.LastSeen("a.phext"); !ok || got != id {
		t.Errorf("after an abort: %v, %v", got, ok)
	}
	id = w.put("a.phext", text("by hand"))
	w.must(w.j.RecordEdit("a.phext", text("by hand"), id))
	w.reopen()
	if got, ok := w.j.LastSeen("a.phext"); !ok || got != id {
		t.Errorf("after an edit and a restart: %v, %v", got, ok)
	}
}

func TestACheckpointIsAskedForOnce(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	asked := 0
	before := func() (State, error) { asked++; return State{}, nil }
	for i, want := range []int{1, 1, 2} { // the second never ends, so the third needs a new checkpoint
		p, err := w.j.Begin(update("a.phext", 1, fmt.Sprint(i)), before)
		w.must(err)
		if i == 0 {
			w.must(p.Done(w.put("a.phext", text("0"))))
		}
		if asked != want {
			t.Errorf("mutation %d: asked %d times, want %d", i, asked, want)
		}
	}
	failed := errors.New("cannot read")
	_, err := w.j.Begin(update("b.phext", 1, "x"), func() (State, error) { return State{}, failed })
	if !errors.Is(err, failed) {
		t.Errorf("begun without a checkpoint: %v", err)
	}
}

func TestWhatCannotBeJournalled(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	for _, m := range []Mutation{{Op: Update}, {File: "../a.phext", Op: Update}, {File: "..", Op: Update}, {File: "a.phext"}, {File: "a.phext", Op: 9}} {
		if _, err := w.j.Begin(m, nil); err == nil {
			t.Errorf("%+v was begun", m)
		}
	}
	p := w.begin(update("a.phext", 1, "x"))
	w.must(p.Abort())
	if err := p.Done(w.put("a.phext", text("x"))); !errors.Is(err, ErrFinished) {
		t.Errorf("done after an abort: %v", err)
	}
	w.must(w.set.Close())
	if _, err := w.j.Begin(update("a.phext", 1, "x"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("begun after Close: %v", err)
	}
}

func TestOneJournalForEachDirectory(t *testing.T) {
	var log strings.Builder
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }))
	again, err := w.set.Of(w.data + "/../will/")
	if err != nil || again != w.j {
		t.Errorf("another journal for the same directory: %v", err)
	}
	if dirs, err := w.set.Dirs(); err != nil || len(dirs) != 0 {
		t.Errorf("journals that nobody used: %v, %v", dirs, err)
	}
	w.mutate(update("a.phext", 1, "x"))
	if dirs, err := w.set.Dirs(); err != nil || !slices.Equal(dirs, []string{w.data}) {
		t.Errorf("journals: %v, %v", dirs, err)
	}
	unreadable := filepath.Join(w.set.cfg.Dir, "unreadable")
	w.must(os.MkdirAll(filepath.Join(unreadable, pathFile), 0o700))
	if dirs, err := w.set.Dirs(); err != nil || !slices.Equal(dirs, []string{w.data}) || !strings.Contains(log.String(), unreadable) {
		t.Errorf("journals, one of which cannot be read: %v, %v", dirs, err)
	}
}

func TestRestHarmsNothing(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	p := w.begin(update("a.phext", 1, "x"))
	w.must(w.j.Suspend())
	w.must(p.Done(w.put("a.phext", text("x"))))
	w.must(w.j.Suspend())
	w.must(p.Sync())
	w.must(w.j.Suspend())
	if got, err := w.j.At("a.phext", w.now.Add(time.Hour)); err != nil || got != text("x") {
		t.Errorf("after rests: %q, %v", got.Text, err)
	}
}

func TestPolicies(t *testing.T) {
	for _, p := range []Policy{Off, Batch, Always} {
		if got, err := ParsePolicy(p.String()); err != nil || got != p {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	if _, err := ParsePolicy("sometimes"); err == nil {
		t.Error("sometimes is a policy")
	}
}

// TestWhatACallerIsToldOfAMomentThatIsGone expects a status and a sentence.
func TestWhatACallerIsToldOfAMomentThatIsGone(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "x"))
	moment := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	_, of := w.j.At("a.phext", moment)
	_, all := w.j.FilesAt(w.data, moment)
	for message, err := range map[string]error{
		"a.phext at that moment: 2001-02-03T04:05:06Z is further back than the journal goes":   of,
		"the files at that moment: 2001-02-03T04:05:06Z is further back than the journal goes": all,
	} {
		if e := apierror.From(err); e == nil || !errors.Is(err, ErrBeyondHistory) || e.Kind != apierror.NotFound || e.Message != message || err.Error() != message {
			t.Errorf("%v: %+v", err, e)
		}
	}
}
