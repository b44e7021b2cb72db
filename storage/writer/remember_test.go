package writer

import (
	"errors"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// TestTheAnswerToNothingIsKept: a repeat must not delete what was written since.
func TestTheAnswerToNothingIsKept(t *testing.T) {
	const since = "written since"
	for name, ask := range map[string]func(w *world) Request{
		"no such phext":     func(w *world) Request { return w.mutate(rewrite.Delete, "new", scroll(1), "") },
		"no such name":      func(w *world) Request { return w.mutate(rewrite.Delete, "n", "a.name", "") },
		"a name with ''":    func(w *world) Request { return w.mutate(rewrite.Update, "n", "a.name", "") },
		"a batch":           func(w *world) Request { return w.batch(op("delete", "a.name")) },
		"a batch of reads":  func(w *world) Request { return w.batch(op("select", "a.name")) },
		"a name, no phext":  func(w *world) Request { return w.mutate(rewrite.Delete, "new", "a.name", "") },
		"a scroll that was": func(w *world) Request { return w.mutate(rewrite.Delete, "n", scroll(9), "") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := ask(w)
			r.IdempotencyKey = "once"
			first, err := w.Commit(t.Context(), r)
			w.check(err)
			for phext, where := range map[string]string{"new": scroll(1), "n": "a.name"} {
				_, err = w.Commit(t.Context(), w.mutate(rewrite.Update, phext, where, since))
				w.check(err)
			}
			_, err = w.Commit(t.Context(), w.mutate(rewrite.Update, "new", "a.name", since))
			w.check(err)
			w.must(update(9, since))
			files := func() string { return w.file("n.phext") + w.file("new.phext") }
			before := files()
			for range 2 {
				again := ask(w)
				again.IdempotencyKey = "once"
				result, err := w.Commit(t.Context(), again)
				if err != nil || string(result.Body) != string(first.Body) || result.Changed {
					t.Errorf("%q was repeated with %q, %v, %v", first.Body, result.Body, result.Changed, err)
				}
				if got := files(); got != before {
					t.Errorf("a repeat made %q of %q", got, before)
				}
				other := w.mutate(rewrite.Delete, "other", scroll(1), "")
				other.IdempotencyKey = "once"
				if _, err := w.Commit(t.Context(), other); !errors.Is(err, datadir.ErrKeyReused) {
					t.Errorf("another request: %v", err)
				}
				w.restart()
			}
		})
	}
}

// TestAnAnswerThatCannotBeKept is none: nothing was changed, and the request can be repeated.
func TestAnAnswerThatCannotBeKept(t *testing.T) {
	w := newWorld(t)
	r := w.mutate(rewrite.Delete, "new", scroll(1), "")
	r.IdempotencyKey = "once"
	w.disk.set("journal", errors.New("the disk is broken"))
	_, err := w.Commit(t.Context(), r)
	w.wantError(err, apierror.BackendFailed)
	w.disk.set("journal", nil)
	_, err = w.Commit(t.Context(), r)
	w.check(err)
	w.must(update(1, "after"))
}
