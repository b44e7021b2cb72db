package history

import (
	"os"
	"path/filepath"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/journal"
)

// TestReplacedFilesAreNoCrash: after a power cut, recovery brings back a file
// that is gone, and puts right one that is not the last. Neither is wanted where
// the files were replaced on purpose.
func TestReplacedFilesAreNoCrash(t *testing.T) {
	const last = "text 1\x17text 2"
	for _, told := range []bool{true, false} {
		for name, replaced := range map[string]string{"deleted": "-", "an older state": "text 1"} {
			t.Run(name, func(t *testing.T) {
				got := afterAPowerCut(t, replaced, told)
				want := replaced
				if !told {
					want = last // or this test would show nothing
				}
				if got != want {
					t.Errorf("history was told: %v; after a power cut the file is %q, want %q", told, got, want)
				}
			})
		}
	}
}

// afterAPowerCut writes two scrolls, has somebody replace the file, or remove it
// if replaced is "-", and says what recovery makes of that.
func afterAPowerCut(t *testing.T, replaced string, told bool) string {
	t.Helper()
	w := newWorld(t)
	w.update("notes.phext", 1, "text 1")
	w.update("notes.phext", 2, "text 2")
	w.check(os.Remove(w.path("notes.phext")))
	if replaced != "-" {
		w.check(os.WriteFile(w.path("notes.phext"), []byte(replaced), 0o600))
	}
	if told {
		w.check(w.FilesReplaced(w.tenant, []string{"notes.phext", "unknown.phext"}))
	}
	w.check(w.set.Close())

	set, err := journal.New(w.config("after the power cut"))
	w.check(err)
	j, err := set.Of(fsutil.Resolve(filepath.Join(w.root, "data")))
	w.check(err)
	_, err = j.Recover(t.Context())
	w.check(err)
	w.check(set.Close())
	return w.file("notes.phext")
}

// TestReplacedFilesAreInTheHistory, those that nobody knew are not.
func TestReplacedFilesAreInTheHistory(t *testing.T) {
	w := newWorld(t)
	w.update("notes.phext", 1, "text 1")
	w.check(os.WriteFile(w.path("notes.phext"), []byte("another's"), 0o600))
	w.check(os.WriteFile(w.path("unknown.phext"), []byte("another's"), 0o600))
	before := w.syncs.Load()
	w.check(w.FilesReplaced(w.tenant, []string{"notes.phext", "unknown.phext"}))
	if w.syncs.Load() == before {
		t.Error("a power cut would lose that they were replaced")
	}
	if got := w.events(nil, ""); got != "update notes, edited notes" {
		t.Error(got)
	}
}
