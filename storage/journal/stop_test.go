package journal

import (
	"context"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestAFileFromBeforeTheBoot has a file that is no state of the journal's. After
// a power cut it is torn, and the right text replaces it; it is an edit if it was
// changed since the boot, or if the journal was stopped in order.
func TestAFileFromBeforeTheBoot(t *testing.T) {
	older := time.Now().Add(-24 * time.Hour)
	for _, c := range []struct {
		name    string
		boot    time.Duration // from the last change of the file to the boot
		clean   bool
		same    bool // the machine was not restarted
		pending bool
		kept    bool
		record  time.Duration // from the last change of the file to the last record; 0 = it was long before
		clock   time.Duration // by which the clock is ahead of the file system's
	}{
		{"a power cut", time.Hour, false, false, false, false, 0, 0},
		{"a power cut while SQ writes", time.Hour, false, false, true, false, 0, 0},
		{"within the margin", -time.Second, false, false, false, false, 0, 0},
		{"changed since the boot", -time.Minute, false, false, false, true, 0, 0},
		{"changed since the boot, pending", -time.Minute, false, false, true, true, 0, 0},
		{"after a clean stop", time.Hour, true, false, false, true, 0, 0},
		{"a crash of sqgate alone", time.Hour, false, true, false, true, 0, 0},
		{"the clock is behind at the boot", -time.Hour, false, false, false, false, -time.Second, 0},
		{"the clock is behind, and the file was changed late", -time.Hour, false, false, false, false, -2 * time.Minute, 0},
		{"the clock is behind, and the file was changed after the start", -time.Hour, false, false, false, true, -2 * time.Minute, 0},
		{"the clock is behind, after a clean stop", -time.Hour, true, false, false, true, -time.Second, 0},
		{"the clock is behind, and sqgate alone has crashed", -time.Hour, false, true, false, true, -time.Second, 0},
		{"the clock is behind, and nothing was written for long", -2 * time.Hour, false, false, false, false, -time.Hour, -time.Minute},
		{"the clock is behind after a clean stop, and nothing was written for long", -2 * time.Hour, true, false, false, true, -time.Hour, -time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.tune = func(s *settings) { s.fileNow = func() time.Time { return time.Now().Add(c.clock) } }
			w.reopen()
			if c.record != 0 {
				w.now = time.Now().Add(c.record)
			}
			w.put("a.phext", text("acknowledged"))
			w.mutate(update("a.phext", 2, "too"))
			want := w.read("a.phext")
			if c.pending {
				w.begin(update("a.phext", 3, "begun"))
				want = want.After(update("a.phext", 3, "begun"))
			}
			if c.clean {
				w.must(w.set.Close())
			}
			strange := text("no state of it")
			edit := func() {
				w.put("a.phext", strange)
				w.must(os.Chtimes(w.path("a.phext"), older, older)) // as cp -p does; it proves nothing
			}
			edit()
			if !c.same {
				w.cfg.BootID = "boot-2"
			}
			w.cfg.BootTime = time.Now().Add(c.boot)
			if c.clean {
				w.open()
			} else {
				(&model{world: w}).reopenAfterCut()
			}
			if strings.HasSuffix(c.name, "after the start") {
				edit()
			}
			r := w.recover()
			if c.kept {
				want = strange
			}
			if got := w.read("a.phext"); got != want || (r.Kept == 1) != c.kept || (len(r.Quarantined) == 1) == c.kept {
				t.Errorf("%q after %+v, want %q", got.Text, r, want.Text)
			}
		})
	}
}

// TestAStopIsForgottenBeforeAWrite cuts the power after a clean stop, a start and a
// write: its record is lost, and a part of what SQ wrote is on the disk.
func TestAStopIsForgottenBeforeAWrite(t *testing.T) {
	for _, policy := range []Policy{Off, Batch} {
		w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync = policy }))
		w.mutate(update("a.phext", 1, "acknowledged"))
		want := w.read("a.phext")
		w.must(w.set.Close())
		w.open()
		info, err := os.Stat(w.newest())
		w.must(err)
		synced := false
		w.set.cfg.syncDir = func(dir string) error { synced = synced || dir == w.j.dir; return nil }
		w.begin(update("a.phext", 2, "written"))
		if !synced {
			t.Errorf("%v: the note may come back", policy)
		}
		w.must(os.Truncate(w.newest(), info.Size()))
		w.put("a.phext", text("a part of it"))
		w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
		(&model{world: w}).reopenAfterCut()
		if r := w.recover(); w.read("a.phext") != want || r.Kept != 0 {
			t.Errorf("%v: %q after %+v", policy, w.read("a.phext").Text, r)
		}
	}
}

// TestAnEditAfterACleanStop is kept, whatever it looks like: all phexts were on the disk.
func TestAnEditAfterACleanStop(t *testing.T) {
	for name, edit := range map[string]State{
		"removed": {}, "emptied": text(""), "cut short": text(big[:9]), "an older state": text(big), "NULs": text(big + "\x00\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.put("a.phext", text(big))
			w.mutate(update("a.phext", 2, "new"))
			w.must(w.set.Close())
			w.put("a.phext", edit)
			w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
			w.open()
			if r := w.recover(); w.read("a.phext") != edit || r.Kept != 1 || r.Healed != 0 {
				t.Errorf("%q after %+v", w.read("a.phext").Text, r)
			}
		})
	}
}

// TestARecoveryThatIsRepeatedAfterACleanStop keeps the edits that the first one has not reached.
func TestARecoveryThatIsRepeatedAfterACleanStop(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	for _, file := range []string{"a.phext", "b.phext"} {
		w.put(file, text(big))
		w.mutate(update(file, 2, "new"))
	}
	w.must(w.set.Close())
	edit := text(big[:9])
	for _, file := range []string{"a.phext", "b.phext"} {
		w.put(file, edit)
	}
	w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
	ctx, kill := context.WithCancel(t.Context())
	w.cfg.Write = func(f *os.File, b []byte, off int64) (int, error) { kill(); return f.WriteAt(b, off) }
	w.open()
	if _, err := w.j.Recover(ctx); err == nil {
		t.Fatal("it has reached all")
	}
	w.cfg.Write = nil
	(&model{world: w}).reopenAfterCut()
	for _, file := range []string{"a.phext", "b.phext"} {
		if r := w.recover(); w.read(file) != edit || r.Healed != 0 {
			t.Errorf("%q after %+v", w.read(file).Text, r)
		}
	}
}

// TestAPhextIsRemovedBeforeAStop stays removed, and is no reason to take other edits back.
func TestAPhextIsRemovedBeforeAStop(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.recoverFor("will")
	for _, file := range []string{"a.phext", "b.phext"} {
		w.put(file, text(big))
		w.mutate(update(file, 2, "new"))
	}
	edit := text(big[:9])
	w.put("a.phext", State{})
	w.put("b.phext", edit)
	w.must(w.set.Close())
	w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
	w.open()
	if r := w.recoverFor("will"); w.read("a.phext").Exists || w.read("b.phext") != edit || len(r.Quarantined) > 0 {
		t.Errorf("%q and %q after %+v", w.read("a.phext").Text, w.read("b.phext").Text, r)
	}
}

// TestAStopThatKnowsNothing is no reason to take for an edit what a power cut has torn: nobody had
// recovered the files, or they were not there.
func TestAStopThatKnowsNothing(t *testing.T) {
	for name, stop := range map[string]func(w *world){
		"before the recovery": func(w *world) {
			w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
			(&model{world: w}).reopenAfterCut()
			w.j.LastSeen("a.phext") // opens it
			w.must(w.set.Close())
		},
		"while the disk is missing": func(w *world) {
			w.must(os.Rename(w.data, w.data+".away"))
			w.must(os.Mkdir(w.data, 0o700)) // the mount point
			w.must(w.set.Close())
			w.must(os.Remove(w.data))
			w.must(os.Rename(w.data+".away", w.data))
			w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.recoverFor("will")
			w.put("a.phext", text(big))
			w.mutate(update("a.phext", 2, "new"))
			want := w.read("a.phext")
			w.put("a.phext", text(big[:9]))
			stop(w)
			w.open()
			if r := w.recoverFor("will"); w.read("a.phext") != want || r.Kept != 0 {
				t.Errorf("%q after %+v", w.read("a.phext").Text, r)
			}
		})
	}
}

// TestAStopThatIsNotClean notes no clean stop.
func TestAStopThatIsNotClean(t *testing.T) {
	for name, spoil := range map[string]func(w *world){
		"a pending mutation":     func(w *world) { w.begin(update("a.phext", 1, "x")) },
		"left to recovery":       func(w *world) { w.must(w.begin(update("a.phext", 1, "x")).LeaveToRecovery()) },
		"a sync that failed":     func(w *world) { w.j.seg.failed = syscall.EIO },
		"a phext not on disk":    func(w *world) { w.set.cfg.syncPhext = func(*os.File) error { return syscall.EIO } },
		"a mutation after a one": func(w *world) { w.must(w.j.Suspend()); w.mutate(update("a.phext", 1, "x")) },
		"nothing":                nil,
	} {
		w := newWorld(t, t.TempDir(), nil)
		w.mutate(update("a.phext", 1, "first"))
		dead := false
		if spoil != nil {
			spoil(w)
		}
		if name == "a mutation after a one" { // which ends without a stop
			w.must(w.j.seg.f.Close())
			w.j.seg, w.j.isOpen, dead = nil, false, true
		}
		if err := w.set.Close(); err != nil && name != "a phext not on disk" && !dead {
			t.Errorf("%s: %v", name, err)
		}
		w.open()
		w.j.LastSeen("a.phext") // opens it
		if (w.j.seg.stopped != "") != (spoil == nil) {
			t.Errorf("%s: stopped at %q", name, w.j.seg.stopped)
		}
		w.recover()
		w.must(w.set.Close())
	}
}

// TestARecoveryThatIsCutOff takes no edit from after the boot for a torn file at the next start:
// what it has recorded itself is not from before the boot.
func TestARecoveryThatIsCutOff(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	for _, file := range []string{"a.phext", "b.phext"} {
		w.mutate(update(file, 1, "acknowledged"))
	}
	w.cfg.BootID, w.cfg.BootTime, w.now = "boot-2", time.Now().Add(-time.Minute), time.Now()
	(&model{world: w}).reopenAfterCut()
	w.put("a.phext", text("by hand"))
	id := w.put("b.phext", text("by hand, too"))
	w.must(w.j.RecordEdit("a.phext", w.read("a.phext"), id)) // as a recovery that is killed then
	(&model{world: w}).reopenAfterCut()
	if r := w.recover(); w.read("b.phext") != text("by hand, too") || len(r.Quarantined) > 0 {
		t.Errorf("%q, %+v", w.read("b.phext").Text, r)
	}
}

// TestAStopOfAnotherSegment says nothing of one that has got its number.
func TestAStopOfAnotherSegment(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.put("a.phext", text(big))
	w.mutate(update("a.phext", 1, "x"))
	w.must(w.set.Close())
	w.must(os.WriteFile(w.newest(), []byte("no segment"), 0o600))
	w.open()
	w.recover()
	for i := range uint32(3) {
		w.mutate(update("a.phext", 2+i, big))
	}
	want := w.read("a.phext")
	w.put("a.phext", text(big[:9]))
	w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
	(&model{world: w}).reopenAfterCut()
	if r := w.recover(); w.read("a.phext") != want {
		t.Errorf("%q after %+v", w.read("a.phext").Text, r)
	}
}

// TestWhatARecoveryWritesIsOnTheDisk with every policy: a later cut must not take it for an edit.
func TestWhatARecoveryWritesIsOnTheDisk(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync = Off }))
	w.put("a.phext", text(big))
	w.mutate(update("a.phext", 1, "x"))
	want, onDisk := w.read("a.phext"), false
	w.must(w.set.Close())
	w.put("a.phext", text("\xff"))
	w.tune = func(s *settings) {
		replace := s.replace
		s.replace = func(path string, content io.WriterTo, mode os.FileMode, durable bool) error {
			onDisk = onDisk || durable && fsutil.Resolve(path) == w.path("a.phext")
			return replace(path, content, mode, durable)
		}
	}
	w.open()
	if w.recover(); w.read("a.phext") != want || !onDisk {
		t.Errorf("%q, on the disk: %v", w.read("a.phext").Text, onDisk)
	}
}
