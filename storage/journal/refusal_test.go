package journal

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// failingDisk lets syncs fail, and knows how long each segment was then.
type failingDisk struct {
	failures int              // how many syncs fail from now on; -1 = all
	size     map[string]int64 // of each segment at its first failed sync, in bytes
}

func (d *failingDisk) sync(f *os.File) error {
	if d.failures == 0 {
		return nil
	}
	d.failures--
	info, err := f.Stat()
	if _, known := d.size[f.Name()]; !known {
		d.size[f.Name()] = info.Size()
	}
	return errors.Join(err, syscall.EIO)
}

// TestARefusalIsOnTheDisk refuses a mutation because the disk fails, and cuts
// the power. What the failed sync was for has reached the disk all the same, and
// nothing after it. Recovery must not make a mutation that was refused.
func TestARefusalIsOnTheDisk(t *testing.T) {
	remove := Mutation{File: "a.phext", Op: Delete, At: at(1), Tenant: "will"}
	begin := func(w *world) error {
		_, err := w.j.Begin(remove, func() (State, error) { return ReadState(nil, w.path("a.phext")) })
		return err
	}
	for _, c := range []struct {
		name     string
		policy   Policy
		failures int
		known    bool // that nothing has happened
		refuse   func(w *world, d *failingDisk) error
	}{
		{"always", Always, 1, true, func(w *world, _ *failingDisk) error { return begin(w) }},
		{"always, for good", Always, -1, false, func(w *world, _ *failingDisk) error { return begin(w) }},
		{"a checkpoint", Batch, 1, true, func(w *world, _ *failingDisk) error {
			w.j.mustRotate = true
			return begin(w)
		}},
		{"after an abort", Batch, 1, true, func(w *world, d *failingDisk) error {
			p := w.begin(remove)
			w.must(p.Abort())
			info, err := os.Stat(w.newest())
			w.must(err)
			d.size[w.newest()] = info.Size() - 1 // the record of the abort is cut
			return errors.Join(p.SyncRefusal(), syscall.EIO)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &failingDisk{size: map[string]int64{}}
			w := closing(t, newWorld(t, t.TempDir(), func(cfg *Config) { cfg.Sync, cfg.Datasync = c.policy, d.sync }))
			w.put("a.phext", text("acknowledged"))
			w.mutate(update("a.phext", 2, "too"))
			want := w.read("a.phext")
			d.failures = c.failures
			err := c.refuse(w, d)
			if !errors.Is(err, syscall.EIO) || errors.Is(err, ErrUndecided) == c.known {
				t.Fatalf("refused with %v", err)
			}
			d.failures = 0
			for path, size := range d.size {
				w.must(fsutil.IgnoreMissing(os.Truncate(path, size)))
			}
			w.cfg.BootID = "boot-2"
			(&model{world: w}).reopenAfterCut()
			r := w.recover()
			if made := w.read("a.phext") != want; made == c.known || r.Kept != 0 {
				t.Errorf("the file holds %q after %+v", w.read("a.phext").Text, r)
			}
		})
	}
}

func TestARefusalIsSyncedWhateverThePolicy(t *testing.T) {
	for _, policy := range []Policy{Off, Batch, Always} {
		w, s := spinning(t, policy)
		p := w.begin(update("a.phext", 1, "x"))
		w.must(p.Abort())
		n := s.count()
		if w.must(p.SyncRefusal()); s.count() != n+1 {
			t.Errorf("%v: %d syncs", policy, s.count()-n)
		}
	}
}

// TestARefusalThatRecoveryPutsBack must not give up the segment from which
// recovery puts the file back.
func TestARefusalThatRecoveryPutsBack(t *testing.T) {
	d := &failingDisk{size: map[string]int64{}}
	w := closing(t, newWorld(t, t.TempDir(), func(cfg *Config) { cfg.Datasync = d.sync }))
	w.put("a.phext", text("acknowledged"))
	p := w.begin(update("a.phext", 1, "refused"))
	w.put("a.phext", text("refu"))
	d.failures = 1
	w.must(p.LeaveToRecovery())
	if err := p.SyncRefusal(); !errors.Is(err, ErrUndecided) {
		t.Errorf("known: %v", err)
	}
	if _, err := w.j.Recover(context.Background()); err != nil && !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if w.read("a.phext") != text("acknowledged") {
		t.Errorf("not put back: %q", w.read("a.phext").Text)
	}
}
