package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func (w *world) segments() int {
	numbers, _, err := segments(w.j.dir)
	w.must(err)
	return len(numbers)
}

func TestASegmentEndsWithADay(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "x"))
	w.now = w.now.Add(24 * time.Hour)
	w.mutate(update("a.phext", 1, "y"))
	if n := w.segments(); n != 1 {
		t.Errorf("%d segments after a day", n)
	}
	w.now = w.now.Add(time.Second)
	if id, ok := w.j.LastSeen("a.phext"); !ok || !id.Exists() {
		t.Error("nothing is known of the file")
	}
	w.mutate(update("a.phext", 1, "z"))
	if n := w.segments(); n != 2 {
		t.Errorf("%d segments after more than a day", n)
	}
}

// TestLargePhextsDoNotMakeManySegments lets a segment with long checkpoints
// grow longer.
func TestLargePhextsDoNotMakeManySegments(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	w.tune = func(s *settings) { s.segmentMax = 1000 }
	w.reopen()
	closing(t, w)
	w.put("a.phext", text(strings.Repeat("x", 50_000)))
	for i := range 300 {
		w.mutate(update("a.phext", 2, fmt.Sprint(i)))
	}
	if n := w.segments(); n != 1 {
		t.Errorf("%d segments", n)
	}
}

// TestAJournalWithoutItsNewestSegment continues with the one before, and never
// uses a number twice.
func TestAJournalWithoutItsNewestSegment(t *testing.T) {
	for name, header := range map[string]string{"empty": "", "rubbish": "rubbish and more rubbish"} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.mutate(update("a.phext", 1, "x"))
		w.must(w.j.Suspend())
		w.must(os.WriteFile(filepath.Join(w.j.dir, segmentName(2)), []byte(header), 0o600))
		w.must(os.WriteFile(filepath.Join(w.j.dir, checkpointName(2, 1)), []byte("text"), 0o600))
		if r := w.recover(); r.Dropped != int64(len(header)) {
			t.Errorf("%s: %+v", name, r)
		}
		w.mutate(update("a.phext", 1, "y"))
		if filepath.Base(w.newest()) != segmentName(3) {
			t.Errorf("%s: the next segment is %s", name, w.newest())
		}
		if s, err := w.j.At("a.phext", w.now.Add(time.Hour)); err != nil || s != text("y") {
			t.Errorf("%s: %q, %v", name, s.Text, err)
		}
	}
}

// TestReadersAndWritersTogether reads states and suspends the journal during
// mutations with rotation and pruning. The race detector watches.
func TestReadersAndWritersTogether(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.History = 0 })
	w.cfg.Now = time.Now // the clock of the world is not safe for concurrent use
	w.tune = func(s *settings) { s.segmentMax = 300 }
	w.reopen()
	closing(t, w)
	w.mutate(update("a.phext", 1, "0"))
	stop, all := make(chan struct{}), sync.WaitGroup{}
	for _, read := range []func() error{
		func() error { _, err := w.j.At("a.phext", time.Now()); return err },
		func() error { _, err := w.j.History(Query{}); return err },
		func() error { w.j.LastSeen("a.phext"); w.j.Answered("will", "k"); return w.j.Suspend() },
	} {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := read(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 300 {
		w.mutate(update("a.phext", 1, fmt.Sprint(i)))
		if s, err := w.j.At("a.phext", time.Now()); err != nil || s != text(fmt.Sprint(i)) {
			t.Errorf("after %d: %q, %v", i, s.Text, err)
		}
	}
	close(stop)
	all.Wait()
}

func TestASegmentOfANewerSqgateIsLeftAlone(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "x"))
	w.must(w.j.Suspend())
	b, err := frame(nil, record{kind: header, version: version + 1, boot: "boot-1"})
	w.must(err)
	path := filepath.Join(w.j.dir, segmentName(2))
	w.must(os.WriteFile(path, append(b, "unknown"...), 0o600))
	if _, err := w.j.History(Query{}); err == nil {
		t.Error("it was read")
	}
	if got, err := os.ReadFile(path); err != nil || len(got) != len(b)+7 {
		t.Errorf("it was changed: %v", err)
	}
}

// TestReadersDoNotKeepTheJournalForGood prunes when the last one has ended who read while
// that was due.
func TestReadersDoNotKeepTheJournalForGood(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.History = 0 })
	w.tune = func(s *settings) { s.segmentMax = 300 }
	w.reopen()
	closing(t, w)
	w.mutate(update("a.phext", 1, "0"))
	first, err := w.j.view(false)
	w.must(err)
	second, err := w.j.view(false)
	w.must(err)
	for i := range 20 {
		w.now = w.now.Add(time.Second)
		w.mutate(update("a.phext", 1, fmt.Sprint(i)))
	}
	kept := w.segments()
	if kept < 3 || !w.j.IsPruneDue() {
		t.Fatalf("%d segments while they are read", kept)
	}
	first.close()
	if n := w.segments(); n != kept || !w.j.IsPruneDue() {
		t.Errorf("%d segments of %d while one still reads", n, kept)
	}
	second.close()
	if n := w.segments(); n != 1 || w.j.IsPruneDue() {
		t.Errorf("%d segments when nobody reads", n)
	}
}

// TestListenersDoNotKeepTheJournalForGood has the changes read, and nothing else, while
// segments are to be removed. Nobody may look through the past as long as that is due.
func TestListenersDoNotKeepTheJournalForGood(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.History = 0 })
	w.tune = func(s *settings) { s.segmentMax = 300 }
	w.reopen()
	closing(t, w)
	w.mutate(update("a.phext", 1, "0"))
	w.must(w.j.AnnounceAll())
	kept := 0
	_, _, _, err := w.j.Changes(Position{}, nil, 1, nil, func(Event) bool {
		for i := range 20 {
			w.now = w.now.Add(time.Second)
			w.mutate(update("a.phext", 1, fmt.Sprint(i)))
		}
		kept = w.segments()
		return true
	})
	w.must(err)
	if n := w.segments(); kept < 3 || n != 1 || w.j.IsPruneDue() {
		t.Errorf("%d segments of %d when nobody reads, due: %v", n, kept, w.j.IsPruneDue())
	}
}

// TestAPhextThatMayNotBeOpened keeps nobody from writing the others.
func TestAPhextThatMayNotBeOpened(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(update("a.phext", 1, "a"))
	w.set.cfg.syncPhext = func(f *os.File) error { return &os.PathError{Op: "open", Path: f.Name(), Err: syscall.EACCES} }
	w.j.mu.Lock()
	w.j.mustRotate = true
	w.j.mu.Unlock()
	w.mutate(update("b.phext", 1, "b"))
	w.set.cfg.syncPhext = (*os.File).Sync
}
