package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// spindle counts syncs and can hold them up.
type spindle struct {
	mu      sync.Mutex
	synced  []string      // base names of the files, in order
	entered chan struct{} // if not nil, receives at the start of each sync
	release chan struct{} // and each sync then waits for this
	fail    error
}

func (s *spindle) sync(f *os.File) error {
	if s.entered != nil {
		s.entered <- struct{}{}
		<-s.release
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = append(s.synced, filepath.Base(f.Name()))
	return s.fail
}

func (s *spindle) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.synced)
}

func spinning(t *testing.T, p Policy) (*world, *spindle) {
	s := &spindle{}
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync, c.Datasync = p, s.sync }))
	w.mutate(update("a.phext", 1, "first"))
	s.synced = nil
	return w, s
}

func (w *world) unflushed(text string) *Pending {
	p := w.begin(update("a.phext", 1, text))
	w.must(p.Done(w.put("a.phext", State{Text: text, Exists: true})))
	return p
}

// TestThoseWhoWaitTogetherShareASync records 16 mutations during a sync. One
// more sync must do for all of them.
func TestThoseWhoWaitTogetherShareASync(t *testing.T) {
	w, s := spinning(t, Batch)
	s.entered, s.release = make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	flush := func(p *Pending) {
		all.Go(func() {
			if err := p.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	flush(w.unflushed("leader"))
	<-s.entered
	for range 16 {
		flush(w.unflushed("follower"))
	}
	s.release <- struct{}{}
	<-s.entered
	s.release <- struct{}{}
	all.Wait()
	if s.count() != 2 {
		t.Errorf("%d syncs", s.count())
	}
	s.entered = nil
}

func TestEachPolicySyncsAsOftenAsItMust(t *testing.T) {
	for policy, want := range map[Policy][3]int{Off: {0, 0, 0}, Batch: {0, 1, 1}, Always: {1, 1, 1}} {
		w, s := spinning(t, policy)
		p := w.unflushed("x")
		got := [3]int{s.count()}
		w.must(p.Sync())
		got[1] = s.count()
		w.must(p.Sync())
		got[2] = s.count()
		if got != want {
			t.Errorf("%v: %v syncs, want %v", policy, got, want)
		}
	}
}

// TestWhatMayBeLostIsOnDiskFirst expects each policy to sync what a file holds
// before it is changed for the first time in a segment.
func TestWhatMayBeLostIsOnDiskFirst(t *testing.T) {
	for _, policy := range []Policy{Off, Batch, Always} {
		w, s := spinning(t, policy)
		w.put("b.phext", text("something"))
		if p := w.begin(update("b.phext", 1, "x")); !p.CheckpointDurable() || s.count() != 1 {
			t.Errorf("%v: on disk: %v, after %d syncs", policy, p.CheckpointDurable(), s.count())
		} else {
			w.must(p.Done(w.put("b.phext", text("x"))))
		}
		if w.begin(update("b.phext", 1, "y")); policy != Always && s.count() != 1 {
			t.Errorf("%v: %d syncs for what was on disk", policy, s.count())
		}
	}
}

// TestAnEditIsOnDiskBeforeItIsWrittenOver expects an edit by hand to be synced,
// because no other segment has it.
func TestAnEditIsOnDiskBeforeItIsWrittenOver(t *testing.T) {
	for _, policy := range []Policy{Off, Batch, Always} {
		w, _ := spinning(t, policy)
		p := w.begin(update("b.phext", 1, "x"))
		w.must(p.Done(w.put("b.phext", text("x"))))
		w.must(p.Sync())
		w.must(w.j.RecordEdit("b.phext", text("by hand"), w.put("b.phext", text("by hand"))))
		if p = w.begin(update("b.phext", 1, "y")); !p.CheckpointDurable() {
			t.Errorf("%v: it is not", policy)
		}
	}
}

// TestACheckpointIsOnDiskWhateverThePolicy expects each policy to sync the
// checkpoint with the first mutation of a file.
func TestACheckpointIsOnDiskWhateverThePolicy(t *testing.T) {
	for _, policy := range []Policy{Off, Batch, Always} {
		w, s := spinning(t, policy)
		p := w.begin(update("b.phext", 1, "x"))
		if !p.CheckpointDurable() || s.count() == 0 {
			t.Errorf("%v: SQ may make a file that no journal on the disk knows", policy)
		}
		w.must(p.Done(w.put("b.phext", text("x"))))
		w.must(p.Sync())
		if p = w.begin(update("b.phext", 1, "y")); !p.CheckpointDurable() {
			t.Errorf("%v: not on disk for the next", policy)
		}
	}
}

// TestASegmentEndsOnDisk expects the old segment and its checkpoint files to be
// synced after the last record and before the new segment is used.
func TestASegmentEndsOnDisk(t *testing.T) {
	w, s := spinning(t, Batch)
	w.set.cfg.inlineMax = 4
	w.must(os.WriteFile(w.path("b.phext"), []byte("long enough"), 0o644))
	p := w.begin(update("b.phext", 1, "x"))
	w.must(p.Done(w.put("b.phext", text("x"))))
	w.j.mustRotate = true
	w.unflushed("y")
	// Each checkpoint before it is needed, the old segment when it ends, the new
	// one when it begins.
	if got := strings.Join(s.synced, " "); got != "00000001-3.chk 00000001.seg"+" 00000001.seg 00000002.seg"+" 00000002-1.chk 00000002.seg" {
		t.Errorf("synced %s", got)
	}
	n := s.count()
	w.must(p.Sync())
	if s.count() != n {
		t.Error("what is in the old segment was synced again")
	}
}

// TestAFailedSyncIsNotForgiven has a disk that fails once. A second sync would
// succeed, although the records may be lost.
func TestAFailedSyncIsNotForgiven(t *testing.T) {
	w, s := spinning(t, Batch)
	p := w.unflushed("lost")
	s.fail = syscall.EIO
	for range 2 {
		if err := p.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("flushed on a broken disk: %v", err)
		}
		s.fail = nil
	}
	late := p
	p = w.unflushed("after")
	w.must(p.Sync())
	if err := late.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("flushed after all: %v", err)
	}
	if filepath.Base(w.newest()) != segmentName(2) {
		t.Errorf("the broken segment goes on: %s", w.newest())
	}
}

// TestAnAnswerWithoutARecordIsDurable: it waits for what was written before it. It fails with
// a sync of that, but not for ever.
func TestAnAnswerWithoutARecordIsDurable(t *testing.T) {
	for policy, want := range map[Policy]int{Off: 0, Batch: 1, Always: 1} {
		w, s := spinning(t, policy)
		w.unflushed("x")
		before := s.count()
		for range 2 {
			w.must(w.j.Written()())
		}
		if n := s.count() - before; n != want {
			t.Errorf("%v: %d syncs, want %d", policy, n, want)
		}
	}
	w, s := spinning(t, Batch)
	lost := w.unflushed("lost")
	s.fail = syscall.EIO
	for range 2 {
		if err := w.j.Written()(); !errors.Is(err, syscall.EIO) {
			t.Errorf("durable on a broken disk: %v", err)
		}
	}
	s.fail = nil
	for range 2 {
		w.must(w.j.Written()())
	}
	if err := lost.Sync(); !errors.Is(err, syscall.EIO) || filepath.Base(w.newest()) != segmentName(2) {
		t.Errorf("the broken segment goes on: %v, %s", err, w.newest())
	}
}

func TestAlwaysRefusesWhatIsNotOnDisk(t *testing.T) {
	w, s := spinning(t, Always)
	s.fail = syscall.EIO
	if _, err := w.j.Begin(update("a.phext", 1, "x"), nil); !errors.Is(err, syscall.EIO) {
		t.Fatalf("begun on a broken disk: %v", err)
	}
	s.fail = nil
	w.reopen()
	if r := w.recover(); r.Completed != 0 || w.read("a.phext") != text("first") {
		t.Errorf("what was refused was done: %+v", r)
	}
}

func BenchmarkMutation(b *testing.B) {
	for _, policy := range []Policy{Off, Batch, Always} {
		b.Run(policy.String(), func(b *testing.B) {
			w := newWorld(b, b.TempDir(), func(c *Config) { c.Sync, c.Datasync = policy, nil })
			defer func() { w.must(w.set.Close()) }()
			id := w.put("a.phext", text("x"))
			m := update("a.phext", 1, strings.Repeat("x", 200))
			var turn sync.Mutex
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					turn.Lock()
					p := w.begin(m)
					w.must(p.Done(id))
					turn.Unlock()
					w.must(p.Sync())
				}
			})
		})
	}
}
