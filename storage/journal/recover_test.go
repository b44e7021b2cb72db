package journal

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const big = "the whole of a phext, long enough to be torn"

// TestRecovery has what may be in the data_dir after a crash, and what recovery
// makes of it.
func TestRecovery(t *testing.T) {
	mutation := update("a.phext", 2, "new")
	before := text(strings.Repeat(big, 1+blockSize/len(big)))
	after := before.After(mutation)
	for _, c := range []struct {
		name     string
		finished bool // the mutation ended before the crash
		reboot   bool
		found    State
		want     State
		report   Report // without Quarantined
	}{
		{"not begun", false, false, before, after, Report{Checked: 1, Completed: 1}},
		{"complete", false, false, after, after, Report{Checked: 1, Completed: 1}},
		{"truncated", false, false, text(""), after, Report{Checked: 1, Completed: 1, Healed: 1}},
		{"torn", false, false, text(big[:9]), after, Report{Checked: 1, Completed: 1, Healed: 1}},
		{"gone", false, false, State{}, after, Report{Checked: 1, Completed: 1, Healed: 1}},
		{"half a character", false, false, text("caf\xc3"), after, Report{Checked: 1, Completed: 1, Healed: 1}},
		{"edited meanwhile", false, false, text("by hand"), text("by hand"), Report{Checked: 1, Kept: 1}},
		{"made of nothing", false, false, text("\x17new"), after, Report{Checked: 1, Completed: 1, Healed: 1}},
		{"half made of nothing", false, false, text("\x17n"), after, Report{Checked: 1, Completed: 1, Healed: 1}},
		{"made of something else", false, false, text("by hand\x17new"), text("by hand\x17new"), Report{Checked: 1, Kept: 1}},
		{"not begun, power cut", false, true, before, after, Report{Checked: 1, Completed: 1}},
		{"NULs, power cut", false, true, text(big[:9] + "\x00\x00\x00"), after, Report{Checked: 1, Completed: 1, Healed: 1}},

		{"done and untouched", true, false, after, after, Report{Checked: 1}},
		{"done and edited", true, false, text("by hand"), text("by hand"), Report{Checked: 1, Kept: 1}},
		{"done and emptied", true, false, text(""), text(""), Report{Checked: 1, Kept: 1}},
		{"done and removed", true, false, State{}, State{}, Report{Checked: 1, Kept: 1}},
		{"done and spoilt", true, false, text("caf\xc3"), after, Report{Checked: 1, Healed: 1}},
		{"done, power cut", true, true, after, after, Report{Checked: 1}},
		{"done, torn by a power cut", true, true, text(big[:9]), after, Report{Checked: 1, Healed: 1}},
		{"done, gone in a power cut", true, true, State{}, after, Report{Checked: 1, Healed: 1}},
		{"done, outdated by a power cut", true, true, before, after, Report{Checked: 1, Healed: 1}},
		{"done, NULs after a power cut", true, true, text(big + "\x00\x00"), after, Report{Checked: 1, Healed: 1}},
		{"done, a hole after a power cut", true, true, text(strings.Repeat("\x00", len(before.Text)) + "\x17new"), after, Report{Checked: 1, Healed: 1}},
		{"done and edited, power cut", true, true, text("by hand"), text("by hand"), Report{Checked: 1, Kept: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.put("a.phext", before)
			p := w.begin(mutation)
			if c.finished {
				w.must(p.Done(w.put("a.phext", after)))
			}
			w.put("a.phext", c.found)
			if c.reboot {
				w.cfg.BootID = "boot-2"
				(&model{world: w}).reopenAfterCut()
			} else {
				w.reopen()
			}
			got := w.recover()
			aside := got.Quarantined
			got.Quarantined = nil
			if w.read("a.phext") != c.want || got.Checked != c.report.Checked || got.Healed != c.report.Healed || got.Completed != c.report.Completed || got.Kept != c.report.Kept {
				t.Errorf("the file holds %q, %+v", w.read("a.phext").Text, got)
			}
			if (len(aside) > 0) != (c.report.Healed > 0 && c.found.Exists) {
				t.Errorf("set aside: %v", aside)
			}
			for _, path := range aside {
				if b, err := os.ReadFile(path); err != nil || string(b) != c.found.Text {
					t.Errorf("the quarantine holds %q, %v", b, err)
				}
			}
			if again := w.recover(); again.Healed+again.Completed+again.Kept != 0 {
				t.Errorf("a second recovery: %+v", again)
			}
			if s, err := w.j.At("a.phext", w.now.Add(1e9)); err != nil || s != c.want {
				t.Errorf("the journal has %q, %v", s.Text, err)
			}
		})
	}
}

func TestRecoveryOfWholeFiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		m      Mutation
		before State
	}{
		{"replace", Mutation{File: "a.phext", Op: Replace, Text: "as it was\x17\x17"}, text(big)},
		{"replace nothing", Mutation{File: "a.phext", Op: Replace, Text: "as it was"}, State{}},
		{"remove", Mutation{File: "a.phext", Op: Remove}, text(big)},
		{"remove nothing", Mutation{File: "a.phext", Op: Remove}, State{}},
	} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.put("a.phext", c.before)
		w.begin(c.m)
		w.reopen()
		if r := w.recover(); w.read("a.phext") != c.before.After(c.m) || r.Completed != 1 {
			t.Errorf("%s: %q, %+v", c.name, w.read("a.phext").Text, r)
		}
	}
}

func TestRecoveryRemovesWhatWasNeverFinished(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.put(".sqgate-123", text("half"))
	w.put("other", text("mine"))
	w.must(os.Mkdir(w.path(".sqgate-dir"), 0o755))
	w.recover()
	if w.read(".sqgate-123").Exists || !w.read("other").Exists {
		t.Error("the wrong file was removed")
	}
	if _, err := os.Stat(w.path(".sqgate-dir")); err != nil {
		t.Error(err)
	}
}

func TestRecoveryStopsAndGoesOn(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	for _, f := range []string{"a.phext", "b.phext"} {
		w.put(f, text(big))
		w.begin(update(f, 2, "new"))
	}
	w.reopen()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.j.Recover(ctx); err == nil {
		t.Error("a recovery that was stopped says nothing")
	}
	w.reopen()
	if r := w.recover(); r.Completed != 2 {
		t.Errorf("%+v", r)
	}
}

func TestRecoveryWithoutACheckpoint(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	w.tune = func(s *settings) { s.inlineMax = 8 }
	w.reopen()
	closing(t, w)
	w.put("a.phext", text(big))
	w.begin(update("a.phext", 2, "new"))
	w.put("a.phext", text(""))
	w.must(w.j.Suspend())
	if r := w.recover(); r.Completed != 1 || w.read("a.phext") != text(big+"\x17new") {
		t.Errorf("%+v, %q", r, w.read("a.phext").Text)
	}
	beside, err := filepath.Glob(filepath.Join(w.j.dir, "*.chk"))
	if err != nil || len(beside) != 1 {
		t.Fatalf("checkpoints: %v, %v", beside, err)
	}
	w.must(os.WriteFile(beside[0], []byte(strings.ToUpper(big)), 0o600))
	w.put("a.phext", text("newer"))
	if r := w.recover(); r.Kept != 1 || w.read("a.phext") != text("newer") {
		t.Errorf("%+v, %q", r, w.read("a.phext").Text)
	}
	w.must(os.Remove(beside[0]))
	w.begin(update("a.phext", 2, "new"))
	if r := w.recover(); r.Completed != 1 {
		t.Errorf("after the edit was journalled: %+v", r)
	}
}

// TestARefusedMutationIsUndone crashes before a refused mutation was rolled
// back, or has a disk that does not allow the rollback.
func TestARefusedMutationIsUndone(t *testing.T) {
	mutation := update("a.phext", 2, "refused")
	for _, found := range []State{text(big), text(""), text(big[:9]), text(big).After(mutation), text("caf\xc3"), {}} {
		for _, reboot := range []bool{false, true} {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.put("a.phext", text(big))
			p := w.begin(mutation)
			w.put("a.phext", found)
			w.must(p.LeaveToRecovery())
			if _, known := w.j.LastSeen("a.phext"); known {
				t.Error("it is said how a file was left that nobody knows")
			}
			if reboot {
				w.cfg.BootID = "boot-2"
			}
			w.reopen()
			w.recover()
			if got := w.read("a.phext"); got != text(big) {
				t.Errorf("found %q, reboot %v: %q stands there", found.Text, reboot, got.Text)
			}
			if r := w.recover(); r.Healed+r.Kept+r.Completed > 0 {
				t.Errorf("found %q, reboot %v: the second recovery did %+v", found.Text, reboot, r)
			}
		}
	}
}

// TestWhenACompletedMutationWas is before the crash, also if recovery finds edits: whoever goes
// back to a moment after its answer has it.
func TestWhenACompletedMutationWas(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "before"))
	w.put("b.phext", text("before"))
	w.must(w.begin(update("b.phext", 2, "text")).Sync()) // and answered: what is missing is the record of its end
	answered := w.now
	w.put("a.phext", text("by hand"))
	w.now = w.now.Add(time.Hour)
	w.cfg.BootID = "boot-2"
	(&model{world: w}).reopenAfterCut()
	if r := w.recover(); r.Completed != 1 || r.Kept != 1 {
		t.Fatalf("%+v", r)
	}
	if s, err := w.j.At("b.phext", answered.Add(time.Second)); err != nil || s != text("before\x17text") {
		t.Errorf("right after the answer: %q, %v", s.Text, err)
	}
	events, err := w.j.History(Query{Limit: 10})
	w.must(err)
	for i, e := range events {
		if i > 0 && !e.Time.After(events[i-1].Time) {
			t.Errorf("%v is not after %v", e.Time, events[i-1].Time)
		}
		if edited := e.Op == "edited"; edited != e.Time.After(answered.Add(time.Second)) {
			t.Errorf("%s at %v", e.Op, e.Time)
		}
	}
	if len(events) != 3 {
		t.Errorf("%d events", len(events))
	}
}
