package history

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "one")
	w.update("n.phext", 2, "two")
	w.update("other.phext", 1, "else")
	w.update(".phext", 1, "unnamed")
	for _, test := range []struct {
		phext      *string
		coordinate string
		want       string
	}{
		{nil, "", "update n, update n, update other, update "},
		{ptr("n"), "", "update n, update n"},
		{ptr("n"), coordinate(2), "update n"},
		{ptr("n"), coordinate(3), ""},
		{ptr(""), "", "update "},
	} {
		if got := w.events(test.phext, test.coordinate); got != test.want {
			t.Errorf("%v %s: %q, want %q", test.phext, test.coordinate, got, test.want)
		}
	}
	all, err := w.list(w.tenant, Selection{Phext: ptr("n"), Coordinate: coordinate(2)})
	w.check(err)
	if e := all[0]; e.At != at(2) || e.Bytes != 3 || e.Tenant != "will" || e.Key != "a key" || e.Time.IsZero() {
		t.Errorf("%+v", e)
	}
	for _, where := range []string{"", coordinate(1)} {
		_, err = w.list(w.tenant, Selection{Phext: ptr("none"), Coordinate: where})
		w.wantError(err, apierror.NotFound, `there is no phext "none"`)
	}
	_, err = w.list(w.tenant, Selection{Phext: ptr("../etc")})
	w.wantError(err, apierror.Forbidden, "phext name")
	_, err = w.list(w.tenant, Selection{Phext: ptr("n"), Coordinate: "1.1.1/1.1.1/1.1."})
	if e := apierror.From(err); e == nil || e.Status != 400 {
		t.Errorf("%v", err)
	}
}

// TestEventsByName are those of the writes that gave the name.
func TestEventsByName(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "one")
	j, err := w.journalOf(w.tenant)
	w.check(err)
	m := journal.Mutation{File: "n.phext", Op: journal.Update, At: at(2), Text: "two", Note: "a.name"}
	w.check(w.make(j, m, journal.State{Text: "one", Exists: true}))
	events, err := w.list(w.tenant, Selection{Phext: ptr("n"), Coordinate: "a.name"})
	w.check(err)
	if len(events) != 1 || events[0].At != at(2) {
		t.Errorf("%+v", events)
	}
}

func TestEventsInASharedDirectory(t *testing.T) {
	w := open(t, true)
	w.update("will.n.phext", 1, "mine")
	w.update("mary.n.phext", 1, "hers")
	if got := w.events(nil, ""); got != "update n" {
		t.Errorf("will sees %q", got)
	}
	w.tenant = w.mary
	if got := w.events(ptr("n"), ""); got != "update n" {
		t.Errorf("mary sees %q", got)
	}
}

// TestRestore makes files what they were at each moment of their history.
func TestRestore(t *testing.T) {
	w := newWorld(t)
	first := w.update("n.phext", 1, "one")
	second := w.update("n.phext", 2, "two")
	third := w.update("other.phext", 1, "else")
	last := "n.phext=one\x17two other.phext=else"
	w.wantFiles(last)

	if done := w.restore(Target{At: first, Phext: ptr("n")}); !slices.Equal(done, []Restored{{"n", 3, true, false, false}}) {
		t.Errorf("%+v", done)
	}
	w.wantFiles("n.phext=one other.phext=else")
	if done := w.restore(Target{At: second, Phext: ptr("n")}); !slices.Equal(done, []Restored{{"n", 7, true, false, false}}) {
		t.Errorf("%+v", done)
	}
	w.wantFiles(last)
	if done := w.restore(Target{At: second, Phext: ptr("n")}); !slices.Equal(done, []Restored{{"n", 7, false, false, false}}) {
		t.Errorf("the same again: %+v", done)
	}

	// All of the tenant's: what did not exist then is removed. It can be undone.
	done := w.restore(Target{At: first})
	slices.SortFunc(done, func(a, b Restored) int { return strings.Compare(a.Phext, b.Phext) })
	if !slices.Equal(done, []Restored{{"n", 3, true, false, false}, {"other", 0, true, false, true}}) {
		t.Errorf("%+v", done)
	}
	w.wantFiles("n.phext=one")
	w.restore(Target{At: third, Key: "the operator's"})
	w.wantFiles(last)
	events, err := w.list(w.tenant, Selection{Phext: ptr("other")})
	w.check(err)
	if e := events[len(events)-1]; e.Op != "replace" || e.Key != "the operator's" || e.Tenant != "will" || !strings.HasPrefix(e.Note, "restored to 20") {
		t.Errorf("%+v", e)
	}
}

// TestRestoreIsDurable: what was restored is as durable as a write.
func TestRestoreIsDurable(t *testing.T) {
	w := newWorld(t)
	first := w.update("n.phext", 1, "one")
	w.update("n.phext", 2, "two")
	w.restore(Target{At: first, Phext: ptr("n")})
	w.closeAsCut()
	w.check(os.WriteFile(w.path("n.phext"), nil, 0o600)) // the power cut has left this
	w.recoverAfterCut()
	w.wantFiles("n.phext=one")
}

// closeAsCut closes the journals, which do not note that.
func (w *world) closeAsCut() {
	w.Helper()
	w.check(w.set.Close())
	notes, err := filepath.Glob(filepath.Join(w.root, "journal", "*", "stopped"))
	w.check(err)
	for _, note := range notes {
		w.check(os.Remove(note))
	}
}

// recoverAfterCut recovers the directory, as a start after a power cut does.
func (w *world) recoverAfterCut() {
	w.Helper()
	set, err := journal.New(w.config("after the power cut"))
	w.check(err)
	j, err := set.Of(w.Dirs.Of(w.tenant.DataDir).Path)
	w.check(err)
	_, err = j.Recover(w.Context())
	w.check(err)
	w.check(set.Close())
}

// TestRestoreUnderAnotherName leaves the phext as it is, and takes its names along.
// TestAVolumeThatGoesAwayDuringARestore is unmounted at each moment at which the journal
// gets something. Nothing is restored into the mount point.
func TestAVolumeThatGoesAwayDuringARestore(t *testing.T) {
	for at, again := 1, true; again; at++ {
		w := newWorld(t)
		c := w.Dirs.Config
		c.MarkDir = filepath.Join(w.root, "directories")
		w.Service.Dirs = datadir.New(c)
		then := w.update("n.phext", 1, "one")
		w.update("n.phext", 1, "two")
		w.check(w.Dirs.Of(w.tenant.DataDir).CheckPresent())
		w.Dirs.Of(w.tenant.DataDir).MarkWritten(w.tenant.DataDir)
		calls := 0
		w.each = func() {
			if calls++; calls == at {
				w.check(os.Rename(w.tenant.DataDir, w.tenant.DataDir+".aside"))
				w.check(os.Mkdir(w.tenant.DataDir, 0o700))
			}
		}
		_, err := w.Restore(w.Context(), w.tenant, Target{Phext: ptr("n"), At: then})
		w.each = nil
		if again = calls >= at; !again {
			w.check(err)
			w.wantFiles("n.phext=one")
			break
		}
		w.wantFiles("")
		w.check(os.Remove(w.tenant.DataDir))
		w.check(os.Rename(w.tenant.DataDir+".aside", w.tenant.DataDir))
		w.check(w.Dirs.Of(w.tenant.DataDir).Recover(w.Context()))
		if got := w.files(); err == nil && got != "n.phext=one" || err != nil && got != "n.phext=two" {
			t.Errorf("moment %d: %v, and it holds %s", at, err, got)
		}
	}
}

func TestRestoreUnderAnotherName(t *testing.T) {
	w := newWorld(t)
	w.update("n.names.phext", 1, "a.name")
	first := w.update("n.phext", 1, "one")
	w.update("n.phext", 1, "changed")
	done := w.restore(Target{At: first, Phext: ptr("n"), To: ptr("copy")})
	if !slices.Equal(done, []Restored{{"copy", 3, true, true, false}, {"copy.names", 6, true, true, false}}) {
		t.Errorf("%+v", done)
	}
	w.wantFiles("copy.names.phext=a.name copy.phext=one n.names.phext=a.name n.phext=changed")
}

// TestACopyOfNothing is refused: the phext that has its name is not removed.
func TestACopyOfNothing(t *testing.T) {
	w := newWorld(t)
	before := w.update("x.phext", 1, "kept")
	w.update("x.names.phext", 1, "a.name")
	w.update("n.phext", 1, "one")
	w.untouched(func() {
		for _, dry := range []bool{true, false} {
			done, err := w.Restore(t.Context(), w.tenant, Target{At: before, Phext: ptr("n"), To: ptr("x"), DryRun: dry})
			w.wantError(err, apierror.NotFound, `there was no phext "n" then`)
			if len(done) > 0 {
				t.Errorf("%+v", done)
			}
		}
	})
	w.restore(Target{At: before, Phext: ptr("n")}) // in its place, it is removed
	w.wantFiles("x.names.phext=a.name x.phext=kept")
}

func TestRestoreInASharedDirectory(t *testing.T) {
	w := open(t, true)
	w.update("mary.n.phext", 1, "hers")
	first := w.update("will.n.phext", 1, "mine")
	w.update("mary.n.phext", 1, "changed too")
	w.update("will.n.phext", 1, "changed")
	w.restore(Target{At: first})
	w.wantFiles("mary.n.phext=changed too will.n.phext=mine")
}

// TestDryRun says what would be, and changes neither file nor history.
func TestDryRun(t *testing.T) {
	w := newWorld(t)
	first := w.update("n.phext", 1, "one")
	w.update("n.phext", 2, "two")
	w.update("other.phext", 1, "else")
	before := w.events(nil, "")
	w.untouched(func() {
		done := w.restore(Target{At: first, DryRun: true})
		slices.SortFunc(done, func(a, b Restored) int { return strings.Compare(a.Phext, b.Phext) })
		if !slices.Equal(done, []Restored{{"n", 3, true, false, false}, {"other", 0, true, false, true}}) {
			t.Errorf("%+v", done)
		}
		if done := w.restore(Target{At: first, Phext: ptr("n"), Coordinate: coordinate(2), DryRun: true}); len(done) != 1 || !done[0].Changed {
			t.Errorf("%+v", done)
		}
	})
	if after := w.events(nil, ""); after != before {
		t.Errorf("the history is now %s", after)
	}
}

// TestRestoreOneScroll into the phext as it is now.
func TestRestoreOneScroll(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "one")
	first := w.update("n.phext", 2, "two")
	w.update("n.phext", 1, "ONE")
	w.update("n.phext", 2, "TWO")
	w.update("n.phext", 3, "THREE")
	done := w.restore(Target{At: first, Phext: ptr("n"), Coordinate: coordinate(2)})
	if !slices.Equal(done, []Restored{{"n", int64(len("ONE\x17two\x17THREE")), true, false, false}}) {
		t.Errorf("%+v", done)
	}
	w.wantFiles("n.phext=ONE\x17two\x17THREE")
	w.restore(Target{At: first, Phext: ptr("n"), Coordinate: coordinate(3)})
	w.wantFiles("n.phext=ONE\x17two")

	for name, target := range map[string]Target{
		"of all phexts":      {At: first, Coordinate: coordinate(2)},
		"under another name": {At: first, Phext: ptr("n"), Coordinate: coordinate(2), To: ptr("copy")},
	} {
		w.untouched(func() {
			_, err := w.Restore(t.Context(), w.tenant, target)
			if !errors.Is(err, errScrollAlone) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestRestoreAScrollByName gives the scroll its name back, unless the
// coordinate that it had has become another's.
func TestRestoreAScrollByName(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(w *world)
		want   string // files; "" = it is refused
		err    error
	}{
		{"as it was", func(*world) {}, "n.names.phext=\x17a.name n.phext=one\x17two", nil},
		{"with another text", func(w *world) { w.update("n.phext", 2, "TWO") }, "n.names.phext=\x17a.name n.phext=one\x17two", nil},
		{"gone, with its name", func(w *world) { w.update("n.phext", 2, ""); w.update("n.names.phext", 2, "") },
			"n.names.phext=\x17a.name n.phext=one\x17two", nil},
		{"gone, without its name", func(w *world) { w.update("n.phext", 2, "") }, "n.names.phext=\x17a.name n.phext=one\x17two", nil},
		{"its coordinate is another scroll's", func(w *world) { w.update("n.names.phext", 2, "") }, "", errNameTaken},
		{"its coordinate has another name", func(w *world) { w.update("n.phext", 2, ""); w.update("n.names.phext", 2, "b.name") }, "", errNameTaken},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.update("n.phext", 1, "one")
			w.update("n.names.phext", 2, "a.name")
			then := w.update("n.phext", 2, "two")
			test.change(w)
			target := Target{At: then, Phext: ptr("n"), Coordinate: "a.name"}
			if test.err != nil {
				w.untouched(func() {
					if _, err := w.Restore(t.Context(), w.tenant, target); !errors.Is(err, test.err) {
						t.Errorf("%v", err)
					}
				})
				return
			}
			w.restore(target)
			w.wantFiles(test.want)
		})
	}
	w := newWorld(t)
	then := w.update("n.phext", 1, "one")
	_, err := w.Restore(t.Context(), w.tenant, Target{At: then, Phext: ptr("n"), Coordinate: "no.such.name"})
	w.wantError(err, apierror.NotFound, "no.such.name")
}

// TestRestoreRefuses before anything is changed.
func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t)
	now := w.update("n.phext", 1, "one")
	for name, target := range map[string]Target{
		"before the history":  {At: now.Add(-48 * time.Hour), Phext: ptr("n")},
		"no name of a phext":  {At: now, Phext: ptr("../n")},
		"nor to one":          {At: now, Phext: ptr("n"), To: ptr("../n")},
		"no coordinate":       {At: now, Phext: ptr("n"), Coordinate: "1.1."},
		"all, before history": {At: now.Add(-48 * time.Hour)},
	} {
		w.untouched(func() {
			if _, err := w.Restore(t.Context(), w.tenant, target); apierror.From(err) == nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Restore(gone, w.tenant, Target{At: now}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	unlock, err := w.Dirs.LockExclusive(t.Context(), w.tenant.DataDir)
	w.check(err) // none of them has kept the directory
	unlock()
}

// TestRestoreKeepsAnEdit by somebody else in the history before it is replaced.
func TestRestoreKeepsAnEdit(t *testing.T) {
	w := newWorld(t)
	first := w.update("n.phext", 1, "one")
	w.check(os.WriteFile(w.path("n.phext"), []byte("by another's hand"), 0o600))
	w.restore(Target{At: first, Phext: ptr("n")})
	w.wantFiles("n.phext=one")
	if got := w.events(ptr("n"), ""); got != "update n, edited n, replace n" {
		t.Fatal(got)
	}
	all, err := w.list(w.tenant, Selection{Phext: ptr("n")})
	w.check(err)
	w.restore(Target{At: all[1].Time, Phext: ptr("n")})
	w.wantFiles("n.phext=by another's hand")
}

// TestRestoreMayExceedTheQuota, since the operator asks for it.
func TestRestoreMayExceedTheQuota(t *testing.T) {
	w := newWorld(t)
	large := strings.Repeat("x", 1<<20)
	first := w.update("n.phext", 1, large)
	w.update("n.phext", 1, "small")
	w.update("other.phext", 1, large)
	w.restore(Target{At: first, Phext: ptr("n")})
	if got := w.file("n.phext"); got != large {
		t.Errorf("%d bytes", len(got))
	}
	w.tenant.MaxPhexts = 1
	w.restore(Target{At: first, Phext: ptr("n"), To: ptr("copy")})
	if got := w.file("copy.phext"); got != large {
		t.Errorf("of a phext more than there may be, %d bytes", len(got))
	}
}

// TestReadersSeeARestoreAtOnce, although they had the phext in memory.
func TestReadersSeeARestoreAtOnce(t *testing.T) {
	w := newWorld(t)
	first := w.update("n.phext", 1, "one")
	w.update("n.phext", 1, "two")
	v, err := w.Dirs.File(w.path("n.phext"))
	w.check(err)
	w.restore(Target{At: first, Phext: ptr("n")})
	if now, err := w.Dirs.File(w.path("n.phext")); err != nil || now.Text() != "one" || v.Text() != "two" {
		t.Errorf("%q, %v", now.Text(), err)
	}
	// SQ has not seen it: it has to read the file again.
	if id, reload, err := w.Dirs.Of(w.tenant.DataDir).CheckForSQ(w.path("n.phext")); !id.Exists() || !reload || err != nil {
		t.Errorf("%+v, reload %v, %v", id, reload, err)
	}
}

// TestEditsByHandInTheHistoryOfAScroll: they are of the whole phext, and so of each of
// its scrolls, and name none.
func TestEditsByHandInTheHistoryOfAScroll(t *testing.T) {
	w := newWorld(t)
	then := w.update("n.phext", 2, "two")
	w.check(os.WriteFile(w.path("n.phext"), []byte("by hand"), 0o600))
	w.restore(Target{At: then, Phext: ptr("n")})
	events, err := w.list(w.tenant, Selection{Phext: ptr("n"), Coordinate: coordinate(2)})
	w.check(err)
	if len(events) != 3 || events[1].Op != "edited" || events[1].At.Valid() {
		t.Errorf("%+v", events)
	}
	if got := w.events(ptr("n"), coordinate(1)); got != "edited n, replace n" {
		t.Errorf("%q", got)
	}
}

// TestRestoreOfWhatNeverWas is refused, and so is a moment that has not come. What was
// there once, and not then, is restored to that.
func TestRestoreOfWhatNeverWas(t *testing.T) {
	w := newWorld(t)
	before := w.update("other.phext", 1, "else")
	w.update("n.phext", 1, "one")
	w.check(os.Remove(w.path("n.phext")))
	done, err := w.Restore(t.Context(), w.tenant, Target{At: before, Phext: ptr("n")})
	if err != nil || len(done) != 1 {
		t.Errorf("%+v %v", done, err)
	}
	for _, where := range []string{"", coordinate(1)} {
		_, err = w.Restore(t.Context(), w.tenant, Target{At: before, Phext: ptr("none"), Coordinate: where})
		w.wantError(err, apierror.NotFound, `there is no phext "none"`)
	}
	_, err = w.Restore(t.Context(), w.tenant, Target{At: time.Now().Add(time.Hour), Phext: ptr("n")})
	w.wantError(err, apierror.BadRequest, "in the future")
}
