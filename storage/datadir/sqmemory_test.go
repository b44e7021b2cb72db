package datadir

import (
	"os"
	"path/filepath"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
)

func mutation(file string, at phext.Coordinate, text string) journal.Mutation {
	return journal.Mutation{File: file, Op: journal.Update, At: at, Text: text}
}

func once(v View) func() (journal.State, error) {
	return func() (journal.State, error) { return StateOf(v.Phext), nil }
}

// TestCheckForSQ goes with one file through the states that it can be in.
func TestCheckForSQ(t *testing.T) {
	w := newWorld(t)
	path := w.path("n.phext")
	want := func(when string, wantMissing, wantReload bool) {
		t.Helper()
		for _, which := range []string{"first", "second"} { // until SQ has loaded it, each has it loaded
			id, reload, err := w.dir.CheckForSQ(path)
			if id.Exists() == wantMissing || reload != wantReload || err != nil {
				t.Errorf("%s, %s: %+v, reload %v, %v", when, which, id, reload, err)
			}
			if which == "second" && reload {
				w.dir.NoteSeen(path, id, false)
			}
		}
	}
	refused := func(when string) {
		t.Helper()
		_, _, err := w.dir.CheckForSQ(path)
		w.wantError(err, apierror.BackendFailed, "the file of this phext")
	}
	want("no file", true, false)
	w.put("n.phext", "text")
	want("a new one", false, true)
	want("the same again", false, false)
	w.put("n.phext", "other")
	want("changed", false, true)
	w.put("n.phext", "caf\xe9")
	refused("not UTF-8")
	refused("not UTF-8, still")
	w.put("n.phext", "mine")
	id, err := fsutil.Identify(path)
	w.check(err)
	if w.dir.SeenBySQ(path, id) {
		t.Error("SQ has not seen this")
	}
	w.dir.NoteSeen(path, id, false)
	if !w.dir.SeenBySQ(path, id) {
		t.Error("SQ has written this")
	}
	want("as SQ has left it", false, false)
	w.dir.NoteSeen(path, id, true)
	want("with delimiters, which SQ does not take apart", false, true)
	w.check(os.Remove(path))
	want("removed", true, false)
	if w.dir.SeenBySQ(path, id) {
		t.Error("what was removed is still known")
	}
	w.put("n.phext", "mine")
	want("made again", false, true)
	w.check(os.Truncate(path, cache.Largest+1))
	refused("SQ would cut it off")
	w.check(os.Remove(path))
	w.check(os.Mkdir(path, 0o700))
	refused("a directory")
}

// TestHasLoaded knows what a child has in memory only while nobody else may
// have it read something.
func TestHasLoaded(t *testing.T) {
	w := newWorld(t)
	other := w.Of(filepath.Join(w.root, "other"))
	if w.dir.HasLoaded(1, "a") {
		t.Error("before anything was loaded")
	}
	w.dir.NoteLoaded(1, "a")
	if !w.dir.HasLoaded(1, "a") || w.dir.HasLoaded(1, "b") || w.dir.HasLoaded(2, "a") || other.HasLoaded(1, "a") {
		t.Error("another phext, another child or another directory counts as loaded, or the right one does not")
	}
	w.dir.NoteLoaded(1, "b")
	if w.dir.HasLoaded(1, "a") || !w.dir.HasLoaded(1, "b") {
		t.Error("SQ keeps one phext")
	}
	other.NoteLoading()
	if !w.dir.HasLoaded(1, "b") {
		t.Error("another directory's child has read something")
	}
	w.dir.NoteLoading()
	if w.dir.HasLoaded(1, "b") {
		t.Error("somebody had it read something")
	}
}

func TestCheckWritable(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "text")
	w.check(CheckWritable(w.path("n.phext"), true))
	w.check(CheckWritable(w.path("new.phext"), false))
	w.check(CheckWritable(filepath.Join(w.root, "nowhere", "new.phext"), false)) // it is made with the child
	if os.Geteuid() == 0 {
		return // root may write everything
	}
	w.check(os.Chmod(w.path("n.phext"), 0o400))
	w.wantError(CheckWritable(w.path("n.phext"), true), apierror.BackendFailed, "cannot be written")
	w.check(os.Chmod(w.dir.Path, 0o500))
	w.wantError(CheckWritable(w.path("new.phext"), false), apierror.BackendFailed, "cannot be written")
	w.check(os.Chmod(w.dir.Path, 0o700))
}
