package writer

import (
	"errors"
	"path/filepath"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// byBob is a mutation of will's phext with bob's key.
func (w *world) byBob(c, text string) Request {
	r := w.mutate(rewrite.Update, "n", c, text)
	r.Writer = w.bob
	return r
}

// TestAWriterStandsInTheHistory, and its Idempotency-Key is its own there.
func TestAWriterStandsInTheHistory(t *testing.T) {
	w := newWorld(t)
	r, own := w.byBob(scroll(1), "by bob"), w.mutate(rewrite.Update, "n", scroll(1), "by will")
	r.IdempotencyKey, own.IdempotencyKey = "one", "one"
	for _, r := range []Request{r, own, r} { // the last one is a repeat
		if _, err := w.Commit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	w.want("by will\x17two\x17three")
	own = w.byBob(scroll(1), "bob at home")
	own.IdempotencyKey, own.Tenant, own.Writer = "one", w.bob, nil // as in a shared directory
	if m := newMutation(own); m.idempotency() == newMutation(r).idempotency() {
		t.Error("bob's Idempotency-Keys are the same at home and here")
	}
	j, err := w.journal.Of(w.Dirs.Of(w.tenant.DataDir).Path)
	w.check(err)
	events, err := j.History(journal.Query{File: "n.phext"})
	w.check(err)
	if n := len(events); n < 2 || events[n-2].Tenant != "bob" || events[n-1].Tenant != "will" {
		t.Errorf("%+v", events)
	}
}

// TestAWriterThatIsRemovedDuringItsWait writes nothing, alone or in another's batch.
func TestAWriterThatIsRemovedDuringItsWait(t *testing.T) {
	for name, entry := range map[string]string{
		"not a writer":             `{"id": "bob", "api_key": "key-of-bob", "data_dir": "/d/bob"}`,
		"disabled":                 `{"id": "bob", "api_key": "key-of-bob", "data_dir": "/d/bob", "enabled": false}`,
		"another with the same id": `{"id": "bob", "api_key": "key-of-bob", "data_dir": "/d/bob", "incarnation": "20260131T150405.000000000Z"}`,
		"gone":                     `{"id": "eve", "api_key": "key-of-eve", "data_dir": "/d/eve"}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			dir := w.Dirs.Of(w.tenant.DataDir)
			unlock, err := dir.LockForWrite(t.Context(), w.tenant, nil)
			w.check(err)
			result, request := make(chan error), w.byBob(scroll(1), "by bob")
			go func() {
				_, err := w.Commit(t.Context(), request)
				result <- err
			}()
			w.awaitQueue(dir, 1)
			writers := `, "writers": ["bob"]`
			if name == "not a writer" || name == "gone" {
				writers = ""
			}
			now, err := tenants.Parse([]byte(`{"tenants": [{"id": "will", "api_key": "key-of-will", "data_dir": "` + filepath.Join(w.root, "data") + `"` + writers + `}, ` + entry + `]}`))
			w.check(err)
			w.snapshot.Store(now)
			unlock()
			if e := apierror.From(<-result); e == nil || e.Kind != apierror.Forbidden {
				t.Errorf("%v", e)
			}
			w.want(start)
		})
	}
}

// TestABatchLeavesOutWhoMayNotWrite any more.
func TestABatchLeavesOutWhoMayNotWrite(t *testing.T) {
	w := newWorld(t)
	dir := w.Dirs.Of(w.tenant.DataDir)
	unlock, err := dir.LockForWrite(t.Context(), w.tenant, nil)
	w.check(err)
	defer unlock()
	tx := w.newTransaction(t.Context(), dir, newMutation(w.mutate(rewrite.Update, "n", scroll(1), "lead")), unlock)
	for _, step := range []func() (bool, error){tx.openJournal, tx.readPhext, tx.resolveName, tx.apply} {
		if done, err := step(); done || err != nil {
			t.Fatal(done, err)
		}
	}
	wait := func(r Request) *mutation {
		m := newMutation(r)
		m.stopWaiting = func() {}
		w.queue(dir).add(m)
		return m
	}
	joins := wait(w.byBob(scroll(2), "by bob"))
	eve := *w.bob
	eve.ID = "eve"
	stays := w.byBob(scroll(3), "by eve")
	stays.Writer = &eve
	wait(stays)
	tx.leadBatch()
	if len(tx.members) != 2 || tx.members[1] != joins || len(w.queue(dir).waiting) != 1 {
		t.Errorf("%d members, %d wait", len(tx.members), len(w.queue(dir).waiting))
	}
	if err := w.Dirs.CheckWriter(w.tenant, &eve); !errors.As(err, new(*apierror.Error)) {
		t.Errorf("%v", err)
	}
}
