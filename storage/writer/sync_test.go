package writer

import (
	"context"
	"testing"
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
