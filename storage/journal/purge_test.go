package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPurgeForgetsEverything purges an open journal and a closed one, and uses it
// again.
func TestPurgeForgetsEverything(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		m := update("notes.phext", 1, "text")
		m.Tenant, m.Idempotency = "will", "one"
		w.mutate(m)
		w.must(os.Remove(filepath.Join(w.data, "notes.phext")))
		w.must(os.MkdirAll(w.j.dir+purgedSuffix, 0o700)) // left by an interrupted call
		if reopened {
			w.reopen()
		}
		w.must(w.set.Purge(w.data))
		if _, err := os.Stat(w.j.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the journal is still there: %v", err)
		}
		left, err := os.ReadDir(w.cfg.Dir)
		if w.must(err); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		if _, _, ok, err := w.j.Answered("will", "one"); ok || err != nil {
			t.Error("an answer is still known")
		}
		events, err := w.j.History(Query{})
		if w.must(err); len(events) != 0 {
			t.Errorf("a history is still known: %v", events)
		}
		w.now = w.now.Add(time.Second)
		w.mutate(update("notes.phext", 1, "again"))
		w.reopen()
		events, err = w.j.History(Query{})
		if w.must(err); len(events) != 1 {
			t.Errorf("used again: %v", events)
		}
	}
}
