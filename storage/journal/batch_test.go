package journal

import (
	"errors"
	"slices"
	"testing"

	"mirrorborn.us/sqgate/phext"
	"pgregory.net/rapid"
)

// drawSet draws one mutation of any kind, or a batch.
func drawSet(t *rapid.T, files []string) []Mutation {
	all := rapid.SliceOfN(mutations(files), 1, 5).Draw(t, "mutations")
	set := all[:1]
	for _, m := range all[1:] {
		m.File = set[0].File
		if checkBatch(append(slices.Clone(set), m)) == nil {
			set = append(set, m)
		}
	}
	return set
}

func (w *world) beginTogether(all []Mutation) *Pending {
	w.t.Helper()
	p, err := w.j.BeginBatch(all, func() (State, error) { return ReadState(nil, w.path(all[0].File)) })
	w.must(err)
	return p
}

// halfways are the states of a file while SQ makes the mutations in some order.
func halfways(t *rapid.T, before State, all []Mutation) (states []State) {
	for _, m := range rapid.Permutation(all).Draw(t, "order") {
		before = before.After(m)
		states = append(states, before)
	}
	return states
}

func afterAll(s State, all []Mutation) State {
	for _, m := range all {
		s = s.After(m)
	}
	return s
}

// someOf says whether got is before with some of the mutations made.
func someOf(got, before State, all []Mutation) bool {
	for chosen := range 1 << len(all) {
		s := before
		for i, m := range all {
			if chosen>>i&1 == 1 {
				s = s.After(m)
			}
		}
		if s == got {
			return true
		}
	}
	return false
}

func (m *model) together(t *rapid.T) {
	all := drawSet(t, m.files)
	file, before := all[0].File, m.read(all[0].File)
	m.touch(file)
	p := m.beginTogether(all)
	states := halfways(t, before, all)
	m.must(p.Done(m.put(file, states[len(states)-1])))
	if got, want := m.read(file), afterAll(before, all); got != want {
		t.Fatalf("%q in one order, %q in another", got.Text, want.Text)
	}
	m.saw(file)
	m.sawParts(t, before, all)
}

// sawParts notes what can be seen between the ends of the mutations of a batch.
func (m *model) sawParts(t *rapid.T, before State, all []Mutation) {
	events, err := m.j.History(Query{File: all[0].File})
	m.must(err)
	if len(events) < len(all) {
		t.Fatalf("%d events of %d mutations", len(events), len(all))
	}
	seen := m.versions[all[0].File]
	seen = seen[:len(seen)-1]
	for i, e := range events[len(events)-len(all):] {
		seen = append(seen, sight{e.Time.UnixNano(), afterAll(before, all[:i+1])})
	}
	m.versions[all[0].File] = seen
	m.events += len(all) - 1
}

// crashTogether kills SQ and sqgate in the middle of a batch.
func (m *model) crashTogether(t *rapid.T) {
	all := drawSet(t, m.files)
	file, before := all[0].File, m.read(all[0].File)
	m.touch(file)
	m.beginTogether(all)
	want := afterAll(before, all)
	reached := rapid.SampledFrom(append(halfways(t, before, all), before)).Draw(t, "reached")
	if reached.Exists && rapid.Bool().Draw(t, "torn") {
		reached.Text = reached.Text[:rapid.IntRange(0, len(reached.Text)).Draw(t, "written")]
	}
	m.renameAside(t, before, all...)
	if reached != before || rapid.Bool().Draw(t, "written") {
		m.put(file, reached)
	}
	if rapid.Bool().Draw(t, "power cut") {
		m.cfg.BootID += "+"
	}
	m.reopen()
	m.recover()
	m.noneAside(t)
	if got := m.read(file); got != want {
		t.Fatalf("recovered %q of %q, want %q", got.Text, reached.Text, want.Text)
	}
	m.saw(file)
	m.sawParts(t, before, all)
}

func TestWhatMayNotBeTogether(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	first := update("a.phext", 1, "x")
	for name, second := range map[string]Mutation{
		"another file":   update("b.phext", 2, "y"),
		"the same place": update("a.phext", 1, "y"),
		"a delimiter":    update("a.phext", 2, "y\x17"),
		"a whole file":   {File: "a.phext", Op: Replace, At: phext.Origin(), Text: "y"},
	} {
		if _, err := w.j.BeginBatch([]Mutation{first, second}, nil); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.j.BeginBatch(nil, nil); !errors.Is(err, ErrBatch) {
		t.Errorf("nothing: %v", err)
	}
}

// TestAnEditIsNoPartOfASet keeps what somebody else made of a file while a
// batch was pending.
func TestAnEditIsNoPartOfASet(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.put("a.phext", text("one\x17two\x17three"))
	w.beginTogether([]Mutation{update("a.phext", 1, "ONE"), update("a.phext", 2, "TWO")})
	w.put("a.phext", text("ONE\x17by hand\x17three"))
	w.reopen()
	if r := w.recover(); r.Kept != 1 || w.read("a.phext") != text("ONE\x17by hand\x17three") {
		t.Errorf("%+v, %q", r, w.read("a.phext").Text)
	}
}
