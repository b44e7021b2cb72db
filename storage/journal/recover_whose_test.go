package journal

import (
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// recoverOrAsk recovers the directory once it belongs to a tenant. asks says that sqgate cannot tell whether that is
// the one before: nothing is changed then.
func (w *world) recoverOrAsk(tenant string, others ...string) (asks bool) {
	w.t.Helper()
	_, err := w.j.Claim(Owners{Tenants: []string{tenant}, Exists: func(t string) bool { return slices.Contains(others, t) }})
	w.must(err)
	before := w.files()
	_, err = w.j.Recover(context.Background())
	if err == nil {
		return false
	}
	if !strings.Contains(err.Error(), "had it until a crash") {
		w.t.Fatal(err)
	}
	if after := w.files(); !maps.Equal(after, before) {
		w.t.Fatalf("%q became %q", before, after)
	}
	if all := w.quarantined(); len(all) > 0 {
		w.t.Fatalf("quarantined: %q", all)
	}
	return true
}

// files are what all files of the directory hold.
func (w *world) files() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	w.must(filepath.WalkDir(w.data, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var b []byte
			b, err = os.ReadFile(path)
			all[e.Name()] = string(b)
		}
		return err
	}))
	return all
}

// movePhexts moves the phexts to a new directory, and that into the place of the one before.
func (w *world) movePhexts() {
	w.t.Helper()
	now := w.data + ".now"
	w.must(os.Mkdir(now, 0o700))
	phexts, err := filepath.Glob(w.data + "/*.phext")
	w.must(err)
	for _, path := range phexts {
		w.must(os.Rename(path, filepath.Join(now, filepath.Base(path))))
	}
	w.must(os.Rename(w.data, w.data+".before"))
	w.must(os.Rename(now, w.data))
}

// TestOnlyTheOperatorKnowsWhoseTheFilesAre after a crash, if mary has the directory and will is not in the tenants
// file. If she is will, nothing is lost. If she is not, she gets nothing of will's.
func TestOnlyTheOperatorKnowsWhoseTheFilesAre(t *testing.T) {
	cut := func(w *world) {
		w.mutate(update("d.phext", 1, "whole"))
		w.cut(time.Hour)
	}
	aside := func(now State) func(w *world) {
		return func(w *world) {
			w.mutate(update("a.phext", 1, "acknowledged"))
			begun := update("a.phext", 1, ", begun")
			begun.Op = Insert
			w.begin(begun)
			w.must(os.Rename(w.path("a.phext"), BeforePath(w.path("a.phext"))))
			w.put("a.phext", now)
			(&model{world: w}).reopenAfterCut()
		}
	}
	others := func(files ...string) func(w *world) {
		return func(w *world) {
			for _, file := range files {
				w.must(os.Rename(w.path(file), w.data+"."+file))
				w.put(file, text("mary's own"))
			}
		}
	}
	gone := func(files ...string) func(w *world) {
		return func(w *world) {
			for _, file := range files {
				w.put(file, State{})
			}
		}
	}
	acknowledged := map[string]string{"a.phext": "acknowledged", "b.phext": "acknowledged", "c.phext": "acknowledged", "d.phext": "whole"}
	inserted := map[string]string{"a.phext": "acknowledged, begun"}
	for _, c := range []struct {
		name         string
		crash, comes func(w *world)
		others       []string
		asks         bool
		made         map[string]string // if mary is will
	}{
		{"a cut", cut, nil, nil, true, acknowledged},
		{"a cut, and some phexts are gone", cut, gone("a.phext", "c.phext"), nil, true, acknowledged},
		{"a cut, and all phexts are gone", cut, gone("a.phext", "c.phext", "d.phext"), nil, false, nil},
		{"a cut, and will is elsewhere", cut, nil, []string{"will"}, false, nil},
		{"a cut, and mary was elsewhere", cut, func(w *world) { w.must(w.set.cfg.setNote(w.cfg.Dir+"/x", &ownerNote{Tenants: []string{"mary"}})) }, nil, false, nil},
		{"a cut, and mary was elsewhere long ago", cut, func(w *world) { w.must(w.set.cfg.setNote(w.cfg.Dir+"/x", &ownerNote{Away: []string{"mary"}})) }, nil, false, nil},
		{"a cut, and nobody knows where mary was", cut, func(w *world) {
			w.must(os.Mkdir(w.cfg.Dir+"/x", 0o700))
			w.must(os.WriteFile(w.cfg.Dir+"/x/"+ownerFile, []byte("{"), 0o600))
		}, nil, false, nil},
		{"a cut, and a copy", cut, (*world).movePhexts, nil, false, nil},
		{"a cut, and other phexts after it", func(w *world) { w.cut(-time.Minute) }, func(w *world) {
			gone("a.phext", "c.phext")(w)
			w.put("c.phext", text("mary's own"))
		}, nil, false, nil},
		{"a cut, and other phexts before it", cut, others("a.phext", "c.phext", "d.phext"), nil, true, nil},
		{"an old state", func(w *world) {
			w.mutate(update("a.phext", 1, "old"))
			w.mutate(update("a.phext", 1, "acknowledged"))
			w.put("a.phext", text("old"))
			w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(-time.Minute)
			(&model{world: w}).reopenAfterCut()
		}, nil, nil, true, map[string]string{"a.phext": "acknowledged"}},
		{"a cut, and the record that a mutation was done is lost", func(w *world) {
			w.mutate(update("a.phext", 1, "acknowledged"))
			begun := update("a.phext", 1, ", begun")
			begun.Op = Insert
			w.begin(begun)
			w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(-time.Minute)
			(&model{world: w}).reopenAfterCut()
		}, nil, nil, true, inserted},
		{"a crash in a write", aside(text("ackn")), nil, nil, true, inserted},
		{"a crash before a write", aside(State{}), nil, nil, true, inserted},
		{"a crash after a write", aside(text("acknowledged, begun")), nil, nil, false, nil},
		{"a crash in a write, and will is elsewhere", aside(text("ackn")), nil, []string{"will"}, false, nil},
		{"a crash in a write, and another phext", aside(State{}), func(w *world) { w.put("a.phext", text("mary's own")) }, nil, false, nil},
		{"a crash in a write in place", func(w *world) {
			w.mutate(update("a.phext", 1, "acknowledged"))
			begun := update("a.phext", 1, ", begun")
			begun.Op = Insert
			w.begin(begun)
			w.put("a.phext", text("acknowledged, be"))
			(&model{world: w}).reopenAfterCut()
		}, nil, nil, true, inserted},
		{"a crash, and the phext is gone", func(w *world) {
			w.begin(update("a.phext", 1, "begun"))
			(&model{world: w}).reopenAfterCut()
		}, nil, nil, false, nil},
		{"a phext that cannot be one", cut, func(w *world) { w.must(os.Remove(w.path("a.phext"))); w.must(os.Mkdir(w.path("a.phext"), 0o700)) }, nil, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, isWill := range []bool{false, true} {
				w := closing(t, newWorld(t, t.TempDir(), nil))
				w.recoverFor("will")
				if n, err := w.set.cfg.noteOf(w.j.dir); err != nil || n.Directory == "" {
					t.Skip("the file system does not say when a directory was made")
				}
				c.crash(w)
				if c.comes != nil {
					c.comes(w)
				}
				phexts := w.files()
				delete(phexts, filepath.Base(BeforePath("a.phext")))
				if asks := w.recoverOrAsk("mary", c.others...); asks != c.asks {
					t.Fatalf("sqgate asks: %v", asks)
				} else if asks && isWill {
					w.recoverFor("will")
					maps.Copy(phexts, c.made)
				} else if asks {
					w.movePhexts()
				}
				if w.recoverOrAsk("mary", c.others...) {
					t.Fatal("sqgate asks again")
				}
				w.noneAside(t)
				if got := w.files(); c.made != nil && !maps.Equal(got, phexts) || !isWill && !maps.Equal(got, phexts) {
					t.Errorf("she is will: %v, %q, want %q", isWill, got, phexts)
				}
				if all, err := w.j.History(Query{}); err != nil || len(all) > 0 {
					t.Errorf("the history has %v, %v", all, err)
				}
			}
		})
	}
}

// TestAFileOfOthersThatWasRenamedAside never becomes a phext of whoever has the directory then. It is quarantined,
// unless it has come with another directory.
func TestAFileOfOthersThatWasRenamedAside(t *testing.T) {
	away := func(w *world) { w.put("a.phext", State{}) }
	for _, c := range []struct {
		name     string
		change   func(w *world)
		want     string
		expelled bool
	}{
		{"somebody else", away, "", true},
		{"somebody else with a phext of the name", func(w *world) { w.put("a.phext", text("mary's own")) }, "mary's own", true},
		{"somebody else with a phext that is empty", func(w *world) { w.put("a.phext", text("")) }, "", true},
		{"somebody else with something that is no phext", func(w *world) { away(w); w.must(os.Mkdir(w.path("a.phext"), 0o700)) }, "", true},
		{"another directory", func(w *world) {
			away(w)
			w.must(os.CopyFS(w.data+".now", os.DirFS(w.data)))
			w.must(os.RemoveAll(w.data))
			w.must(os.Rename(w.data+".now", w.data))
		}, "acknowledged", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			log := &strings.Builder{}
			w.cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
			w.reopen()
			w.recoverFor("will")
			if n, err := w.set.cfg.noteOf(w.j.dir); err != nil || n.Directory == "" {
				t.Skip("the file system does not say when a directory was made")
			}
			for _, file := range []string{"a.phext", "b.phext"} {
				w.mutate(update(file, 1, "acknowledged"))
			}
			begun := update("a.phext", 1, ", begun")
			begun.Op = Insert
			w.begin(begun)
			w.must(os.Rename(w.path("a.phext"), BeforePath(w.path("a.phext"))))
			w.put("a.phext", text("ackn"))
			(&model{world: w}).reopenAfterCut()
			c.change(w)
			w.recoverAmong("mary", "will")
			w.noneAside(t)
			got := ""
			if b, err := os.ReadFile(w.path("a.phext")); err == nil {
				got = string(b)
			}
			all := w.quarantined()
			if got != c.want || slices.Contains(all, "acknowledged") != c.expelled || strings.Contains(log.String(), "another tenant's was renamed aside") != c.expelled {
				t.Errorf("%q, quarantined: %q, log: %s", got, all, log)
			}
		})
	}
}

// TestADamagedCheckpointOfOthers keeps nobody from the directory.
func TestADamagedCheckpointOfOthers(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.set.cfg.inlineMax = 1
	w.recoverFor("will")
	w.put("a.phext", text(big))
	w.mutate(update("a.phext", 1, "acknowledged"))
	w.put("a.phext", text("torn"))
	w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
	(&model{world: w}).reopenAfterCut()
	all, err := filepath.Glob(filepath.Join(w.j.dir, "*.chk"))
	w.must(err)
	for _, checkpoint := range all {
		w.must(os.Truncate(checkpoint, 1))
	}
	w.recoverFor("mary")
	w.mutate(update("a.phext", 1, "mary's"))
	if len(all) == 0 {
		t.Error("there is no checkpoint")
	}
}
