package writer

import (
	"context"
	"errors"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
)

// TestTheJournalIsSyncedWhileSQWorks holds the sync of the journal up. SQ must
// make the write meanwhile, and the write must not be acknowledged.
func TestTheJournalIsSyncedWhileSQWorks(t *testing.T) {
	w := newWorld(t)
	syncing, atSQ, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.disk.holdSyncs(syncing)
	committed := make(chan error, 1)
	w.during(func(a *attack) {
		close(atSQ)
		<-goOn
		a.answer(a.pass())
	}, func() {
		go func() {
			_, err := w.commit(update(2, "new"))
			committed <- err
		}()
		<-syncing // the sync has begun
		<-atSQ    // and SQ has the write: neither has waited for the other
		close(goOn)
		unlock, err := w.Dirs.Of(w.tenant.DataDir).LockForWrite(context.Background(), w.tenant, nil)
		if err != nil {
			t.Fatal(err)
		}
		unlock() // so the commit has ended, up to the wait for its sync
		if got := w.seen(); got != "one\x17new\x17three" {
			t.Errorf("readers see %q", got)
		}
		select {
		case err := <-committed:
			t.Errorf("acknowledged before the journal was on the disk: %v", err)
		default:
		}
		w.disk.holdSyncs(nil)
		<-syncing
		if err := <-committed; err != nil {
			t.Error(err)
		}
	})
	w.want("one\x17new\x17three")
}

// TestAnAnswerWithoutAWriteIsAsDurable holds the sync up of a write that leaves another one
// nothing to do. That must wait for the disk, too, and fail if the disk fails.
func TestAnAnswerWithoutAWriteIsAsDurable(t *testing.T) {
	for name, ask := range map[string]func(w *world) Request{
		"no such name":   func(w *world) Request { return w.mutate(rewrite.Delete, "n", "a.name", "") },
		"a name with ''": func(w *world) Request { return w.mutate(rewrite.Update, "n", "a.name", "") },
		"no such phext":  func(w *world) Request { return w.mutate(rewrite.Delete, "new", scroll(1), "") },
		"a batch":        func(w *world) Request { return w.batch(op("delete", "a.name")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.must(named(rewrite.Update, "a.name", "a"))
			syncing, atSQ := make(chan struct{}), make(chan struct{})
			w.disk.holdSyncs(syncing)
			w.during(func(a *attack) {
				<-syncing // without the record of the end of this write
				close(atSQ)
				a.answer(a.pass())
			}, func() {
				first := w.begin(w.mutate(rewrite.Delete, "n", "a.name", ""))
				<-atSQ
				second := w.begin(ask(w))
				<-syncing
				w.check(<-first)
				select {
				case err := <-second:
					w.disk.holdSyncs(nil)
					t.Fatalf("answered before all was on the disk: %v", err)
				case <-syncing:
				}
				w.disk.set("sync", errors.New("the disk is broken"))
				w.disk.holdSyncs(nil)
				<-syncing
				w.wantError(<-second, apierror.NotKnown)
				w.disk.set("sync", nil)
				w.check(<-w.begin(ask(w))) // else nobody could repeat it
			})
		})
	}
}
