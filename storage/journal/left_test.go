package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLeftBy finds the journals of a tenant, also one without records, and does not say that it
// has found all if it cannot know.
func TestLeftBy(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	note := func(path string, n *ownerNote, written bool) *Journal {
		j, err := w.set.Of(filepath.Join(filepath.Dir(w.data), path))
		w.must(err)
		if written {
			w.must(makeDir(j.dir))
			w.must(os.WriteFile(filepath.Join(j.dir, pathFile), []byte(j.dataDir+"\n"), 0o600))
		}
		w.must(w.set.cfg.setNote(j.dir, n))
		return j
	}
	note("has", &ownerNote{Tenants: []string{"a/1"}}, true)
	note("left", &ownerNote{Away: []string{"a/1"}, From: 3}, true)
	only := note("only read", &ownerNote{Away: []string{"a/1"}}, false)
	note("continued", &ownerNote{Tenants: []string{"b"}, From: 2}, true)
	note("another", &ownerNote{Tenants: []string{"a/2"}}, true)
	note("shared", &ownerNote{Tenants: []string{"b"}, Away: []string{"a/1"}, Shared: true}, true)
	begun := note("begun", &ownerNote{Tenants: []string{"a/1"}}, true)
	damaged := note("damaged", &ownerNote{Tenants: []string{"b"}}, true)
	w.must(os.Remove(filepath.Join(begun.dir, pathFile)))

	look := func(when, wantOnly string, fails bool) {
		t.Helper()
		only, earlier, err := w.set.LeftBy("a/1")
		for i, path := range only {
			only[i] = filepath.Base(path)
		}
		if got := strings.Join(slices.Sorted(slices.Values(only)), ", "); got != wantOnly || len(earlier) != 1 || filepath.Base(earlier[0]) != "continued" || (err != nil) != fails {
			t.Errorf("%s: %s; %q, %v", when, got, earlier, err)
		}
	}
	look("at once", "begun, has, left, only read", false)
	w.reopen()
	look("after a start", "has, left", false)
	if _, err := os.Stat(only.dir); err == nil {
		t.Error("there is a journal of what was only read")
	}
	w.must(os.WriteFile(filepath.Join(damaged.dir, ownerFile), []byte("{"), 0o600))
	w.reopen()
	look("with a note that cannot be read", "has, left", true)
}

// TestANoteThatIsPutRight keeps no purge from being made any more.
func TestANoteThatIsPutRight(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	other, err := w.set.Of(w.data + ".other")
	w.must(err)
	w.must(makeDir(other.dir))
	w.must(os.WriteFile(filepath.Join(other.dir, ownerFile), []byte("{"), 0o600))
	if _, _, err := w.set.LeftBy("will"); err == nil {
		t.Error("it is read")
	}
	w.must(os.RemoveAll(other.dir))
	if _, _, err := w.set.LeftBy("will"); err != nil {
		t.Error(err)
	}
}

// TestAPurgeOfWhatWasBefore leaves no text of it, whoever has written that.
func TestAPurgeOfWhatWasBefore(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.recoverFor("will")
	w.must(w.j.RecordEdit("a.phext", text("a secret"), w.put("a.phext", text("a secret"))))
	before := w.newest()
	w.put("a.phext", State{})
	w.recoverFor("mary")
	w.mutate(update("n.phext", 1, "mary's"))
	w.must(w.j.PurgeEarlier())
	if _, err := os.Stat(before); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the segment: %v", err)
	}
	if all, err := w.j.History(Query{}); err != nil || len(all) != 1 {
		t.Errorf("the history has %v, %v", all, err)
	}
}

// TestPeekAfterOthers shows nothing of those who had the data_dir before.
func TestPeekAfterOthers(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.recoverFor("will")
	w.mutate(update("a.phext", 1, "will's"))
	w.put("a.phext", State{})
	w.recoverFor("mary")
	if names, err := w.j.PeekPhexts(); err != nil || len(names) > 0 {
		t.Errorf("mary has %q, %v", names, err)
	}
	w.mutate(update("b.phext", 1, "mary's"))
	if names, err := w.j.PeekPhexts(); err != nil || len(names) != 1 {
		t.Errorf("mary has %q, %v", names, err)
	}
}
