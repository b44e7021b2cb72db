package journal

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAPhextThatItsDiskHasNotWritten is written anew, since a second sync says nothing of it: in the same process, or in
// another one, before a new segment is begun or a stop is in order.
func TestAPhextThatItsDiskHasNotWritten(t *testing.T) {
	for _, restart := range []string{"", "a start", "a boot", "another tenant"} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		failures := 1
		fails := func(s *settings) {
			s.syncPhext = func(f *os.File) error {
				if strings.HasSuffix(f.Name(), "/a.phext") && failures > 0 {
					failures--
					return syscall.EIO
				}
				return f.Sync()
			}
		}
		w.recoverFor("will")
		w.tune = fails
		fails(&w.set.cfg)
		w.mutate(update("a.phext", 1, "acknowledged"))
		w.mutate(update("b.phext", 1, "acknowledged"))
		number := w.newest()
		for range 3 {
			if err := w.rotate(); err == nil || w.newest() != number {
				t.Fatalf("%q: a segment ends: %v", restart, err)
			}
		}
		id := w.put("a.phext", w.read("a.phext"))
		if restart == "" || restart == "another tenant" {
			id, _ = w.set.cfg.Links.Identify(w.path("a.phext"))
		} else {
			if err := w.set.Close(); err == nil {
				t.Errorf("%s: the stop is in order", restart)
			}
			if restart == "a boot" {
				w.put("a.phext", text(strings.Repeat("\x00", 12)))
				w.cfg.BootID, w.cfg.BootTime = "boot-2", time.Now().Add(time.Hour)
			}
			w.open()
		}
		if has, err := w.j.HasUnsynced(); !has || err != nil {
			t.Errorf("%q: %v, %v", restart, has, err)
		}
		if restart == "another tenant" {
			w.recoverAmong("mary", "will")
		} else {
			w.recover()
		}
		now, err := w.set.cfg.Links.Identify(w.path("a.phext"))
		w.must(err)
		if has, err := w.j.HasUnsynced(); has || err != nil || now == id || w.read("a.phext") != text("acknowledged") {
			t.Errorf("%q: %v, %v, %q", restart, has, err, w.read("a.phext").Text)
		}
		w.must(w.rotate())
		if w.newest() == number {
			t.Errorf("%q: no segment is begun", restart)
		}
	}
}

// rotate begins a new segment.
func (w *world) rotate() error {
	w.j.syncMu.Lock()
	defer w.j.syncMu.Unlock()
	w.j.mu.Lock()
	defer w.j.mu.Unlock()
	return w.j.rotateLocked()
}
