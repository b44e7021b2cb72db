package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestWhoseAFileIs tells files of those who left, came and came back from those of the others.
func TestWhoseAFileIs(t *testing.T) {
	alone := func(tenants ...string) *ownerNote { return &ownerNote{Tenants: tenants} }
	shared := func(away string, tenants ...string) *ownerNote {
		n := &ownerNote{Tenants: tenants, Shared: true}
		if away != "" {
			n.Away = []string{away}
		}
		return n
	}
	for _, test := range []struct {
		name   string
		before *ownerNote
		now    Owners
		anew   bool
		of     map[string]standing
	}{
		{"nobody has noted", nil, Owners{Tenants: []string{"a"}}, false, map[string]standing{"n.phext": usual, "b.n.phext": usual}},
		{"the same one", alone("a/1"), Owners{Tenants: []string{"a/1"}}, false, map[string]standing{"n.phext": usual, "b.n.phext": usual}},
		{"another one", alone("a/1"), Owners{Tenants: []string{"b"}}, true, map[string]standing{"n.phext": foreign}},
		{"another one with the id", alone("a/1"), Owners{Tenants: []string{"a/2"}}, true, map[string]standing{"a.n.phext": foreign}},
		{"one who is back", &ownerNote{Away: []string{"a"}}, Owners{Tenants: []string{"a"}}, false, map[string]standing{"n.phext": returned}},
		{"one who shares it now", alone("a"), Owners{Tenants: []string{"a", "b"}, Shared: true}, false,
			map[string]standing{"n.phext": usual, "a.n.phext": usual, "b.n.phext": foreign}},
		{"one who is back and shares it now", &ownerNote{Away: []string{"a"}}, Owners{Tenants: []string{"a", "b"}, Shared: true}, false,
			map[string]standing{"n.phext": returned, "a.n.phext": returned, "b.n.phext": foreign}},
		{"one who is left of several", shared("", "a", "b"), Owners{Tenants: []string{"a"}}, true, map[string]standing{"b.n.phext": foreign}},
		{"one who was alone there", shared("", "a"), Owners{Tenants: []string{"a"}}, false, map[string]standing{"a.n.phext": usual}},
		{"several", shared("", "a", "ab", "c/1", "d"), Owners{Tenants: []string{"a", "ab", "c/2", "e"}, Shared: true}, false, map[string]standing{
			"a.n.phext": usual, "ab.n.phext": usual, "c.n.phext": foreign, "d.n.phext": foreign, "e.n.phext": foreign, "nobodys.phext": usual}},
		{"one of several who is back", shared("b", "a"), Owners{Tenants: []string{"a", "b"}, Shared: true}, false,
			map[string]standing{"a.n.phext": usual, "b.n.phext": returned}},
		{"all others", shared("", "a", "b"), Owners{Tenants: []string{"c", "d"}, Shared: true}, true, map[string]standing{"a.n.phext": foreign}},
		{"nobody now", alone("a"), Owners{}, false, map[string]standing{"n.phext": foreign}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.mutate(update("x.phext", 1, "x"))
			if test.before != nil {
				w.must(w.set.cfg.setNote(w.j.dir, test.before))
			}
			if anew, err := w.j.Claim(test.now); anew != test.anew || err != nil {
				t.Errorf("it begins anew: %v, %v", anew, err)
			}
			for file, want := range test.of {
				if got := w.j.claim.of(file); got != want {
					t.Errorf("%s: %d, want %d", file, got, want)
				}
			}
			w.recover()
			w.reopen()
			n, err := w.set.cfg.noteOf(w.j.dir)
			w.must(err)
			want := test.now
			if len(want.Tenants) == 0 {
				want.Tenants = test.before.Tenants
			}
			if n == nil || strings.Join(n.Tenants, " ") != strings.Join(want.Tenants, " ") || n.Shared != want.Shared {
				t.Errorf("it is noted as %+v", n)
			}
		})
	}
}

// TestNothingBringsTheFormerOwnersBack damages the segment with which a journal began anew.
func TestNothingBringsTheFormerOwnersBack(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("secret.phext", 1, "will's"))
	w.must(w.set.cfg.setNote(w.j.dir, &ownerNote{Tenants: []string{"will"}}))
	if _, err := w.j.Claim(Owners{Tenants: []string{"mary"}}); err != nil {
		t.Fatal(err)
	}
	w.must(os.Remove(w.path("secret.phext")))
	w.recover()
	newest := w.newest()
	w.must(w.set.Close())
	w.must(os.WriteFile(newest, []byte("no segment"), 0o600))
	w.cfg.BootID = "boot-2"
	w.open()
	if _, err := w.j.Claim(Owners{Tenants: []string{"mary"}}); err != nil {
		t.Fatal(err)
	}
	w.recover()
	if all, err := w.j.History(Query{}); err != nil || len(all) > 0 {
		t.Errorf("the history has %v, %v", all, err)
	}
	if s := w.read("secret.phext"); s.Exists {
		t.Errorf("%q is back", s.Text)
	}
	w.mutate(update("n.phext", 1, "mary's"))
	if all, err := w.j.History(Query{}); err != nil || len(all) != 1 {
		t.Errorf("the history has %v, %v", all, err)
	}
}

// TestANoteThatCannotBeRead is no reason to show anything.
func TestANoteThatCannotBeRead(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("n.phext", 1, "text"))
	w.must(os.WriteFile(filepath.Join(w.j.dir, ownerFile), []byte("{"), 0o600))
	w.reopen()
	if _, err := w.j.History(Query{}); err == nil || !strings.Contains(err.Error(), w.j.dir) {
		t.Errorf("the history: %v", err)
	}
	if _, err := w.j.Claim(Owners{Tenants: []string{"will"}}); err == nil {
		t.Error("it is claimed")
	}
}

// TestPeekChangesNothing looks at a journal that another process may be writing.
func TestPeekChangesNothing(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	for _, file := range []string{"b.phext", "a.phext", "gone.phext"} {
		w.mutate(update(file, 1, "text"))
	}
	w.mutate(Mutation{File: "gone.phext", Op: Remove})
	f, err := os.OpenFile(w.newest(), os.O_WRONLY|os.O_APPEND, 0)
	w.must(err)
	_, err = f.WriteString("a record that is being written")
	w.must(errors.Join(err, f.Close()))
	w.must(os.WriteFile(filepath.Join(w.j.dir, segmentName(2)), nil, 0o600)) // a segment that is being made
	before := w.journalFiles()
	other, err := New(w.cfg)
	w.must(err)
	j, err := other.Of(w.data)
	w.must(err)
	if names, err := j.PeekPhexts(); err != nil || strings.Join(names, " ") != "a.phext b.phext" {
		t.Errorf("it knows %q, %v", names, err)
	}
	if theirs, err := j.IsOf(Owners{Tenants: []string{"will"}}); !theirs || err != nil {
		t.Errorf("%v, %v", theirs, err)
	}
	if after := w.journalFiles(); after != before {
		t.Errorf("before: %s\nafter: %s", before, after)
	}
	w.must(os.Remove(filepath.Join(w.j.dir, segmentName(2))))
}

// journalFiles are all files of the journal with what they hold.
func (w *world) journalFiles() (all string) {
	w.t.Helper()
	entries, err := os.ReadDir(w.j.dir)
	w.must(err)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(w.j.dir, e.Name()))
		w.must(err)
		all += fmt.Sprintf("%s: %q\n", e.Name(), text)
	}
	return all
}

// TestADamagedNote keeps nobody but the directory that it is of from their journals.
func TestADamagedNote(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	_, err := w.j.Claim(Owners{Tenants: []string{"will"}})
	w.must(err)
	w.mutate(update("a.phext", 1, "text"))
	note := filepath.Join(w.j.dir, ownerFile)
	w.must(os.WriteFile(note, []byte("{"), 0o600))
	set, err := New(w.cfg)
	w.must(err)
	defer func() { w.must(set.Close()) }()
	damaged, err := set.Of(w.data)
	w.must(err)
	if _, err := damaged.Claim(Owners{Tenants: []string{"will"}}); err == nil || !strings.Contains(err.Error(), note) {
		t.Errorf("a damaged note: %v", err)
	}
	other, err := set.Of(t.TempDir())
	w.must(err)
	if _, err := other.Claim(Owners{Tenants: []string{"eve"}}); err != nil {
		t.Errorf("another journal: %v", err)
	}
	w.must(other.SettleClaim(t.TempDir()))
	w.must(os.WriteFile(note, []byte(`{"tenants":["eve","will"]}`), 0o600)) // somebody puts it right
	if _, err := damaged.Claim(Owners{Tenants: []string{"will"}}); err != nil {
		t.Error(err)
	}
	if n, err := set.cfg.noteOf(damaged.dir); err != nil || strings.Join(n.Tenants, " ") != "will" || strings.Join(n.Away, " ") != "eve" {
		t.Errorf("%+v, %v", n, err)
	}
	if text, err := os.ReadFile(note); err != nil || !strings.Contains(string(text), `"away":["eve"]`) {
		t.Errorf("on the disk: %s, %v", text, err)
	}
}

// TestANoteThatIsPutRightBetweenTwoStarts does not hide who left while it was damaged.
func TestANoteThatIsPutRightBetweenTwoStarts(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	will := Owners{Tenants: []string{"will"}}
	write := func() { // has will write to where he is now
		t.Helper()
		_, err := w.j.Claim(will)
		w.must(err)
		w.mutate(update("a.phext", 1, "text"))
		w.must(w.j.SettleClaim(w.data))
	}
	write()
	note, earlier := filepath.Join(w.j.dir, ownerFile), w.data
	right, err := os.ReadFile(note)
	w.must(err)
	w.must(os.WriteFile(note, []byte("{"), 0o600))
	w.data, w.now = t.TempDir(), w.now.Add(time.Hour)
	w.reopen()
	write()
	w.must(os.WriteFile(note, right, 0o600))
	w.reopen()
	if !w.j.IsNoted(will) {
		t.Error("will is not at the later place any more")
	}
	w.data = earlier
	w.reopen()
	if _, err := w.j.Claim(will); err != nil || w.j.claim.of("a.phext") != returned {
		t.Errorf("will, who has been elsewhere: %v, %v", w.j.claim.of("a.phext"), err)
	}
}

// TestAJournalThatIsRemoved begins again where its note says that the owners' part begins: what
// is written then counts after a restart.
func TestAJournalThatIsRemoved(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.must(w.set.cfg.setNote(w.j.dir, &ownerNote{Tenants: []string{"will"}, From: 7})) // and its directory was removed
	w.mutate(keyed("key", "the answer"))
	w.reopen()
	w.expect(t, "will", "key", "the answer")
	if events, err := w.j.History(Query{Limit: 2}); err != nil || len(events) != 1 {
		t.Errorf("%v, %v", events, err)
	}
}

// TestANoteWithoutRoom is an error that says so: no file has to be repaired, and what is there
// may be read.
func TestANoteWithoutRoom(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.n.phext", 1, "text"))
	_, err := w.j.Claim(Owners{Tenants: []string{"a", "b"}, Shared: true})
	w.must(err)
	w.must(w.j.SettleClaim(w.data))
	_, err = w.j.Claim(Owners{Tenants: []string{"a"}, Shared: true})
	w.must(err)
	write := w.j.cfg.replace
	w.j.cfg.replace = func(string, io.WriterTo, os.FileMode, bool) error { return syscall.ENOSPC }
	full := (*NoRoomError)(nil)
	if err := w.j.SettleClaim(w.data); !errors.As(err, &full) || full.Files == nil || len(full.Files) > 0 {
		t.Errorf("%v", err)
	}
	w.j.cfg.replace = write
	w.must(w.j.SettleClaim(w.data))
}

// TestPurgeOfAJournalThatIsRemoved has nothing left to remove.
func TestPurgeOfAJournalThatIsRemoved(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "text"))
	w.must(os.RemoveAll(w.j.dir))
	w.must(w.set.Purge(w.data))
	w.mutate(update("a.phext", 1, "again"))
	if events, err := w.j.History(Query{Limit: 2}); err != nil || len(events) != 1 {
		t.Errorf("%v, %v", events, err)
	}
}

// TestWhatOthersHaveWrittenIsOnTheDisk once a journal has taken a directory for its own, since
// it cannot repair that: it was written with another journal, or is a copy.
func TestWhatOthersHaveWrittenIsOnTheDisk(t *testing.T) {
	for _, c := range []struct {
		name   string
		comes  func(w *world)
		synced string
	}{
		{"without a journal", func(w *world) { w.must(os.RemoveAll(w.j.dir)) }, "a.phext b.phext"},
		{"from another tenant", func(w *world) {
			w.must(w.set.cfg.setNote(w.j.dir, &ownerNote{Tenants: []string{"mary"}, ID: "an id"}))
		}, "a.phext b.phext"},
		{"with another journal's id", func(w *world) { setAttributeAt(w.data, idAttribute, "another") }, "a.phext b.phext"},
		{"as it was", func(*world) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			will := Owners{Tenants: []string{"will"}}
			for _, file := range []string{"a.phext", "b.phext"} {
				w.put(file, text(file))
			}
			_, err := w.j.Claim(will)
			w.must(err)
			w.recover()
			w.mutate(update("a.phext", 2, "text"))
			w.must(w.set.Close())
			c.comes(w)
			var synced []string
			w.tune = func(s *settings) {
				s.syncPhext = func(f *os.File) error { synced = append(synced, filepath.Base(f.Name())); return nil }
			}
			w.open()
			_, err = w.j.Claim(will)
			w.must(err)
			synced = nil
			w.recover()
			slices.Sort(synced)
			if got := strings.Join(slices.Compact(synced), " "); got != c.synced {
				t.Errorf("on the disk are %q, want %q", got, c.synced)
			}
		})
	}
}

// TestAPhextThatCannotBeSynced keeps nobody from the others. It is written once more: a second sync would succeed.
func TestAPhextThatCannotBeSynced(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.put("a.phext", text("a"))
	written := false
	replace := w.set.cfg.replace
	w.set.cfg.replace = func(path string, content io.WriterTo, mode os.FileMode, durable bool) error {
		written = written || durable && fsutil.Resolve(path) == w.path("a.phext")
		return replace(path, content, mode, durable)
	}
	w.set.cfg.syncPhext = func(*os.File) error { return syscall.EIO }
	_, err := w.j.Claim(Owners{Tenants: []string{"will"}})
	w.must(err)
	w.recover()
	w.set.cfg.syncPhext = (*os.File).Sync
	if got := w.read("a.phext"); !written || got != text("a") {
		t.Errorf("written %v: %q", written, got.Text)
	}
}

// cut takes the power: a.phext is torn, b.phext is gone, and c.phext is edited. The boot is a
// time after now.
func (w *world) cut(boot time.Duration) {
	w.t.Helper()
	w.now = time.Now().Add(-time.Hour)
	for _, file := range []string{"a.phext", "b.phext", "c.phext"} {
		w.mutate(update(file, 1, "acknowledged"))
	}
	w.put("a.phext", text("\x00\x00"))
	w.put("b.phext", State{})
	w.put("c.phext", text("an edit"))
	w.must(os.Chtimes(w.path("a.phext"), time.Unix(1, 0), time.Unix(1, 0)))
	w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(boot)
	(&model{world: w}).reopenAfterCut()
}

// TestOneOfSeveralIsLeftAfterACut, and has its phexts whole. sqgate asks whether the others' are to be repaired, too.
func TestOneOfSeveralIsLeftAfterACut(t *testing.T) {
	for _, moved := range []bool{false, true} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		_, err := w.j.Claim(Owners{Tenants: []string{"a", "will"}, Shared: true})
		w.must(err)
		w.recover()
		files := []string{"a.n.phext", "will.n.phext", "will.m.phext", "will.o.phext", "will.whole.phext"}
		for _, file := range files {
			w.mutate(update(file, 1, "acknowledged"))
		}
		want := map[string]State{}
		for _, file := range files {
			if want[file] = text("acknowledged"); file != "will.whole.phext" {
				w.put(file, text("ackn"))
			}
		}
		w.put("will.m.phext", State{})
		if moved {
			for _, file := range files[1:] {
				want[file] = State{}
				w.put(file, State{})
			}
		}
		w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
		(&model{world: w}).reopenAfterCut()
		w.must(w.set.cfg.setNote(w.cfg.Dir+"/x", &ownerNote{Away: []string{"a"}})) // which was elsewhere before
		if asks := w.recoverOrAsk("a"); asks == moved {
			t.Errorf("moved %v: sqgate asks: %v", moved, asks)
		} else if asks {
			_, err := w.j.Claim(Owners{Tenants: []string{"a", "will"}, Shared: true})
			w.must(err)
			w.recover()
			w.recoverFor("a")
		}
		for file, want := range want {
			if got := w.read(file); got != want {
				t.Errorf("moved %v, %s: %q", moved, file, got.Text)
			}
		}
	}
}

// TestTheOnlyPhextSinceTheBootIsLost by a cut, and the others, of earlier segments, are moved or get
// another owner before anybody recovers them. It is made again.
func TestTheOnlyPhextSinceTheBootIsLost(t *testing.T) {
	for _, c := range []struct {
		name              string
		copied, elsewhere bool
	}{{"elsewhere", false, true}, {"a copy elsewhere", true, true}, {"a copy", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.now = time.Now().Add(-time.Hour)
			w.recoverFor("will")
			for _, file := range []string{"a.phext", "b.phext", "c.phext"} {
				w.mutate(update(file, 1, "old"))
			}
			w.cfg.BootID = "boot-2"
			w.reopen()
			w.recoverFor("will")
			w.mutate(update("n.phext", 1, "acknowledged"))
			w.put("n.phext", State{})
			w.cfg.BootID, w.cfg.BootTime = "boot-3", time.Now().Add(time.Hour)
			if c.copied {
				w.cfg.BootTime = time.Now().Add(-time.Minute)
			}
			(&model{world: w}).reopenAfterCut()
			if n, err := w.set.cfg.noteOf(w.j.dir); err != nil || n.Directory == "" {
				t.Skip("the file system does not say when a directory was made")
			}
			was := w.data
			if c.copied || c.elsewhere {
				w.must(os.Rename(was, was+".now"))
			}
			if c.copied {
				w.must(os.CopyFS(was+".copy", os.DirFS(was+".now")))
				w.must(os.Rename(was+".copy", was))
				w.must(os.RemoveAll(was + ".now"))
			}
			if c.copied && c.elsewhere {
				w.must(os.Rename(was, was+".now"))
			}
			if c.elsewhere {
				w.data = was + ".now"
				w.recoverCopies("will")
			}
			var err error
			w.j, err = w.set.Of(w.data)
			w.must(err)
			w.recoverFor("will")
			if got, old := w.read("n.phext"), w.read("a.phext"); got != text("acknowledged") || old != text("old") {
				t.Errorf("%q and %q", got.Text, old.Text)
			}
		})
	}
}

// TestNULsInAText are no damage, whether its tenant has brought it from another path or somebody has edited it.
func TestNULsInAText(t *testing.T) {
	returns := func(w *world) { w.must(w.set.cfg.setNote(w.j.dir, &ownerNote{Away: []string{"will"}})) }
	for _, c := range []struct {
		name, text string
		comes      func(w *world)
	}{
		{"from another path", "a\x00b, the work of weeks\x00", returns},
		{"by hand", "a\x00b, the work of weeks\x00", func(*world) {}},
		{"by hand, instead of a blank", "a\x00b, and an end", func(*world) {}},
	} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.recoverFor("will")
		w.mutate(update("a.phext", 1, "a b, and an end"))
		w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(-time.Minute)
		(&model{world: w}).reopenAfterCut()
		c.comes(w)
		want := text(c.text)
		w.put("a.phext", want)
		if r := w.recoverFor("will"); w.read("a.phext") != want {
			t.Errorf("%s: %q after %+v", c.name, w.read("a.phext").Text, r)
		}
	}
}

// TestASharersFileThatWasRenamedAside is put back where nobody had its name before.
func TestASharersFileThatWasRenamedAside(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.must(w.set.cfg.setNote(w.j.dir, &ownerNote{Tenants: []string{"a", "b/1"}, Away: []string{"d/1"}, Shared: true}))
	for _, id := range []string{"a", "b", "c", "d"} {
		w.lay(BeforePath(w.path(id+".n.phext")), &id)
	}
	_, err := w.j.Claim(Owners{Tenants: []string{"a", "b/2", "c", "d/2"}, Shared: true})
	w.must(err)
	w.recover()
	w.noneAside(t)
	for id, want := range map[string]string{"a": "a", "b": "", "c": "c", "d": ""} {
		if got := w.read(id + ".n.phext"); got.Text != want || got.Exists != (want != "") {
			t.Errorf("%s: %q", id, got.Text)
		}
	}
	if all := w.quarantined(); !slices.Equal(all, []string{"b", "d"}) {
		t.Errorf("quarantined: %q", all)
	}
}

// TestASharerIsMissingAfterACut has another one served first. Its phexts are whole when it is back.
func TestASharerIsMissingAfterACut(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	claim := func(tenants ...string) {
		t.Helper()
		_, err := w.j.Claim(Owners{Tenants: tenants, Shared: true})
		w.must(err)
		w.recover()
	}
	claim("a", "will")
	w.mutate(update("will.n.phext", 1, "acknowledged"))
	w.mutate(update("will.m.phext", 1, "acknowledged"))
	w.put("will.n.phext", text("\x00"))
	w.put("will.m.phext", State{})
	w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
	(&model{world: w}).reopenAfterCut()
	claim("a")
	claim("a", "will")
	for _, file := range []string{"will.n.phext", "will.m.phext"} {
		if got := w.read(file); got != text("acknowledged") {
			t.Errorf("%s: %q", file, got.Text)
		}
	}
}

// TestADirectoryThatIsMovedAfterACut was copied as the cut had left it: to another path, or to
// another disk at the same one. Where nothing was copied, nothing is made.
func TestADirectoryThatIsMovedAfterACut(t *testing.T) {
	for _, c := range []struct {
		name             string
		empty, elsewhere bool
	}{{"at its path", false, false}, {"elsewhere", false, true}, {"at its path, empty", true, false}, {"elsewhere, empty", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.recoverFor("will")
			w.cut(-time.Minute)
			if n, err := w.set.cfg.noteOf(w.j.dir); err != nil || n.Directory == "" {
				t.Skip("the file system does not say when a directory was made")
			}
			before := w.data + ".before"
			w.must(os.Rename(w.data, before))
			if c.elsewhere {
				w.data += ".now"
			}
			w.must(os.Mkdir(w.data, 0o700))
			if !c.empty {
				w.must(os.CopyFS(w.data, os.DirFS(before)))
				w.must(os.Chtimes(w.path("a.phext"), time.Unix(1, 0), time.Unix(1, 0)))
			}
			want := State{}
			if !c.empty {
				want = text("acknowledged")
			}
			if c.elsewhere {
				left, err := w.set.NotedElsewhere("will", w.data)
				w.must(err)
				if len(left) != 1 || left[0] != w.j.dataDir {
					t.Fatalf("the tenant has left %q", left)
				}
				by, err := w.set.Of(w.data)
				w.must(err)
				w.must(w.j.RecoverCopy(t.Context(), w.data, by))
				w.j = by
			}
			w.recoverFor("will")
			if a, b := w.read("a.phext"), w.read("b.phext"); a != want || b != want {
				t.Errorf("%q and %q", a.Text, b.Text)
			}
			if left, err := w.set.NotedElsewhere("will", w.data); err != nil || len(left) > 0 {
				t.Errorf("the tenant has left %q, %v", left, err)
			}
		})
	}
}

// TestWhatIsSaidOfAMovedDirectory has the path where it is now, and is said once, also if the disk is full at first.
func TestWhatIsSaidOfAMovedDirectory(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	log := &strings.Builder{}
	w.cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	w.reopen()
	w.recoverFor("will")
	w.cut(-time.Minute)
	before := w.data
	w.data += ".now"
	w.must(os.Rename(before, w.data))
	at, release, err := fsutil.HoldDir(w.data)
	w.must(err)
	defer release()
	by, err := w.set.Of(w.data)
	w.must(err)
	write := w.set.cfg.replace
	w.set.cfg.replace = func(path string, _ io.WriterTo, _ os.FileMode, _ bool) error {
		return &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	}
	for range 2 {
		err := w.j.RecoverCopy(t.Context(), at, by)
		if err == nil || !strings.Contains(err.Error(), w.data+"/a.phext") || strings.Contains(err.Error(), before+"/") || strings.Contains(err.Error(), at) {
			t.Errorf("%v", err)
		}
	}
	w.set.cfg.replace = write
	w.must(w.j.RecoverCopy(t.Context(), at, by))
	said := log.String()
	if strings.Count(said, "was moved before it was recovered") != 1 || !strings.Contains(said, "repaired\" path="+w.data+"/a.phext") || strings.Contains(said, "path="+before+"/") {
		t.Error(said)
	}
}

// TestACopyThatWasWrittenWithAnotherJournal, while this one was away, is not made what this one knows.
func TestACopyThatWasWrittenWithAnotherJournal(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.recoverFor("will")
	w.now = time.Now().Add(-3 * time.Hour)
	w.mutate(update("a.phext", 1, "old"))
	own := w.cfg.Dir
	w.cfg.Dir, w.cfg.BootID, w.cfg.BootTime = own+".other", "boot-2", time.Now().Add(-2*time.Hour)
	(&model{world: w}).reopenAfterCut()
	w.recoverFor("will")
	w.mutate(update("a.phext", 1, "newer"))
	w.must(w.set.Close())
	if idAt(w.data) == "" {
		t.Skip("the file system has no extended attributes")
	}
	w.must(os.Rename(w.data, w.data+".now"))
	w.data += ".now"
	w.open()
	w.recoverFor("will")
	w.must(w.set.Close())
	w.cfg.Dir, w.cfg.BootID, w.cfg.BootTime = own, "boot-3", time.Now().Add(time.Hour)
	w.open()
	w.recoverCopies("will")
	w.recoverFor("will")
	if got := w.read("a.phext"); got != text("newer") {
		t.Errorf("%q", got.Text)
	}
}

// recoverCopies recovers what a tenant has brought from another path.
func (w *world) recoverCopies(tenant string) {
	w.t.Helper()
	left, err := w.set.NotedElsewhere(tenant, w.data)
	w.must(err)
	if len(left) == 0 {
		w.t.Fatal("it is noted nowhere else")
	}
	for _, path := range left {
		j, err := w.set.Of(path)
		w.must(err)
		by, err := w.set.Of(w.data)
		w.must(err)
		w.must(j.RecoverCopy(context.Background(), w.data, by))
	}
}

// TestAFirstPhextThatIsMovedAfterACut is not noted as made.
func TestAFirstPhextThatIsMovedAfterACut(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.recoverFor("will")
	w.now = time.Now().Add(-time.Hour)
	w.must(w.begin(update("a.phext", 1, "acknowledged")).Sync())
	w.put("a.phext", text("\x00\x00"))
	w.must(os.Chtimes(w.path("a.phext"), time.Unix(1, 0), time.Unix(1, 0)))
	w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(-time.Minute)
	(&model{world: w}).reopenAfterCut()
	w.must(os.Rename(w.data, w.data+".now"))
	w.data += ".now"
	w.recoverCopies("will")
	j, err := w.set.Of(w.data)
	w.must(err)
	w.j = j
	w.recoverFor("will")
	if got := w.read("a.phext"); got != text("acknowledged") {
		t.Errorf("%q", got.Text)
	}
}
