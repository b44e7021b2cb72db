package datadir

import (
	"context"
	"testing"
	"unsafe"

	"mirrorborn.us/sqgate/storage/journal"
)

// TestALossCountsOnce takes a directory over again while its loss is being noted. The new
// ownership must stand: nothing of the loss may be noted for it.
func TestALossCountsOnce(t *testing.T) {
	w := newWorld(t)
	w.Leased = func() bool { return true }
	took := make(chan *Replica, 3)
	again := make(chan error, 1)
	lost := func() {
		go func() { again <- w.dir.Recover(context.Background()) }()
		if w.dir.losing.TryLock() { // nothing keeps the take-over from running meanwhile
			w.dir.losing.Unlock()
			w.check(<-again)
			again <- nil
		}
	}
	w.TakeOver = func(context.Context, *Dir) (*Replica, error) {
		r := NewReplica(w.dir, Ownership{Holds: func() bool { return true }, End: lost})
		lost = nil
		took <- r
		return r, nil
	}
	w.check(w.dir.Recover(t.Context()))
	first := <-took
	first.Lose(context.Canceled)
	w.check(<-again)
	second := <-took
	if !w.dir.Recovered() || w.dir.leftovers.Load() || w.dir.Ownership() != second {
		t.Fatalf("after it was taken over again: recovered %v, leftovers %v", w.dir.Recovered(), w.dir.leftovers.Load())
	}
	w.dir.dropLost(t.Context())
	w.check(w.dir.Recover(t.Context()))
	if w.stops != 2 || len(took) > 0 {
		t.Errorf("its child was stopped %d times for two take-overs, and %d came later", w.stops, len(took))
	}
}

// TestWhatWaitsForTheBucketKeepsNothingElseInMemory: it may wait for longer than its request.
func TestWhatWaitsForTheBucketKeepsNothingElseInMemory(t *testing.T) {
	r, url, header := NewReplica(newWorld(t).dir, Ownership{}), "update?p=n&c=a.name", "Idempotency-Key: once"
	m := journal.Mutation{File: "n.phext", Note: url[13:], Idempotency: header[17:]}
	r.Add([]journal.Mutation{m}, KnownFile{}, 0)
	kept := r.added[0].Mutations[0]
	for part, of := range map[string]string{kept.Note: m.Note, kept.Idempotency: m.Idempotency} {
		if part != of || unsafe.StringData(part) == unsafe.StringData(of) {
			t.Errorf("%q is kept as %q, which is a part of the request", of, part)
		}
	}
}
