package writer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/journal"
)

// mixture is what is done to one scroll by many at once: each of them if it is its turn.
func (w *world) mixture() (requests []Request) {
	m := func(op rewrite.Op, n int, text string, ifMatch ...string) {
		r := w.mutate(op, "n", scroll(n), text)
		for _, tag := range ifMatch {
			r.IfMatch = append(r.IfMatch, etag.Of(tag))
		}
		requests = append(requests, r)
	}
	m(rewrite.Update, 2, "a")
	m(rewrite.Insert, 2, "b")
	m(rewrite.Update, 1, "other")
	m(rewrite.Update, 2, "never", "two")
	m(rewrite.Insert, 2, "c", "ab")
	m(rewrite.Delete, 2, "")
	m(rewrite.Insert, 2, "d", "abc")
	m(rewrite.Insert, 2, "e")
	m(rewrite.Delete, 1, "", "other")
	m(rewrite.Insert, 2, "f", "e")
	m(rewrite.Delete, 1, "")
	return requests
}

// TestAHotScroll has each mutation of one scroll answered as if it had been alone, in
// the order of arrival, although SQ writes the scroll once.
func TestAHotScroll(t *testing.T) {
	for _, way := range []string{"recreate", "truncate"} {
		t.Run(way, func(t *testing.T) {
			w, alone := newWorld(t), newWorld(t)
			if way == "truncate" {
				w.check(os.Chmod(w.path("n.phext"), 0o640))
				w.must(update(3, "three"))
			}
			w.during(nil, func() {
				results, errs := w.together(w.mixture()...)
				for i, r := range alone.mixture() {
					want, wantErr := alone.Commit(t.Context(), r)
					got := results[i]
					if !errors.Is(errs[i], wantErr) || wantErr == nil && (string(got.Body) != string(want.Body) || got.ETag != want.ETag || got.Changed != want.Changed) {
						t.Errorf("%d: %s %+v, %v, want %s %+v, %v", i, got.Body, got, errs[i], want.Body, want, wantErr)
					}
				}
			})
			if n := len(w.sq.exchanges); n != 2 {
				t.Errorf("SQ wrote %d times for two scrolls", n)
			}
			w.want("\x17ef\x17three")
			if got, want := w.past(), alone.past(); !slices.Equal(got, want) {
				t.Errorf("the history is %q, and of single writes %q", got, want)
			}
			w.restart()
			w.want("\x17ef\x17three")
		})
	}
}

// made is how many of the mixture are made.
const made = 9

// past is what the journal says of the mixture: each event with the text that it left.
func (w *world) past() (all []string) {
	w.Helper()
	j, err := w.journal.Of(w.tenant.DataDir)
	w.check(err)
	events, err := j.History(journal.Query{File: "n.phext"})
	w.check(err)
	for _, e := range events[max(0, len(events)-made):] {
		state, err := j.At("n.phext", e.Time)
		w.check(err)
		all = append(all, fmt.Sprintf("%s %v %d: %s", e.Op, e.At, e.Bytes, state.Text))
	}
	return all
}

// TestAHotScrollWithoutRoom refuses a mutation that is past the quota, also if a later
// one makes the phext small again.
func TestAHotScrollWithoutRoom(t *testing.T) {
	w := newWorld(t)
	w.must(step{rewrite.Update, scroll(4), strings.Repeat("b", 1<<20-50<<10)})
	_, errs := w.together(w.mutate(rewrite.Update, "n", scroll(1), strings.Repeat("x", 60<<10)), w.mutate(rewrite.Update, "n", scroll(1), "small"))
	w.wantError(errs[0], apierror.QuotaExceeded)
	w.check(errs[1])
}

// TestARefusalInABatchThatFails is none: the state that it rests on never was.
func TestARefusalInABatchThatFails(t *testing.T) {
	w := newWorld(t)
	first, second := w.mutate(rewrite.Update, "n", scroll(1), "first"), w.mutate(rewrite.Update, "n", scroll(1), "second")
	first.IfMatch, second.IfMatch = []string{etag.Of("one")}, []string{etag.Of("one")}
	w.during(func(a *attack) {
		if strings.Contains(string(a.raw), "first") {
			a.answer([]byte("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))
			return
		}
		a.answer(a.pass())
	}, func() {
		_, errs := w.together(first, second)
		w.wantError(errs[0], apierror.BackendFailed)
		w.check(errs[1])
	})
	w.want("second\x17two\x17three")
}

// TestANameThatGoes with its scroll is gone before the next scroll at its coordinate.
func TestANameThatGoes(t *testing.T) {
	w := newWorld(t)
	w.must(step{rewrite.Update, "a.name", "named"})
	at := rewrite.FirstNamed().String()
	w.during(nil, func() {
		_, errs := w.together(w.mutate(rewrite.Delete, "n", at, ""), w.mutate(rewrite.Update, "n", at, "by its number"))
		w.check(errors.Join(errs...))
	})
	if n := len(w.sq.exchanges); n != 2 {
		t.Errorf("SQ wrote %d times, so a crash could leave the name with the next scroll", n)
	}
	if got := w.file("n.names.phext"); strings.Contains(got, "a.name") {
		t.Errorf("the names are %q", got)
	}
}
