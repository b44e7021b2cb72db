package journal

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asOthers runs f without what lets root open every file.
func asOthers(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	head, was := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capget(&head, &was[0]); err != nil {
		t.Fatal(err)
	}
	now := was
	now[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	if err := unix.Capset(&head, &now[0]); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Capset(&head, &was[0]); err != nil {
			t.Error(err)
		}
	}()
	f()
}

// TestAPhextThatCannotBeOpenedAfterACut is recovered when it can be, also after others were written
// and sqgate was stopped in order. What it is instead goes to the quarantine: nobody can tell an
// older state from an edit.
func TestAPhextThatCannotBeOpenedAfterACut(t *testing.T) {
	const right, link = "no right", "link"
	const moved, twice = "moved", "moved twice"
	for name, c := range map[string]struct {
		why, where string
		pending    bool
		meanwhile  string
	}{
		"no right":                     {why: right},
		"no right, pending":            {why: right, pending: true},
		"no right, moved":              {why: right, where: moved},
		"no right, moved, pending":     {why: right, where: moved, pending: true},
		"no right, moved twice":        {why: right, where: twice},
		"link":                         {why: link},
		"link, pending":                {why: link, pending: true},
		"edited":                       {why: right, meanwhile: "an edit"},
		"edited, moved":                {why: right, where: moved, meanwhile: "an edit"},
		"damaged by another power cut": {why: right, meanwhile: "ackn"},
	} {
		t.Run(name, func(t *testing.T) {
			asOthers(t, func() {
				w := closing(t, newWorld(t, t.TempDir(), nil))
				w.recoverFor("will")
				w.now = time.Now().Add(-time.Hour)
				w.mutate(update("a.phext", 1, "old"))
				if c.pending {
					w.must(w.begin(update("a.phext", 1, "acknowledged")).Sync())
				} else {
					w.mutate(update("a.phext", 1, "acknowledged"))
				}
				w.put("a.phext", text("old"))
				w.must(os.Chtimes(w.path("a.phext"), time.Unix(1, 0), time.Unix(1, 0)))
				w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(-time.Minute)
				(&model{world: w}).reopenAfterCut()
				aside := filepath.Join(filepath.Dir(w.data), "aside")
				closed, opened := func() error { return os.Chmod(w.path("a.phext"), 0) }, func() error { return os.Chmod(w.path("a.phext"), 0o600) }
				if c.why == link {
					closed = func() error {
						return errors.Join(os.Rename(w.path("a.phext"), aside), os.Symlink(aside, w.path("a.phext")))
					}
					opened = func() error { return os.Rename(aside, w.path("a.phext")) }
				}
				w.must(closed())
				if c.where != "" {
					w.move()
				}
				w.recoverFor("will")
				if c.where == twice {
					w.move()
					w.recoverFor("will")
				}
				w.mutate(update("b.phext", 1, "b"))
				w.reopen()
				w.recoverFor("will")
				if left, err := w.j.Unopened(); err != nil || len(left) != 1 || left[0] != "a.phext" {
					t.Fatalf("%q wait, %v", left, err)
				}
				w.must(opened())
				if c.meanwhile != "" {
					w.put("a.phext", text(c.meanwhile))
				}
				w.recoverFor("will")
				if got := w.read("a.phext"); got != text("acknowledged") {
					t.Errorf("%q", got.Text)
				}
				if aside := w.quarantined(); !slices.Contains(aside, cmp.Or(c.meanwhile, "old")) {
					t.Errorf("the quarantine has %q", aside)
				}
				if left, err := w.j.Unopened(); err != nil || len(left) > 0 {
					t.Errorf("%q wait still, %v", left, err)
				}
				if got := w.read("b.phext"); got != text("b") {
					t.Errorf("the other one: %q", got.Text)
				}
			})
		})
	}
}

// move moves the data_dir, and has its tenant go with it.
func (w *world) move() {
	w.t.Helper()
	before := w.data
	w.data += ".now"
	w.must(os.Rename(before, w.data))
	w.recoverCopies("will")
	j, err := w.set.Of(w.data)
	w.must(err)
	w.j = j
}

// TestAPhextThatCannotBeOpenedIsRemoved by somebody, and is not made again, nor is it made for others.
func TestAPhextThatCannotBeOpenedIsRemoved(t *testing.T) {
	for _, others := range []bool{false, true} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.recoverFor("will")
		w.cut(-time.Minute)
		w.must(errors.Join(os.Remove(w.path("a.phext")), unix.Mkfifo(w.path("a.phext"), 0o600)))
		w.recoverFor("will")
		w.must(os.Remove(w.path("a.phext")))
		want, tenant := State{}, "will"
		if others {
			want, tenant = text("hers"), "mary"
			w.put("a.phext", want)
			w.must(os.Chtimes(w.path("a.phext"), time.Unix(1, 0), time.Unix(1, 0)))
		}
		w.recoverFor(tenant)
		if got := w.read("a.phext"); got != want {
			t.Errorf("%s has %q", tenant, got.Text)
		}
		if left, err := w.j.Unopened(); err != nil || len(left) > 0 {
			t.Errorf("%q wait still, %v", left, err)
		}
		if got := w.quarantined(); !slices.Contains(got, "acknowledged") {
			t.Errorf("others %v: the quarantine has %q", others, got)
		}
	}
}

// TestWhatIsKeptIsOld when the file is another tenant's, or was written elsewhere since: it goes to the
// quarantine, however large it is.
func TestWhatIsKeptIsOld(t *testing.T) {
	waits := func(w *world) {
		w.recoverFor("will")
		w.cut(-time.Minute)
		w.must(os.Chmod(w.path("a.phext"), 0))
		w.recoverFor("will")
	}
	for _, c := range []struct {
		name  string
		since func(w *world) State // what the file holds
	}{
		{"another one with the id shares the directory", func(w *world) State {
			share := func(tenants ...string) {
				_, err := w.j.Claim(Owners{Tenants: tenants, Shared: true})
				w.must(err)
				w.recover()
			}
			share("a/1", "b")
			w.must(w.j.keepUnopened("a.n.phext", text("acknowledged")))
			w.put("a.n.phext", text("a/2's own"))
			share("a/2", "b")
			return w.read("a.n.phext")
		}},
		{"the same, while sqgate runs", func(w *world) State {
			for _, one := range []string{"a/1", "a/2"} {
				_, err := w.j.Claim(Owners{Tenants: []string{one, "b"}, Shared: true})
				w.must(errors.Join(err, w.j.SettleClaim(w.data)))
				if one == "a/1" {
					w.must(w.j.keepUnopened("a.n.phext", text("acknowledged")))
				}
			}
			w.put("a.n.phext", text("a/2's own"))
			w.recover()
			return w.read("a.n.phext")
		}},
		{"the state directory was away", func(w *world) State {
			waits(w)
			first := w.cfg
			w.must(w.set.Close())
			w.cfg.Dir += ".other"
			w.open()
			w.must(os.Chmod(w.path("a.phext"), 0o600))
			w.recoverFor("will")
			w.mutate(update("a.phext", 1, "since"))
			w.must(w.set.Close())
			w.cfg = first
			w.open()
			w.recoverFor("will")
			return w.read("a.phext")
		}},
		{"it was moved, later than the others, and is back", func(w *world) State {
			waits(w)
			first, aside := w.data, w.data+".aside"
			w.must(os.Rename(w.path("a.phext"), aside))
			w.move()
			w.recoverFor("will")
			w.must(errors.Join(os.Chmod(aside, 0o600), os.Rename(aside, w.path("a.phext"))))
			w.recoverFor("will")
			w.mutate(update("a.phext", 1, "since"))
			w.must(os.Rename(w.data, first))
			w.data = first
			w.recoverCopies("will")
			j, err := w.set.Of(first)
			w.must(err)
			w.j = j
			w.recoverFor("will")
			return w.read("a.phext")
		}},
		{"another one has the directory, and it is large", func(w *world) State {
			w.recoverFor("will")
			w.mutate(update("b.phext", 1, "b"))
			w.must(w.j.keepUnopened("a.phext", text(strings.Repeat("x", 2*Small))))
			w.put("a.phext", text("mary's"))
			w.recoverFor("mary")
			if got := w.quarantined(); len(got) != 1 || len(got[0]) != 2*Small {
				w.t.Fatalf("the quarantine has %d texts", len(got))
			}
			return w.read("a.phext")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			asOthers(t, func() {
				w := closing(t, newWorld(t, t.TempDir(), nil))
				if got := c.since(w); strings.HasPrefix(got.Text, "acknowledged") || !got.Exists {
					t.Errorf("it holds %q", got.Text)
				}
				if got := strings.Join(w.quarantined(), " "); !strings.Contains(got, "acknowledged") && !strings.Contains(got, "x") {
					t.Errorf("the quarantine has %q", got)
				}
			})
		})
	}
}
