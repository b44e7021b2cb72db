package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// fileOf is the content of a file; nil is no file.
func fileOf(s string) *string { return &s }

// lay makes the file at path hold text, or removes it.
func (w *world) lay(path string, text *string) {
	w.t.Helper()
	if text == nil {
		w.must(os.RemoveAll(path))
		return
	}
	w.must(os.WriteFile(path, []byte(*text), 0o644))
}

// quarantined returns the texts in the quarantine, sorted by file name.
func (w *world) quarantined() (texts []string) {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.cfg.Quarantine, "*"))
	w.must(err)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		w.must(err)
		texts = append(texts, string(b))
	}
	return texts
}

func (w *world) noneAside(t failer) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(w.data, ".*"+beforeSuffix))
	if err != nil || len(left) > 0 {
		t.Fatalf("left aside: %v, %v", left, err)
	}
}

// stages are the moments at which SQ and sqgate can die while a file is created
// again, and which files are there then.
func stages(before, after string) []stage {
	return []stage{
		{name: "renamed aside", aside: fileOf(before)},
		{name: "created", aside: fileOf(before), file: fileOf("")},
		{name: "written in part", aside: fileOf(before), file: fileOf(after[:9])},
		{name: "half a character", aside: fileOf(before), file: fileOf("caf\xc3")},
		{name: "written by a child that read no file", aside: fileOf(before), file: fileOf("\x17new")},
		{name: "written", aside: fileOf(before), file: fileOf(after)},
		{name: "done", aside: fileOf(before), file: fileOf(after), done: true},
		{name: "removed", file: fileOf(after), done: true},
	}
}

type stage struct {
	name        string
	aside, file *string
	done        bool // recorded in the journal
}

func (s stage) make(w *world, m Mutation) {
	p := w.begin(m)
	w.lay(BeforePath(w.path(m.File)), s.aside)
	w.lay(w.path(m.File), s.file)
	if s.done {
		id := w.put(m.File, w.read(m.File))
		w.must(p.Done(id))
	}
}

// TestKilledWhileAFileIsCreatedAgain dies at every stage, with and without a
// restart of the machine, and with and without the journal.
func TestKilledWhileAFileIsCreatedAgain(t *testing.T) {
	mutation := update("a.phext", 2, "new")
	after := text(big).After(mutation)
	for _, s := range stages(big, after.Text) {
		for _, reboot := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reboot %v", s.name, reboot), func(t *testing.T) {
				w := closing(t, newWorld(t, t.TempDir(), nil))
				w.put("a.phext", text(big))
				s.make(w, mutation)
				if reboot {
					w.cfg.BootID = "boot-2"
				}
				w.reopen()
				r := w.recover()
				w.noneAside(t)
				if w.read("a.phext") != after || r.Kept != 0 {
					t.Errorf("the file holds %q, %+v", w.read("a.phext").Text, r)
				}
				if s.done == (r.Completed > 0) {
					t.Errorf("%+v", r)
				}
				unique := s.file != nil && *s.file != after.Text && !strings.HasPrefix(after.Text, *s.file)
				if got := w.quarantined(); unique != slices.Contains(got, deref(s.file)) || len(got) > 1 {
					t.Errorf("quarantined: %q", got)
				}
				if again := w.recover(); again.Healed+again.Completed+again.Kept != 0 {
					t.Errorf("a second recovery: %+v", again)
				}
			})
			t.Run(fmt.Sprintf("%s, reboot %v, without the journal", s.name, reboot), func(t *testing.T) {
				w := closing(t, newWorld(t, t.TempDir(), nil))
				w.put("a.phext", text(big))
				s.make(w, mutation)
				w.must(w.set.Close())
				w.must(os.RemoveAll(w.cfg.Dir))
				w.open()
				r := w.recover()
				w.noneAside(t)
				want := text(big)
				if s.aside == nil {
					want = after
				}
				if w.read("a.phext") != want || r.Kept+r.Completed != 0 {
					t.Errorf("the file holds %q, %+v", w.read("a.phext").Text, r)
				}
				var unique []string
				if s.aside != nil && deref(s.file) != "" {
					unique = []string{*s.file}
				}
				if got := w.quarantined(); !slices.Equal(got, unique) || len(r.Quarantined) != len(unique) {
					t.Errorf("quarantined: %q, want %q", got, unique)
				}
			})
		}
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// TestAFileOfWhichTheJournalHasNoRecord is put back, although the journal knows
// another file.
func TestAFileOfWhichTheJournalHasNoRecord(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("b.phext", 1, "other"))
	w.lay(BeforePath(w.path("a.phext")), fileOf(big))
	w.lay(BeforePath(w.path(".phext")), fileOf("no name"))
	w.lay(BeforePath(w.path("c.phext")), fileOf("whole"))
	w.put("c.phext", text("written since"))
	r := w.recover()
	w.noneAside(t)
	if w.read("a.phext") != text(big) || w.read(".phext") != text("no name") || w.read("c.phext") != text("written since") || r.Healed != 2 {
		t.Errorf("%+v", r)
	}
	if got := w.quarantined(); !slices.Equal(got, []string{"whole"}) {
		t.Errorf("quarantined: %q", got)
	}
	w.mutate(update("a.phext", 2, "new"))
	if s, err := w.j.At("a.phext", w.now); err != nil || s != text(big) {
		t.Errorf("the journal says %q, %v", s.Text, err)
	}
}

// TestAWriteWhoseRecordIsLost was not acknowledged: the disk of the journal was away while SQ made it. It is not there
// when it is repeated. An edit after a write that was recorded is kept.
func TestAWriteWhoseRecordIsLost(t *testing.T) {
	for _, recorded := range []bool{false, true} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.mutate(update("a.phext", 1, "before"))
		before := w.read("a.phext").Text
		if recorded {
			w.mutate(update("a.phext", 1, "after"))
		}
		w.lay(BeforePath(w.path("a.phext")), &before)
		w.put("a.phext", text("by SQ, or by hand"))
		w.reopen() // as after a kill
		w.recover()
		w.noneAside(t)
		want, aside := text(before), []string{"by SQ, or by hand"}
		if recorded {
			want, aside = text("by SQ, or by hand"), nil
		}
		if got := w.quarantined(); w.read("a.phext") != want || !slices.Equal(got, aside) {
			t.Errorf("recorded %v: %q, quarantined %q", recorded, w.read("a.phext").Text, got)
		}
	}
}

// TestARolledBackFileIsPutBack leaves a mutation that must not stand to
// recovery.
func TestARolledBackFileIsPutBack(t *testing.T) {
	mutation := update("a.phext", 2, "refused")
	for _, found := range []*string{nil, fileOf(""), fileOf(big[:9]), fileOf("nonsense"), fileOf(text(big).After(mutation).Text)} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.put("a.phext", text(big))
		p := w.begin(mutation)
		w.must(os.Rename(w.path("a.phext"), BeforePath(w.path("a.phext"))))
		w.lay(w.path("a.phext"), found)
		w.must(p.LeaveToRecovery())
		w.recover() // without a restart
		w.noneAside(t)
		if w.read("a.phext") != text(big) {
			t.Errorf("found %q: %q stands there", deref(found), w.read("a.phext").Text)
		}
	}
}

// TestTheJournalWinsAfterAPowerCut finds an old file aside, because its removal
// was not on the disk, or a torn one. It must not be taken for an edit.
func TestTheJournalWinsAfterAPowerCut(t *testing.T) {
	first, second := update("a.phext", 2, "first"), update("a.phext", 3, "second")
	one := text(big).After(first)
	two := one.After(second)
	root, n := t.TempDir(), 0
	for _, pending := range []bool{false, true} {
		for _, aside := range []string{big, one.Text, one.Text[:20], "", "rubbish", "caf\xc3", one.Text[:9] + "\x00\x00", two.Text} {
			for _, file := range []*string{nil, fileOf(""), fileOf(big), fileOf(big[:9]), fileOf(one.Text), fileOf(two.Text), fileOf(two.Text[:50]), fileOf("\x00\x00"), fileOf("rubbish, too")} {
				w := newWorld(t, filepath.Join(root, fmt.Sprint(n)), func(c *Config) { c.Sync = Off }) // for speed
				n++
				w.put("a.phext", text(big))
				w.mutate(first)
				if pending {
					w.begin(second)
				} else {
					w.mutate(second)
				}
				w.lay(BeforePath(w.path("a.phext")), &aside)
				w.lay(w.path("a.phext"), file)
				w.cfg.BootID = "boot-2"
				w.reopen()
				r := w.recover()
				w.noneAside(t)
				if w.read("a.phext") != two || r.Kept != 0 {
					t.Errorf("pending %v, %q aside, found %q: %q, %+v", pending, aside, deref(file), w.read("a.phext").Text, r)
				}
				for _, unique := range []string{aside, deref(file)} {
					lost := strings.HasPrefix(unique, "rubbish") && !slices.Contains(w.quarantined(), unique)
					if lost && (unique != aside || deref(file) != two.Text && deref(file) != one.Text) {
						t.Errorf("pending %v, %q aside, found %q: %q is lost", pending, aside, deref(file), unique)
					}
				}
				w.must(w.set.Close())
			}
		}
	}
}

// TestABatchIsCompletedFromTheFileAside finds a part of a batch in the new
// file.
func TestABatchIsCompletedFromTheFileAside(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.put("a.phext", text(big))
	batch := []Mutation{update("a.phext", 2, "two"), update("a.phext", 3, "three")}
	w.beginTogether(batch)
	w.must(os.Rename(w.path("a.phext"), BeforePath(w.path("a.phext"))))
	w.put("a.phext", text(big).After(batch[1]))
	w.reopen()
	r := w.recover()
	w.noneAside(t)
	if w.read("a.phext") != afterAll(text(big), batch) || r.Completed != 2 || len(w.quarantined()) != 0 {
		t.Errorf("%+v, %q", r, w.read("a.phext").Text)
	}
}

// TestADamagedJournalDoesNotWin finds a file aside with a state whose record
// was in the damaged part of the journal.
func TestADamagedJournalDoesNotWin(t *testing.T) {
	for name, damage := range map[string]func(*world){
		"cut off": func(w *world) { // the last mutation and its end
			b, err := os.ReadFile(w.newest())
			w.must(err)
			at := strings.Index(string(b), "acknowledged")
			b[at] ^= 1
			w.must(os.WriteFile(w.newest(), b, 0o600))
		},
		"without its newest segment": func(w *world) {
			w.j.mustRotate = true
			w.mutate(update("b.phext", 1, "x"))
			w.must(w.j.Suspend())
			w.cfg.BootID = "boot-2"
			w.must(os.WriteFile(w.newest(), []byte("rubbish and more rubbish"), 0o600))
			w.lay(BeforePath(w.path("a.phext")), fileOf("newer than the journal"))
		},
		"without its checkpoint": func(w *world) {
			beside, err := filepath.Glob(filepath.Join(w.j.dir, "*.chk"))
			if err != nil || len(beside) == 0 {
				t.Fatalf("checkpoints: %v, %v", beside, err)
			}
			w.must(os.Remove(beside[0]))
		},
	} {
		for _, found := range []*string{nil, fileOf("torn")} {
			t.Run(fmt.Sprintf("%s, found %q", name, deref(found)), func(t *testing.T) {
				w := newWorld(t, t.TempDir(), nil)
				w.tune = func(s *settings) { s.inlineMax = 30 }
				w.reopen()
				closing(t, w)
				w.put("a.phext", text(big))
				w.mutate(update("a.phext", 2, "acknowledged"))
				w.must(w.j.Suspend())
				w.must(os.Rename(w.path("a.phext"), BeforePath(w.path("a.phext"))))
				damage(w)
				want, err := ReadState(nil, BeforePath(w.path("a.phext")))
				w.must(err)
				w.lay(w.path("a.phext"), found)
				if name == "without its checkpoint" && found != nil {
					want = text(*found) // no write was under way, so this one is the newer
				}
				w.reopen()
				r := w.recover()
				w.noneAside(t)
				if got := w.read("a.phext"); got != want || r.Kept != 1 {
					t.Errorf("%q, want %q, %+v", got.Text, want.Text, r)
				}
				if found != nil && want != text(*found) && !slices.Contains(w.quarantined(), *found) {
					t.Error("what was there is lost")
				}
				if s, err := w.j.At("a.phext", w.now.Add(1e9)); err != nil || s != want {
					t.Errorf("the journal says %q, %v", s.Text, err)
				}
			})
		}
	}
}

// TestNamesAreOnDiskAsThePolicyWants counts syncs of the data_dir after a file
// is put back or removed.
func TestNamesAreOnDiskAsThePolicyWants(t *testing.T) {
	for _, policy := range []Policy{Off, Batch, Always} {
		for _, journalled := range []bool{false, true} {
			w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync = policy }))
			if journalled {
				w.mutate(update("a.phext", 1, "right"))
			}
			w.lay(BeforePath(w.path("a.phext")), fileOf("whole"))
			synced := 0
			w.set.cfg.syncDir = func(dir string) error {
				if fsutil.NodeOf(dir) == fsutil.NodeOf(w.data) {
					synced++
				}
				return nil
			}
			if w.recover(); synced > 0 != (policy != Off) {
				t.Errorf("%v, journalled %v: %d syncs", policy, journalled, synced)
			}
		}
	}
}

// TestWhatIsNoFileAsideIsLeftAlone finds a symbolic link and a directory where
// the writer would put a file.
func TestWhatIsNoFileAsideIsLeftAlone(t *testing.T) {
	for _, journalled := range []bool{false, true} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		secret := filepath.Join(t.TempDir(), "secret")
		w.lay(secret, fileOf("secret"))
		w.must(os.Symlink(secret, BeforePath(w.path("a.phext"))))
		w.must(os.Mkdir(BeforePath(w.path("b.phext")), 0o755))
		w.put("a.phext", text(big))
		if journalled {
			w.begin(update("a.phext", 2, "new"))
			w.put("a.phext", text(""))
		}
		w.reopen()
		w.recover()
		want := text(big)
		if journalled {
			want = want.After(update("a.phext", 2, "new"))
		}
		if w.read("a.phext") != want || w.read("b.phext").Exists {
			t.Errorf("%q", w.read("a.phext").Text)
		}
		if got, err := os.Readlink(BeforePath(w.path("a.phext"))); err != nil || got != secret {
			t.Errorf("the link leads to %q, %v", got, err)
		}
		if info, err := os.Stat(BeforePath(w.path("b.phext"))); err != nil || !info.IsDir() {
			t.Errorf("the directory is gone: %v", err)
		}
		if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
			t.Errorf("the link was followed: %q, %v", b, err)
		}
	}
}

// TestNoRoomToCompleteFromTheFileAside puts the file back and aborts the
// mutation.
func TestNoRoomToCompleteFromTheFileAside(t *testing.T) {
	for _, found := range []*string{nil, fileOf(""), fileOf(big[:9])} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.put("a.phext", text(big))
		w.begin(update("a.phext", 2, "new"))
		w.must(os.Rename(w.path("a.phext"), BeforePath(w.path("a.phext"))))
		w.lay(w.path("a.phext"), found)
		w.reopen()
		v, err := w.j.view(true)
		w.must(err)
		r := w.j.recovery(v, w.j.dataDir, &Report{})
		logs, err := v.fileLogs(r.segment)
		w.must(err)
		r.replace = func(string, State) error { return syscall.ENOSPC }
		w.must(r.file("a.phext", logs["a.phext"], true))
		v.close()
		w.noneAside(t)
		if w.read("a.phext") != text(big) || r.report.Completed != 0 {
			t.Errorf("%+v, %q", r.report, w.read("a.phext").Text)
		}
		if again := w.recover(); again.Completed+again.Healed+again.Kept != 0 {
			t.Errorf("a second recovery: %+v", again)
		}
	}
}

// TestWhatCannotBeQuarantinedStays keeps a unique file, although another one
// could take its place.
func TestWhatCannotBeQuarantinedStays(t *testing.T) {
	for _, aside := range []string{big, "unknown"} {
		for _, journalled := range []bool{false, true} {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.put("a.phext", text(big))
			if journalled {
				w.mutate(update("a.phext", 2, "new"))
			}
			w.lay(BeforePath(w.path("a.phext")), &aside)
			w.put("a.phext", text("unique"))
			w.lay(w.cfg.Quarantine, fileOf("no directory"))
			w.cfg.BootID = "boot-2"
			w.reopen()
			if _, err := w.j.Recover(context.Background()); err == nil {
				t.Error("recovered without a quarantine")
			}
			if got, err := ReadState(nil, BeforePath(w.path("a.phext"))); w.read("a.phext") != text("unique") || got != text(aside) || err != nil {
				t.Errorf("%q, and %q aside, %v", w.read("a.phext").Text, got.Text, err)
			}
			w.lay(w.cfg.Quarantine, nil)
			w.recover()
			w.noneAside(t)
			if !slices.Contains(w.quarantined(), "unique") {
				t.Error("it is lost")
			}
		}
	}
}

func TestTheNamesOfFilesAside(t *testing.T) {
	if got := BeforePath("/d/notes.phext"); got != "/d/.notes.phext.before" {
		t.Error(got)
	}
	for name, want := range map[string]string{
		".notes.phext.before": "notes.phext", "..phext.before": ".phext", "..a.phext.before": ".a.phext",
		"notes.phext.before": "", ".notes.before": "", ".notes.phext": "", ".phext.before": "", ".before": "", "..before": "",
	} {
		if file, ok := FileBefore(name); ok != (want != "") || ok && file != want {
			t.Errorf("%s: %q, %v", name, file, ok)
		}
	}
}

// TestAnOldFileAsideReplacesNothing leaves old or unfit files aside beside a phext
// that was written since: by an older sqgate, by SQ alone, or by hand.
func TestAnOldFileAsideReplacesNothing(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(w *world) // before the start
		aside   string
		want    string
	}{
		{"the newest segment does not know the phext", func(w *world) {
			w.mutate(update("a.phext", 1, "acknowledged"))
			w.j.mustRotate = true
			w.mutate(update("b.phext", 1, "other"))
		}, "old", "acknowledged"},
		{"the journal never knew it, and the one aside is not UTF-8", func(w *world) {
			w.mutate(update("b.phext", 1, "other"))
			w.put("a.phext", text("good"))
		}, "\xff", "good"},
		{"there is no journal, and the one aside is empty", func(w *world) { w.put("a.phext", text("good")) }, "", "good"},
		{"there is no journal, and the file was written long after", func(w *world) {
			w.put("a.phext", text("good"))
			later := time.Now().Add(time.Hour)
			w.must(os.Chtimes(w.path("a.phext"), later, later))
		}, "old", "good"},
		{"written by hand after the crash", func(w *world) {
			w.put("a.phext", text("old"))
			w.begin(update("a.phext", 1, "under way"))
			w.put("a.phext", text("by hand"))
		}, "old", "by hand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			c.prepare(w)
			w.lay(BeforePath(w.path("a.phext")), &c.aside)
			w.reopen()
			w.recover()
			w.noneAside(t)
			if got := w.read("a.phext"); got != text(c.want) {
				t.Errorf("%q, want %q", got.Text, c.want)
			}
		})
	}
}

// TestADamagedCheckpointAndAnUnfitFileAside must not keep the directory from
// being served: what is there is fit.
func TestADamagedCheckpointAndAnUnfitFileAside(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	w.tune = func(s *settings) { s.inlineMax = 30 }
	w.reopen()
	closing(t, w)
	w.put("a.phext", text(big))
	w.mutate(update("a.phext", 2, "acknowledged"))
	want := w.read("a.phext")
	w.must(w.j.Suspend())
	beside, err := filepath.Glob(filepath.Join(w.j.dir, "*.chk"))
	if err != nil || len(beside) == 0 {
		t.Fatalf("checkpoints: %v, %v", beside, err)
	}
	w.must(os.Remove(beside[0]))
	w.put("a.phext", want) // touched
	w.lay(BeforePath(w.path("a.phext")), fileOf("\xff\xff"))
	w.reopen()
	if r := w.recover(); w.read("a.phext") != want || r.Kept != 1 {
		t.Errorf("%q, %+v", w.read("a.phext").Text, r)
	}
	w.noneAside(t)
}
