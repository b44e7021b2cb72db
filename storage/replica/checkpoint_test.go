package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// checkpoint writes one at the end of the log, of phexts with these texts.
func checkpoint(t testing.TB, l *Log, files ...string) (written []string) {
	t.Helper()
	c := object.Checkpoint{Seq: l.End(), Epoch: l.Epoch()}
	byName := map[string]string{}
	for i, text := range files {
		_, hash, err := object.EncodeFile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%d.phext", i)
		byName[name] = text
		c.Files = append(c.Files, object.File{Name: name, Hash: hash, Size: int64(len(text))})
	}
	var mu sync.Mutex
	err := l.WriteCheckpoint(t.Context(), c, func(f object.File) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		written = append(written, byName[f.Name])
		return []byte(byName[f.Name]), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(written)
	return written
}

// keys lists what the bucket has of the directory, without owner and clock.
func keys(t testing.TB, d *Directory, prefix string) string {
	t.Helper()
	var all []string
	for e, err := range bucket.All(t.Context(), d.Bucket, d.key(prefix), "") {
		if err != nil {
			t.Fatal(err)
		}
		if prefix == "files/" {
			_, hash, _ := strings.Cut(e.Key, prefix)
			var h object.Hash
			if err := h.UnmarshalText([]byte(hash)); err != nil {
				t.Fatal(err)
			}
			all = append(all, must(d.ReadFile(t.Context(), object.File{Hash: h}))(t))
			continue
		}
		all = append(all, fmt.Sprint(must(seqOf(e.Key))(t)))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		d := newDirectory(m, "a")
		l := takeOver(t, d)
		appendTexts(t, l, "1")
		if got := checkpoint(t, l, "one", "two", "one"); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("written: %q", got)
		}
		appendTexts(t, l, "2")
		if got := checkpoint(t, l, "one", "three"); !slices.Equal(got, []string{"three"}) {
			t.Errorf("written: %q", got)
		}
		checkpoint(t, l, "one", "three") // the same again
		all := must(d.Checkpoints(t.Context()))(t)
		if len(all) != 2 || all[0].Seq != 2 || all[1].Seq != 3 {
			t.Fatal(all)
		}
		c := must(d.ReadCheckpoint(t.Context(), 3))(t)
		if text := must(d.ReadFile(t.Context(), c.Files[1]))(t); text != "three" {
			t.Errorf("%q", text)
		}
		// Half a day later, what is named is written again first.
		time.Sleep(freshFor)
		appendTexts(t, l, "3")
		if got := checkpoint(t, l, "three"); !slices.Equal(got, []string{"three"}) {
			t.Errorf("written: %q", got)
		}

		early := object.Checkpoint{Seq: l.End() + 1}
		if err := l.WriteCheckpoint(t.Context(), early, nil); !errors.Is(err, ErrBroken) {
			t.Error("a checkpoint of what the log does not say:", err)
		}
		appendTexts(t, l, "4")
		wrong := object.Checkpoint{Seq: l.End(), Files: []object.File{{Name: "a"}}}
		if err := l.WriteCheckpoint(t.Context(), wrong, func(object.File) ([]byte, error) { return []byte("x"), nil }); err == nil {
			t.Error("a file that is not what the checkpoint says")
		}
		if _, err := d.ReadCheckpoint(t.Context(), l.End()); !errors.Is(err, bucket.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		d := newDirectory(m, "a")
		l := takeOver(t, d) // 1
		appendTexts(t, l, "2", "3")
		checkpoint(t, l, "old", "both")
		l = takeOver(t, d) // 4
		appendTexts(t, l, "5", "6")
		checkpoint(t, l, "new", "both")
		appendTexts(t, l, "7")
		prune := func(wantLog, wantCheckpoints, wantFiles string, wantRemoved int) {
			t.Helper()
			removed := must(l.Prune(t.Context(), 72*time.Hour))(t)
			log, checkpoints, files := keys(t, d, "log/"), keys(t, d, "checkpoint/"), keys(t, d, "files/")
			if log != wantLog || checkpoints != wantCheckpoints || files != wantFiles || removed != wantRemoved {
				t.Errorf("log %q, checkpoints %q, files %q, %d removed", log, checkpoints, files, removed)
			}
		}
		prune("1 2 3 4 5 6 7", "3 6", "both new old", 0)
		time.Sleep(72*time.Hour - time.Second)
		prune("1 2 3 4 5 6 7", "3 6", "both new old", 0)
		time.Sleep(time.Minute)
		prune("1 4 7", "6", "both new", 6)
		prune("1 4 7", "6", "both new", 0)
		checkpoint(t, l, "new") // at 7, and new again
		time.Sleep(71 * time.Hour)
		prune("1 4 7", "6 7", "both new", 0)
		time.Sleep(2 * time.Hour)
		prune("1 4", "7", "new", 3)

		// Where everything up to the checkpoint is gone, the next owner goes on behind it.
		second := takeOver(t, newDirectory(m, "b"))
		if second.End() != 8 {
			t.Error(second.End())
		}
		if _, err := l.Append(t.Context(), []object.Group{group("lost")}); !errors.Is(err, ErrDeposed) {
			t.Error(err)
		}
	})
}

// TestSleeperAfterPrune has an owner that slept while others wrote, checkpointed and
// pruned all that came after its own writes. It still finds the record that deposed it.
func TestSleeperAfterPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		sleeper := takeOver(t, newDirectory(m, "a"))
		appendTexts(t, sleeper, "1")
		second := takeOver(t, newDirectory(m, "b"))
		appendTexts(t, second, "2", "3")
		checkpoint(t, second, "x")
		time.Sleep(100 * time.Hour)
		if removed := must(second.Prune(t.Context(), 72*time.Hour))(t); removed != 3 {
			t.Fatal(removed)
		}
		if _, err := sleeper.Append(t.Context(), []object.Group{group("lost")}); !errors.Is(err, ErrDeposed) {
			t.Error(err)
		}
	})
}

// TestAnswerLostAndPruned has an append that stands, whose answer was lost, and whose
// object another owner has pruned when it is looked at. It must not be told that
// nothing was written.
func TestAnswerLostAndPruned(t *testing.T) {
	m := bucket.NewMemory()
	d := newDirectory(m, "a")
	l := takeOver(t, d)
	lost := false
	m.Fault = func(op bucket.Op, key string) bucket.Fault {
		switch {
		case op == bucket.OpPut && !lost:
			lost = true
			return bucket.Fault{Lose: bucket.ErrUnknownOutcome}
		case op == bucket.OpGet:
			m.Fault = nil
			if err := m.Delete(t.Context(), key); err != nil {
				t.Error(err)
			}
		}
		return bucket.Fault{}
	}
	if _, err := l.Append(t.Context(), []object.Group{group("1")}); !errors.Is(err, ErrLeaseEnded) || errors.Is(err, ErrDeposed) {
		t.Error(err)
	}
}

// TestPruneOfADeposedOwner sees that nothing is removed without a lease.
func TestPruneOfADeposedOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		d := newDirectory(m, "a")
		holds := true
		d.Holds = func() bool { return holds }
		l := takeOver(t, d)
		appendTexts(t, l, "1")
		checkpoint(t, l, "x")
		time.Sleep(100 * time.Hour)
		holds = false
		if removed, err := l.Prune(t.Context(), time.Hour); removed != 0 || !errors.Is(err, ErrNoLease) {
			t.Error(removed, err)
		}
		if err := l.WriteCheckpoint(t.Context(), object.Checkpoint{Seq: 1}, nil); !errors.Is(err, ErrNoLease) {
			t.Error(err)
		}
	})
}

// TestFaultsOfHousekeeping has a bucket that fails now and then.
func TestFaultsOfHousekeeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		var n atomic.Int64
		m.Fault = func(op bucket.Op, _ string) bucket.Fault {
			return []bucket.Fault{{}, {Lose: bucket.ErrUnknownOutcome}, {}, {Refuse: bucket.ErrTemporary}, {Twice: true}, {Short: 1}}[n.Add(1)%6]
		}
		d := newDirectory(m, "a")
		l := takeOver(t, d)
		appendTexts(t, l, "2", "3")
		checkpoint(t, l, "one", "two")
		time.Sleep(time.Hour)
		appendTexts(t, l, "4")
		checkpoint(t, l, "two")
		time.Sleep(100 * time.Hour)
		if _, err := l.Prune(t.Context(), time.Hour); err != nil {
			t.Error(err)
		}
		m.Fault = nil
		if log, files := keys(t, d, "log/"), keys(t, d, "files/"); log != "1" || files != "two" {
			t.Errorf("log %q, files %q", log, files)
		}
		if calls := m.Calls(); len(slices.Collect(maps.Keys(calls))) != 4 {
			t.Error(calls)
		}
	})
}

// TestHousekeepingWaitsNoLongerThanItsCaller: another's takes an hour, since the bucket is slow.
func TestHousekeepingWaitsNoLongerThanItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		l := takeOver(t, newDirectory(m, "a"))
		appendTexts(t, l, "1")
		m.Fault = func(bucket.Op, string) bucket.Fault { return bucket.Fault{Delay: time.Hour} }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slow, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _, _ = l.Prune(slow, time.Hour) }) // it is stopped
		synctest.Wait()
		for what, call := range map[string]func() error{
			"WriteCheckpoint": func() error { return l.WriteCheckpoint(ctx, object.Checkpoint{Seq: 1}, nil) },
			"Compact":         func() error { _, err := l.Compact(ctx, nil, nil); return err },
			"PutFiles":        func() error { _, err := l.PutFiles(ctx, nil, nil, nil); return err },
			"Prune":           func() error { _, err := l.Prune(ctx, time.Hour); return err },
			"Release":         func() error { return l.Release(ctx, "") },
		} {
			if err := call(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", what, err)
			}
		}
		stop()
		running.Wait()
	})
}
