package writer

import (
	"context"
	"errors"
	"slices"
	"testing"

	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/journal"
)

// told are the entity tags of the changes that somebody who listens is told of.
func (w *world) told() (tags []string) {
	w.Helper()
	j, err := w.Dirs.JournalOf(w.Dirs.Of(w.tenant.DataDir))
	w.check(err)
	all, _, _, err := j.Changes(journal.Position{}, nil, 1000, nil, func(e journal.Event) bool { return e.Tenant != "" })
	w.check(err)
	for _, c := range all {
		tags = append(tags, c.ETag)
	}
	return tags
}

func (w *world) wantTold(when string, texts ...string) {
	w.Helper()
	var want []string
	for _, text := range texts {
		want = append(want, etag.Of(text))
	}
	if got := w.told(); !slices.Equal(got, want) {
		w.Errorf("%s: told of %q, want %q: %q", when, got, want, texts)
	}
}

// TestAChangeIsToldWhenItIsAcknowledged holds up the sync of the journal.
func TestAChangeIsToldWhenItIsAcknowledged(t *testing.T) {
	w := newWorld(t)
	w.wantTold("at first", "one", "two", "three")
	syncing := make(chan struct{})
	w.disk.holdSyncs(syncing)
	done := w.begin(w.mutate(rewrite.Update, "n", scroll(2), "new"))
	<-syncing
	unlock, err := w.Dirs.Of(w.tenant.DataDir).LockForWrite(context.Background(), w.tenant, nil)
	w.check(err)
	unlock() // the commit has ended, up to the wait for its sync
	w.wantTold("before it is on the disk", "one", "two", "three")
	w.disk.holdSyncs(nil)
	<-syncing
	w.check(<-done)
	w.wantTold("when it is acknowledged", "one", "two", "three", "new")
}

// TestARefusedWriteIsNotTold has SQ answer, and make nothing.
func TestARefusedWriteIsNotTold(t *testing.T) {
	w := newWorld(t)
	w.during(func(a *attack) { a.answer([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) }, func() {
		if _, err := w.commit(update(2, "lost")); err == nil {
			t.Error("a write that SQ did not make was acknowledged")
		}
	})
	w.must(update(3, "next"))
	w.wantTold("after it", "one", "two", "three", "next")
}

// TestAChangeIsToldWhenItIsInTheBucket holds an upload up, and lets another fail.
func TestAChangeIsToldWhenItIsInTheBucket(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	b := w.bucket
	b.hold()
	done := w.begin(w.mutate(rewrite.Update, "n", scroll(1), "first"))
	<-b.arrived
	w.awaitFile(func(text string) bool { return text != start })
	w.wantTold("before it is in the bucket", "one", "two", "three")
	b.letGo(bucket.Fault{})
	w.check(<-done)
	w.wantTold("when it is in the bucket", "one", "two", "three", "first")
	b.hold()
	done = w.begin(w.mutate(rewrite.Update, "n", scroll(1), "second"))
	<-b.arrived
	b.letGo(bucket.Fault{Refuse: errors.New("the bucket is broken")})
	if err := <-done; err == nil {
		t.Error("a write that is not in the bucket was acknowledged")
	}
	w.wantTold("when its upload has failed", "one", "two", "three", "first")
}
