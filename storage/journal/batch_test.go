package journal

import (
	"errors"
	"maps"
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

// halfways are the states of a file while SQ writes the scrolls in some order, each once.
func halfways(t *rapid.T, before State, all []Mutation) (states []State) {
	scrolls := ofScrolls(all)
	for _, at := range rapid.Permutation(slices.SortedFunc(maps.Keys(scrolls), phext.Coordinate.Compare)).Draw(t, "order") {
		before = before.AfterAll(scrolls[at])
		states = append(states, before)
	}
	return states
}

// ofScrolls are the mutations of each scroll.
func ofScrolls(all []Mutation) map[phext.Coordinate][]Mutation {
	scrolls := map[phext.Coordinate][]Mutation{}
	for _, m := range all {
		scrolls[m.At] = append(scrolls[m.At], m)
	}
	return scrolls
}

func afterAll(s State, all []Mutation) State {
	for _, m := range all {
		s = s.After(m)
	}
	return s
}

// someOf says whether got is before with the first of the mutations made, as single
// ones would be, or with some scrolls as all of them make them.
func someOf(got, before State, all []Mutation) bool {
	scrolls := slices.Collect(maps.Values(ofScrolls(all)))
	for chosen := range 1 << len(scrolls) {
		s := before
		for i, mutations := range scrolls {
			if chosen>>i&1 == 1 {
				s = s.AfterAll(mutations)
			}
		}
		if s == got {
			return true
		}
	}
	for n := range all {
		if before.AfterAll(all[:n]) == got {
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
		"another file": update("b.phext", 2, "y"),
		"a delimiter":  update("a.phext", 2, "y\x17"),
		"a whole file": {File: "a.phext", Op: Replace, At: phext.Origin(), Text: "y"},
	} {
		if _, err := w.j.BeginBatch([]Mutation{first, second}, nil); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.j.BeginBatch(nil, nil); !errors.Is(err, ErrBatch) {
		t.Errorf("nothing: %v", err)
	}
}

// TestAHotScrollIsWrittenOnce completes a batch of which SQ has written one scroll, or a
// beginning of the file: the scroll has what all its mutations make of it.
func TestAHotScrollIsWrittenOnce(t *testing.T) {
	all := []Mutation{
		{File: "a.phext", Op: Insert, At: at(1), Text: "+"},
		{File: "a.phext", Op: Insert, At: at(1), Text: "more"},
		update("a.phext", 2, "TWO"),
		update("a.phext", 3, "never"),
		{File: "a.phext", Op: Delete, At: at(3)},
		{File: "a.phext", Op: Insert, At: at(3), Text: "new"},
	}
	for _, reached := range []string{
		"one+more\x17two\x17three", "one\x17TWO\x17three", "one\x17two\x17new", "one+more\x17two\x17new",
		"one+mo", "one+more\x17TW", "one+more\x17two\x17ne", "one+more\x17two\x17thr", "one\x17two\x17n", "",
	} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.put("a.phext", text("one\x17two\x17three"))
		w.beginTogether(all)
		w.put("a.phext", text(reached))
		w.reopen()
		if r := w.recover(); r.Kept != 0 || w.read("a.phext") != text("one+more\x17TWO\x17new") {
			t.Errorf("%q: %+v, %q", reached, r, w.read("a.phext").Text)
		}
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
