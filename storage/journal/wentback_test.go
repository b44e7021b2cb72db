package journal

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestADiskThatWasAway has files that are older than they were seen last, in the same run of the kernel. What was
// acknowledged is made again. An edit by hand is newer than that, unless the clock was put back, and is kept.
func TestADiskThatWasAway(t *testing.T) {
	for _, c := range []struct {
		name    string
		became  State
		by      time.Duration // how much older it is
		changes func(w *world)
		kept    bool
		other   bool // it is not the file of which the journal knows, or that is not known
	}{
		{"an old state", text("first"), time.Hour, nil, false, false},
		{"a beginning", text("fi"), time.Hour, nil, false, false},
		{"nothing in it", text(""), time.Hour, nil, false, false},
		{"no state of it", text("blocks of others"), time.Hour, nil, false, false},
		{"no state of it, and the clock was put back", text("an edit"), time.Hour, func(w *world) {
			w.set.cfg.fileNow = time.Now
		}, true, true},
		{"gone, and the clock was put back", State{}, time.Hour, func(w *world) { w.set.cfg.fileNow = time.Now }, true, true},
		{"gone", State{}, time.Hour, nil, false, false},
		{"as old, and nothing in it", text(""), 0, nil, false, false},
		{"gone later", State{}, -time.Hour, nil, true, false},
		{"an old state, made later", text("first"), -time.Hour, nil, true, false},
		{"gone, with a file that was not finished", State{}, time.Hour, func(w *world) {
			w.must(os.WriteFile(w.path(fsutil.Temporary+"1"), nil, 0o600))
		}, false, false},
		{"a link", State{}, time.Hour, func(w *world) {
			w.must(os.WriteFile(w.data+"/old", []byte("first"), 0o600))
			w.must(os.Symlink(w.data+"/old", w.path("a.phext")))
		}, true, true},
		{"another directory", text("first"), time.Hour, (*world).movePhexts, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			w.cfg.Links = func(string, string, fsutil.FileID) bool { return true }
			w.tune = later
			w.reopen()
			w.recoverFor("will")
			if n, err := w.set.cfg.noteOf(w.j.dir); err != nil || n.Directory == "" {
				t.Skip("the file system does not say when a directory was made")
			}
			w.mutate(update("a.phext", 1, "first"))
			p := w.begin(update("a.phext", 1, "acknowledged"))
			id := w.put("a.phext", text("acknowledged"))
			id.Ctime += int64(c.by)
			if now := w.put("a.phext", c.became); c.by == 0 {
				id.Ctime = now.Ctime
			}
			w.must(p.Done(id))
			if c.changes != nil {
				c.changes(w)
			}
			want, _ := os.ReadFile(w.path("a.phext"))
			now, err := w.cfg.Links.Identify(w.path("a.phext"))
			w.must(err)
			at, release := w.held()
			defer release()
			if got := w.j.WentBack(at, "a.phext", now); got != (c.by >= 0 && !c.other) {
				t.Errorf("it went back: %v", got)
			}
			if !c.kept {
				want = []byte("acknowledged")
			}
			r := w.recoverFor("will")
			if got, _ := os.ReadFile(w.path("a.phext")); string(got) != string(want) {
				t.Errorf("%q after %+v", got, r)
			}
		})
	}
}

// later has files that are older than they were seen, since their times are not to come.
func later(s *settings) { s.fileNow = func() time.Time { return time.Now().Add(2 * time.Hour) } }

// TestNewPhextsOfADiskThatWasAway are all made again, though the first that is made changes the directory, and also
// if the recovery is cut off after it.
func TestNewPhextsOfADiskThatWasAway(t *testing.T) {
	for _, cutOff := range []bool{false, true} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.recoverFor("will")
		if n, err := w.set.cfg.noteOf(w.j.dir); err != nil || n.Directory == "" {
			t.Skip("the file system does not say when a directory was made")
		}
		files := []string{"a.phext", "b.phext", "c.phext"}
		done := map[string]func(changed int64) error{}
		for _, file := range files {
			p := w.begin(update(file, 1, "acknowledged"))
			id := w.put(file, text("acknowledged"))
			done[file] = func(changed int64) error { id.Ctime = changed; return p.Done(id) }
			w.put(file, State{})
		}
		var dir unix.Stat_t
		w.must(unix.Stat(w.data, &dir))
		for _, file := range files {
			w.must(done[file](dir.Ctim.Nano() + 1))
		}
		if cutOff {
			v, err := w.j.view(true)
			w.must(err)
			r := w.j.recovery(v, w.data, &Report{})
			logs, err := v.fileLogs(r.segment)
			w.must(err)
			w.must(r.lookForLost(logs))
			v.close()
			w.put("other", text(""))
			(&model{world: w}).reopenAfterCut()
		}
		w.recoverFor("will")
		for _, file := range files {
			if got := w.read(file); got != text("acknowledged") {
				t.Errorf("cut off %v, %s: %q", cutOff, file, got.Text)
			}
		}
	}
}

// TestAnOlderFileOfAnEarlierSegment is what somebody has put there: it was on the disk when the newest one was begun.
func TestAnOlderFileOfAnEarlierSegment(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.recoverFor("will")
	w.mutate(update("a.phext", 1, "text"))
	w.must(w.rotate())
	w.j.files["a.phext"].lastSeen.Ctime += int64(time.Hour)
	id := w.put("a.phext", text("older"))
	if w.j.WentBack(w.data, "a.phext", id) {
		t.Error("it went back")
	}
	w.must(w.j.RecordEdit("a.phext", w.read("a.phext"), id))
}
