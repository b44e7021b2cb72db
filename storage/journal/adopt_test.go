package journal

import (
	"errors"
	"iter"
	"os"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestAdopt makes files what a log in a bucket says. That is part of the history, and
// survives a new start and a power cut.
func TestAdopt(t *testing.T) {
	for _, test := range []struct {
		name      string
		now, want State
	}{
		{"another text", State{Text: "local", Exists: true}, State{Text: "of the bucket", Exists: true}},
		{"a file that is not there", State{}, State{Text: "of the bucket", Exists: true}},
		{"a file that must not be there", State{Text: "local", Exists: true}, State{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := closing(t, newWorld(t, t.TempDir(), nil))
			if test.now.Exists {
				w.mutate(Mutation{File: "a.phext", Op: Replace, Text: "before"})
				w.put("a.phext", test.now) // by hand
			}
			id, err := w.j.Adopt(w.j.dataDir, "a.phext", test.now, test.want, "from the bucket")
			w.must(err)
			if got := w.read("a.phext"); got != test.want {
				t.Errorf("the file is %+v", got)
			}
			if last, known := w.j.LastSeen("a.phext"); !known || last != id {
				t.Errorf("last seen as %+v (%v), and is %+v", last, known, id)
			}
			events, err := w.j.History(Query{File: "a.phext"})
			w.must(err)
			if e := events[len(events)-1]; e.Note != "from the bucket" {
				t.Errorf("%+v", events)
			}
			w.reopen()
			w.recover()
			if got := w.read("a.phext"); got != test.want {
				t.Errorf("after a start: %+v", got)
			}
		})
	}
}

func TestSetAside(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	path, err := w.j.SetAside("a.phext", State{Text: "ahead", Exists: true})
	w.must(err)
	if text, err := os.ReadFile(path); err != nil || string(text) != "ahead" {
		t.Errorf("%q, %v", text, err)
	}
}

func each(all []Answer) iter.Seq2[Answer, error] {
	return func(yield func(Answer, error) bool) {
		for _, a := range all {
			if !yield(a, nil) {
				return
			}
		}
	}
}

// TestSetAnswersThatCannotBeHad leaves those that there are, if any. Meanwhile the journal is
// used.
func TestSetAnswersThatCannotBeHad(t *testing.T) {
	for _, want := range []string{"", "done"} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		m := Mutation{File: "a.phext", Op: Update, Text: "x", Tenant: "will"}
		if want != "" {
			m.Idempotency, m.Digest, m.Answer = "local", "d", want
		}
		w.mutate(m)
		used := w.j.cfg.answersAll.Above(0)
		asked := func() {
			t.Helper()
			if text, _, ok, err := w.j.Answered("will", "local"); text != want || ok != (want != "") || err != nil {
				t.Errorf("%q, %v, %v, want %q", text, ok, err, want)
			}
		}
		gone := errors.New("gone")
		err := w.j.SetAnswers(func(yield func(Answer, error) bool) {
			asked()
			if yield(Answer{w.now, "will", "remote", "d", "of the bucket"}, nil) {
				asked()
				yield(Answer{}, gone)
			}
		})
		if asked(); !errors.Is(err, gone) || w.j.cfg.answersAll.Above(0) != used {
			t.Errorf("%v; %d answers count, and %d before", err, w.j.cfg.answersAll.Above(0), used)
		}
		names, err := os.ReadDir(w.j.dir)
		w.must(err)
		for _, e := range names {
			if strings.HasPrefix(e.Name(), fsutil.Temporary) {
				t.Errorf("%s is left", e.Name())
			}
		}
	}
}

// TestSetAnswers has answers of the journal that the bucket does not know, and others.
func TestSetAnswers(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	local := Mutation{File: "a.phext", Op: Update, Text: "x", Tenant: "will", Idempotency: "local", Digest: "d", Answer: "of a write that was taken back"}
	w.mutate(local)
	both := []Answer{{w.now, "will", "remote", "d", "of the bucket"}}
	w.must(w.j.SetAnswers(each(both)))
	check := func(when string) {
		t.Helper()
		if _, _, ok, err := w.j.Answered("will", "local"); ok || err != nil {
			t.Errorf("%s: a write that was taken back is answered; %v", when, err)
		}
		if text, digest, ok, err := w.j.Answered("will", "remote"); !ok || text != "of the bucket" || digest != "d" || err != nil {
			t.Errorf("%s: %q %q %v %v", when, text, digest, ok, err)
		}
	}
	check("at once")
	w.reopen()
	check("after a start")
	segment, times := w.j.seg.number, 0
	w.must(w.j.SetAnswers(func(yield func(Answer, error) bool) {
		times++
		each(both)(yield)
	}))
	if w.j.seg.number != segment || times != 1 {
		t.Errorf("the same answers are asked for %d times, and in a new segment: %v", times, w.j.seg.number != segment)
	}
	w.must(w.j.SetAnswers(each(nil)))
	if _, _, ok, err := w.j.Answered("will", "remote"); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
}
