package history

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

// byHand writes a file as somebody else does.
func (w *world) byHand(file, text string) {
	w.Helper()
	w.check(os.WriteFile(w.path(file), []byte(text), 0o600))
}

// commit is update by a writer, which looks first whether somebody else has changed the file.
func (w *world) commit(file string, scroll int, text string) {
	w.Helper()
	j, err := w.journalOf(w.tenant)
	w.check(err)
	before, err := w.Dirs.NewestFile(w.path(file))
	w.check(err)
	w.check(datadir.RecordEdit(j, file, before))
	w.update(file, scroll, text)
}

// backupWhile has something happen before the first byte of a backup is sent.
func (w *world) backupWhile(f func()) ([]byte, error) {
	w.Helper()
	var b bytes.Buffer
	err := w.Backup(w.Context(), w.tenant, &writes{&b, f})
	return b.Bytes(), err
}

// restart restarts sqgate a day later, so that the journal begins a segment. Then another
// phext is written.
func (w *world) restart() {
	w.Helper()
	w.now = w.now.Add(25 * time.Hour)
	w.update("other.phext", 1, "else")
	w.check(w.set.Close())
	var err error
	w.set, err = journal.New(w.config("this boot"))
	w.check(err)
	w.Dirs.Journal = w.set
}

// TestABackupWhileItsDiskIsUnmounted is whole: the directory is held. The journal knows
// nothing of these phexts.
func TestABackupWhileItsDiskIsUnmounted(t *testing.T) {
	w := newWorld(t)
	w.byHand("a.phext", "one")
	w.byHand("b.phext", "two")
	w.byHand("large.phext", strings.Repeat("x", 2*journal.Small))
	want := w.entries(w.backup())
	b, err := w.backupWhile(func() {
		dir := filepath.Dir(w.path("x"))
		w.check(os.Rename(dir, dir+" elsewhere"))
		w.check(os.Mkdir(dir, 0o700))
	})
	w.check(err)
	if got := w.entries(b); got != want {
		t.Errorf("the backup holds %.80q, want %.80q", got, want)
	}
}

// TestABackupOfAPhextThatVanishes is not whole, or has what the journal knows of it. Restored,
// an empty one would empty a good one.
func TestABackupOfAPhextThatVanishes(t *testing.T) {
	for name, known := range map[string]bool{"known": true, "unknown": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.byHand("a.phext", "one")
			w.byHand("b.phext", "two")
			if known {
				w.update("b.phext", 1, "two")
			}
			b, err := w.backupWhile(func() { w.check(os.Remove(w.path("b.phext"))) })
			if known {
				w.check(err)
				if got := w.entries(b); got != "a.phext=one b.phext=two" {
					t.Errorf("the backup holds %q", got)
				}
				return
			}
			if err == nil {
				t.Errorf("the backup holds %q", w.entries(b))
			}
			w.byHand("b.phext", "two")
			before := w.files()
			if _, err := w.restoreBackup(b, Target{}); err == nil {
				t.Error("it was restored")
			}
			w.wantFiles(before)
		})
	}
}

// TestABackupHasAnEditThatAClientOverwrites, also if it was made after a segment of the
// journal and a restart.
func TestABackupHasAnEditThatAClientOverwrites(t *testing.T) {
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.byHand("a.phext", "first")
			w.now = time.Now().Add(-26 * time.Hour)
			w.update("n.phext", 1, "one")
			if restart {
				w.restart()
			}
			w.byHand("n.phext", "by hand")
			b, err := w.backupWhile(func() {
				w.now = time.Now().Add(time.Minute)
				w.commit("n.phext", 1, "after")
			})
			w.check(err)
			if got := w.entries(b); !strings.HasPrefix(got, "a.phext=first n.phext=by hand") {
				t.Errorf("the backup holds %q", got)
			}
			if got := w.events(ptr("n"), ""); got != "update n, edited n, update n" {
				t.Errorf("the history has %q", got)
			}
		})
	}
}

// TestAnEditIsInTheHistoryAfterARestart, when the next write comes.
func TestAnEditIsInTheHistoryAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.now = time.Now().Add(-72 * time.Hour)
	w.update("n.phext", 1, "one")
	w.restart()
	w.byHand("n.phext", "by hand")
	w.commit("n.phext", 1, "after")
	events, err := w.list(w.tenant, Selection{Phext: ptr("n")})
	w.check(err)
	if len(events) != 3 || events[1].Op != "edited" {
		t.Fatalf("the history has %+v", events)
	}
	w.restore(Target{At: events[1].Time, Phext: ptr("n")})
	if got := w.file("n.phext"); got != "by hand" {
		t.Errorf("restored to %q", got)
	}
}

// TestRestoreToAMomentAfterAnArchiveCameBack: a phext that was there then is not removed.
func TestRestoreToAMomentAfterAnArchiveCameBack(t *testing.T) {
	for name, told := range map[string]bool{"that the journal knows of": true, "of which nobody told the journal": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.now = time.Now().Add(-72 * time.Hour)
			w.update("n.phext", 1, "one")
			w.check(os.Remove(w.path("n.phext")))
			w.check(w.FilesReplaced(w.tenant, w.tenant.DataDir, []string{"n.phext"}, "", "deleted"))
			w.restart()
			w.byHand("n.phext", "one")
			then := time.Now()
			if told {
				w.check(w.FilesReplaced(w.tenant, w.tenant.DataDir, []string{"n.phext"}, "", "came back"))
				then = w.moment()
			}
			done := w.restore(Target{At: then})
			if got := w.file("n.phext"); got != "one" {
				t.Errorf("the phext is %q after %+v", got, done)
			}
			done = w.restore(Target{At: then, Phext: ptr("n")})
			if got := w.file("n.phext"); got != "one" || done[0].Changed {
				t.Errorf("the phext alone is %q after %+v", got, done)
			}
		})
	}
}

// TestARestoreDoesNotTakeAMissingDiskForNoPhexts not even to say what it would change.
func TestARestoreDoesNotTakeAMissingDiskForNoPhexts(t *testing.T) {
	w := newWorld(t)
	w.byHand("n.phext", "one")
	w.update("other.phext", 1, "else")
	dir := filepath.Dir(w.path("x"))
	r, release, err := w.begin(t.Context(), w.tenant, Target{At: time.Now(), DryRun: true}, "")
	w.check(err)
	defer release()
	w.check(os.Rename(dir, dir+" elsewhere"))
	w.check(os.Mkdir(dir, 0o700))
	if done, err := r.restore(t.Context()); err == nil {
		t.Errorf("%+v", done)
	}
	w.check(os.Remove(dir))
	w.check(os.Rename(dir+" elsewhere", dir))
	done, err := r.restore(t.Context())
	w.check(err)
	for _, one := range done {
		if one.Changed {
			t.Errorf("%+v", one)
		}
	}
}

// TestFilesReplacedWhereTheDiskVanishes: what is in the directory that was held counts.
func TestFilesReplacedWhereTheDiskVanishes(t *testing.T) {
	w := newWorld(t)
	w.update("here.phext", 1, "one")
	w.update("removed.phext", 1, "one")
	dir := w.Dirs.Of(w.tenant.DataDir)
	at, release, err := dir.Hold()
	w.check(err)
	defer release()
	w.byHand("here.phext", "from an archive")
	w.check(os.Remove(w.path("removed.phext")))
	w.check(os.Rename(dir.Path, dir.Path+" elsewhere"))
	w.check(os.Mkdir(dir.Path, 0o700))
	if err := w.FilesReplaced(w.tenant, at, []string{"here.phext", "removed.phext"}, "", "replaced"); err == nil {
		t.Error("it was found out what a phext is that is not there")
	}
	if got := w.events(nil, ""); got != "update here, update removed, remove removed" {
		t.Errorf("the history has %q", got)
	}
}

// TestAnEarlierFileSystem puts back the phexts of a snapshot, with all their times: a restore
// to a moment behind that has what was written since. It is recovered first.
func TestAnEarlierFileSystem(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "in the snapshot")
	j, err := w.journalOf(w.tenant)
	w.check(err)
	id, err := fsutil.Identify(w.path("n.phext"))
	w.check(err)
	id.Ctime, id.Ino = id.Ctime+int64(time.Second/2), id.Ino+1 // a test cannot set the time of the file in the snapshot
	w.check(j.RecordEdit("n.phext", journal.State{Exists: true, Text: "written since"}, id))
	if _, err := w.Restore(t.Context(), w.tenant, Target{At: time.Now()}); apierror.From(err) == nil || apierror.From(err).Kind != apierror.Unavailable {
		t.Error(err)
	}
	w.restore(Target{At: time.Now()})
	w.wantFiles("n.phext=written since")
}
