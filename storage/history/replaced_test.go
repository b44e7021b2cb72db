package history

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
		w.check(w.FilesReplaced(w.tenant, w.tenant.DataDir, []string{"notes.phext", "unknown.phext"}, "", ""))
	}
	w.closeAsCut()

	set, err := journal.New(w.config("after the power cut"))
	w.check(err)
	j, err := set.Of(fsutil.Resolve(filepath.Join(w.root, "data")))
	w.check(err)
	_, err = j.Recover(t.Context())
	w.check(err)
	w.check(set.Close())
	return w.file("notes.phext")
}

// TestReplacedFilesAreInTheHistory as what was done, and by whom. Those that nobody
// knew are not.
func TestReplacedFilesAreInTheHistory(t *testing.T) {
	w := newWorld(t)
	then := w.update("notes.phext", 1, "text 1")
	files := []string{"notes.phext", "unknown.phext"}
	w.check(os.Remove(w.path("notes.phext")))
	before := w.syncs.Load()
	w.check(w.FilesReplaced(w.tenant, w.tenant.DataDir, files, "a key", "deleted"))
	if w.syncs.Load() == before {
		t.Error("a power cut would lose that they were replaced")
	}
	for _, file := range files {
		w.check(os.WriteFile(w.path(file), []byte("from an archive"), 0o600))
	}
	w.check(w.FilesReplaced(w.tenant, w.tenant.DataDir, files, "a key", "restored"))
	w.check(w.FilesReplaced(w.tenant, w.tenant.DataDir, files, "a key", "nothing"))
	page, err := w.Events(w.Context(), w.tenant, Selection{Limit: MostEvents})
	w.check(err)
	defer page.Release()
	var got []string
	for _, e := range page.Events {
		got = append(got, fmt.Sprintf("%s %s %d %s %s %s", e.Op, e.File, e.Bytes, e.Tenant, e.Key, e.Note))
	}
	want := "update notes 6 will a key |remove notes 0 will a key deleted|replace notes 15 will a key restored"
	if strings.Join(got, "|") != want {
		t.Errorf("%q", got)
	}
	w.restore(Target{At: then})
	if got := w.file("notes.phext"); got != "text 1" {
		t.Errorf("restored to the moment before: %q", got)
	}
}

// TestADirectoryThatIsMadeAgain, since it was gone, has the id of its journal, so that it is never
// taken for another tenant's.
func TestADirectoryThatIsMadeAgain(t *testing.T) {
	for name, makeIt := range map[string]func(w *world, then time.Time){
		"by a restore": func(w *world, then time.Time) { w.restore(Target{At: then}) },
		"by an archive": func(w *world, _ time.Time) {
			w.check(os.Mkdir(w.tenant.DataDir, 0o700))
			w.check(os.WriteFile(w.path("n.phext"), []byte("one"), 0o600))
			w.check(w.FilesReplaced(w.tenant, w.tenant.DataDir, []string{"n.phext"}, "", "restored"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if unix.Setxattr(w.tenant.DataDir, "user.sqgate.test", nil, 0) != nil {
				t.Skip("the file system has no extended attributes")
			}
			then := w.update("n.phext", 1, "one")
			w.check(os.Remove(w.path("n.phext")))
			w.check(w.FilesReplaced(w.tenant, w.tenant.DataDir, []string{"n.phext"}, "", "deleted"))
			w.check(os.Remove(w.tenant.DataDir))
			makeIt(w, then)
			w.wantFiles("n.phext=one")
			j, err := w.journalOf(w.tenant)
			w.check(err)
			if !j.HasWritten(w.tenant.DataDir) {
				t.Error("it has no id of its journal")
			}
		})
	}
}
