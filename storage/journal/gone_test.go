package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAJournalThatIsTakenAway removes the journal, or moves it away, while it is
// in use. What is acknowledged after that survives a power cut.
func TestAJournalThatIsTakenAway(t *testing.T) {
	for name, take := range map[string]func(w *world) error{
		"removed":           func(w *world) error { return os.RemoveAll(w.cfg.Dir) },
		"moved away":        func(w *world) error { return os.Rename(w.cfg.Dir, w.cfg.Dir+".old") },
		"a segment removed": func(w *world) error { return os.Remove(w.newest()) },
		"a copy in its place": func(w *world) error {
			return errors.Join(os.Rename(w.cfg.Dir, w.cfg.Dir+".old"), os.CopyFS(w.cfg.Dir, os.DirFS(w.cfg.Dir+".old")))
		},
	} {
		for _, policy := range []Policy{Off, Batch, Always} {
			t.Run(name+", "+policy.String(), func(t *testing.T) {
				w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync = policy }))
				w.put("a.phext", text("there before"))
				w.mutate(update("a.phext", 2, "before"))
				w.must(take(w))
				w.mutate(update("a.phext", 2, "after"))
				w.mutate(update("b.phext", 1, "new"))
				w.mutate(update("a.phext", 3, "last"))
				a, b := w.read("a.phext"), w.read("b.phext")
				w.put("a.phext", text("there be"))
				w.put("b.phext", text(""))
				w.cfg.BootID = "boot-2"
				(&model{world: w}).reopenAfterCut()
				w.recover()
				if w.read("a.phext") != a || w.read("b.phext") != b {
					t.Errorf("%q and %q", w.read("a.phext").Text, w.read("b.phext").Text)
				}
			})
		}
	}
}

// TestAJournalThatComesBack is of long ago, and rolls nothing back that was written with another
// one meanwhile: the state directory was away while sqgate ran, or at a start.
func TestAJournalThatComesBack(t *testing.T) {
	for _, how := range []string{"in use", "in use, and an older one was below", "stopped", "killed"} {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, then stopped %v", how, clean), func(t *testing.T) {
				w := closing(t, newWorld(t, t.TempDir(), nil))
				if unix.Setxattr(w.data, idAttribute, nil, 0) != nil {
					t.Skip("the file system has no extended attributes")
				}
				away, below := w.cfg.Dir+".away", w.cfg.Dir+".below"
				w.recoverFor("will")
				w.mutate(update("a.phext", 1, "long ago"))
				if how == "in use, and an older one was below" {
					w.must(os.CopyFS(below, os.DirFS(w.cfg.Dir)))
				}
				w.mutate(update("a.phext", 1, "before, and longer"))
				if how == "stopped" {
					w.must(w.set.Close())
				}
				w.must(os.Rename(w.cfg.Dir, away))
				if err := os.Rename(below, w.cfg.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
				if how == "stopped" || how == "killed" {
					w.open()
					w.recoverFor("will")
				}
				w.mutate(update("a.phext", 1, "before"))
				w.mutate(update("b.phext", 1, "new"))
				if clean {
					w.must(w.set.Close())
				}
				w.must(os.RemoveAll(w.cfg.Dir))
				w.must(os.Rename(away, w.cfg.Dir))
				w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
				w.open()
				w.recoverFor("will")
				if a, b := w.read("a.phext").Text, w.read("b.phext").Text; a != "before" || b != "new" {
					t.Errorf("%q and %q", a, b)
				}
				w.mutate(update("a.phext", 1, "again"))
				want := w.read("a.phext")
				w.put("a.phext", text("aga")) // a cut of power
				w.cfg.BootID = "boot-3"
				(&model{world: w}).reopenAfterCut()
				w.recoverFor("will")
				if got := w.read("a.phext"); got != want {
					t.Errorf("it is the journal of the directory again, and %q was not repaired", got.Text)
				}
			})
		}
	}
}

// TestAJournalThatCannotBeBegunAnew keeps its id: it may come back as it is.
func TestAJournalThatCannotBeBegunAnew(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	if unix.Setxattr(w.data, idAttribute, nil, 0) != nil {
		t.Skip("the file system has no extended attributes")
	}
	w.recoverFor("will")
	w.mutate(update("a.phext", 1, "before"))
	id := idAt(w.data)
	w.must(os.Rename(w.cfg.Dir, w.cfg.Dir+".away"))
	w.must(os.WriteFile(w.cfg.Dir, nil, 0o600)) // nothing can be made there
	if _, err := w.j.Begin(update("a.phext", 1, "refused"), nil); err == nil {
		t.Fatal("a mutation was begun without a journal")
	}
	w.must(errors.Join(os.Remove(w.cfg.Dir), os.Rename(w.cfg.Dir+".away", w.cfg.Dir)))
	if now := idAt(w.data); id == "" || now != id || !w.j.HasWritten(w.data) {
		t.Errorf("the id was %q and is %q", id, now)
	}
	w.mutate(update("a.phext", 1, "acknowledged"))
	want := w.read("a.phext")
	w.put("a.phext", text("ack"))
	w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
	(&model{world: w}).reopenAfterCut()
	w.recoverFor("will")
	if got := w.read("a.phext"); got != want {
		t.Errorf("%q", got.Text)
	}
}

// TestAnIDThatWasCopied, as cp -a does, is that of another directory: what is here is repaired as
// ever. A block of NULs is damage whoever has written last.
func TestAnIDThatWasCopied(t *testing.T) {
	for _, copied := range []bool{true, false} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		if unix.Setxattr(w.data, idAttribute, nil, 0) != nil {
			t.Skip("the file system has no extended attributes")
		}
		w.recoverFor("will")
		w.mutate(update("a.phext", 1, "acknowledged"))
		id := "ANOTHERJOURNAL"
		if !copied {
			id += " " + attributeOf(w.data)
		}
		w.must(unix.Setxattr(w.data, idAttribute, []byte(id), 0))
		want := w.read("a.phext")
		if copied {
			w.put("a.phext", text("ack"))
		} else {
			w.put("a.phext", text(strings.Repeat("a", blockSize)+"\x00\x00\x00"))
		}
		w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
		(&model{world: w}).reopenAfterCut()
		w.recoverFor("will")
		if got := w.read("a.phext"); got != want {
			t.Errorf("copied %v: %q", copied, got.Text)
		}
	}
}

// TestAJournalThatIsTakenAwayBeforeASync must not call the records durable.
func TestAJournalThatIsTakenAwayBeforeASync(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "first"))
	p := w.unflushed("second")
	w.must(os.RemoveAll(w.cfg.Dir))
	if err := p.Sync(); !errors.Is(err, errGone) {
		t.Errorf("synced: %v", err)
	}
	w.mutate(update("a.phext", 1, "third"))
}

// TestAJournalThatCannotBeMadeAnew refuses mutations.
func TestAJournalThatCannotBeMadeAnew(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	w.mutate(update("a.phext", 1, "first"))
	w.must(os.RemoveAll(w.cfg.Dir))
	w.must(os.WriteFile(w.cfg.Dir, nil, 0o600))
	if _, err := w.j.Begin(update("a.phext", 1, "x"), nil); err == nil {
		t.Error("a mutation was begun without a journal")
	}
	_ = w.set.Close() // there is nowhere to note the stop
}

// TestAJournalInAnOlderFormat is refused as it is: it is not damaged.
func TestAJournalInAnOlderFormat(t *testing.T) {
	older := frameOf([]byte("\x01\x00\x02\x06boot-1")) // the header of the first format
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "x"))
	w.must(w.j.Suspend())
	path := w.newest()
	w.must(os.WriteFile(path, older, 0o600))
	if _, err := w.j.Begin(update("a.phext", 1, "y"), nil); !errors.Is(err, ErrFormat) {
		t.Errorf("begun: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(older) {
		t.Errorf("the segment was changed: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(w.cfg.Quarantine, "*")); err != nil || len(left) > 0 {
		t.Errorf("quarantined: %v %v", left, err)
	}
}

// TestADirectoryThatAPowerCutTook removes the data_dir before a start. Recovery
// makes it again with what it held, unless its parent is missing too: then a disk
// is not mounted.
func TestADirectoryThatAPowerCutTook(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "acknowledged"))
	w.mutate(update("b.phext", 1, "too"))
	w.cfg.BootID = "boot-2"
	w.must(os.RemoveAll(filepath.Dir(w.data)))
	(&model{world: w}).reopenAfterCut()
	if _, err := w.j.Recover(t.Context()); err == nil {
		t.Error("recovered onto another disk")
	}
	w.must(os.Mkdir(filepath.Dir(w.data), 0o700))
	if r := w.recover(); r.Healed != 2 || w.read("a.phext") != text("acknowledged") || w.read("b.phext") != text("too") {
		t.Errorf("%q and %q after %+v", w.read("a.phext").Text, w.read("b.phext").Text, r)
	}
}

// TestAJournalThatIsRemovedBeforeARecovery does not fail the recovery, which begins another one.
func TestAJournalThatIsRemovedBeforeARecovery(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.recoverFor("will")
	w.mutate(update("a.phext", 1, "a"))
	w.must(os.RemoveAll(filepath.Dir(w.j.dir)))
	w.recover()
	w.mutate(update("a.phext", 2, "b"))
	w.reopen()
	if r := w.recoverFor("will"); r.Healed != 0 || w.segments() == 0 {
		t.Errorf("%+v, %d segments", r, w.segments())
	}
}
