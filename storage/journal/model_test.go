package journal

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sight is a state that clients could see from a moment on.
type sight struct {
	from  int64
	state State
}

// model has every state of every file, which the journal must know.
type model struct {
	*world
	versions map[string][]sight
	first    map[string]State // before the first mutation that the journal knows
	events   int
	files    []string
	cut      time.Time // when the power was cut
}

func newModel(t *rapid.T, root string, change func(*Config)) *model {
	m := &model{world: newWorld(t, root, change), versions: map[string][]sight{}, first: map[string]State{}, files: []string{"a.phext", "b.phext", ".phext"}}
	m.tune = func(s *settings) { s.inlineMax, s.segmentMax = 40, 600 }
	m.reopen()
	m.put("a.phext", text("there before\x17\x18and more"))
	return m
}

func (m *model) touch(file string) {
	if _, ok := m.first[file]; !ok {
		m.first[file] = m.read(file)
	}
}

func (m *model) saw(file string) {
	m.versions[file] = append(m.versions[file], sight{m.j.lastTime, m.read(file)})
	m.events++
}

func (m *model) at(file string, t int64) State {
	for _, v := range slices.Backward(m.versions[file]) {
		if v.from <= t {
			return v.state
		}
	}
	if s, ok := m.first[file]; ok {
		return s
	}
	return m.read(file)
}

func mutations(files []string) *rapid.Generator[Mutation] {
	return rapid.Custom(func(t *rapid.T) Mutation {
		return Mutation{
			File: rapid.SampledFrom(files).Draw(t, "file"),
			Op:   rapid.SampledFrom([]Op{Insert, Update, Delete, Insert, Update, Replace, Remove}).Draw(t, "op"),
			At:   at(rapid.Uint32Range(1, 4).Draw(t, "at")),
			Text: rapid.StringOfN(rapid.RuneFrom([]rune("abcdefé\x17\x18\x00")), 0, 30, -1).Draw(t, "text"),
		}
	})
}

func (m *model) mutate(t *rapid.T) {
	mut := mutations(m.files).Draw(t, "mutation")
	m.touch(mut.File)
	m.world.mutate(mut)
	m.saw(mut.File)
}

func (m *model) abort(t *rapid.T) {
	mut := mutations(m.files).Draw(t, "mutation")
	m.touch(mut.File)
	m.must(m.begin(mut).Abort())
}

func (m *model) edit(t *rapid.T) {
	file := rapid.SampledFrom(m.files).Draw(t, "file")
	s := State{}.After(mutations(m.files).Draw(t, "text"))
	id := m.put(file, s)
	m.touch(file)
	m.must(m.j.RecordEdit(file, s, id))
	m.saw(file)
}

// crash kills SQ and sqgate in the middle of a write.
func (m *model) crash(t *rapid.T) {
	mut := mutations(m.files).Draw(t, "mutation")
	m.touch(mut.File)
	m.begin(mut)
	before := m.read(mut.File)
	want := before.After(mut)
	m.renameAside(t, before, mut)
	if want.Exists && rapid.Bool().Draw(t, "torn") {
		m.put(mut.File, text(want.Text[:rapid.IntRange(0, len(want.Text)).Draw(t, "written")]))
	}
	if rapid.Bool().Draw(t, "power cut") {
		m.cfg.BootID += "+"
	}
	m.reopen()
	m.recover()
	m.noneAside(t)
	if got := m.read(mut.File); got != want {
		t.Fatalf("recovered %q, want %q", got.Text, want.Text)
	}
	events, err := m.j.History(Query{File: mut.File})
	m.must(err)
	m.versions[mut.File] = append(m.versions[mut.File], sight{events[len(events)-1].Time.UnixNano(), want})
	m.events++
}

// renameAside has SQ create the file again, at random, if SQ makes the
// mutations.
func (m *model) renameAside(t *rapid.T, before State, all ...Mutation) {
	if before.Exists && all[0].Op <= Delete && rapid.Bool().Draw(t, "renamed aside") {
		m.must(os.Rename(m.path(all[0].File), BeforePath(m.path(all[0].File))))
	}
}

func (m *model) check(t *rapid.T) {
	moment := m.now.Add(-time.Duration(rapid.Int64Range(-5, 400).Draw(t, "seconds ago")) * time.Second)
	there, err := m.j.FilesAt(m.data, moment)
	m.must(err)
	for _, file := range m.files {
		got, err := m.j.At(file, moment)
		if want := m.at(file, moment.UnixNano()); err != nil || got != want {
			t.Fatalf("%s: %q %v, %v, want %q %v", file, got.Text, got.Exists, err, want.Text, want.Exists)
		}
		if slices.Contains(there, file) != got.Exists {
			t.Fatalf("%s: At says %v, the list is %q", file, got.Exists, there)
		}
	}
}

func (m *model) checkHistory(t *rapid.T) {
	events, err := m.j.History(Query{})
	if err != nil || len(events) != m.events {
		t.Fatalf("%d events, %v, want %d", len(events), err, m.events)
	}
	if !slices.IsSortedFunc(events, func(a, b Event) int { return cmp.Or(a.Time.Compare(b.Time), 1) }) {
		t.Fatal("two events at one moment, or out of order")
	}
}

// TestEveryMomentComesBack mutates, edits, crashes and restarts at random. The
// state at any moment must be the one that was seen then.
func TestEveryMomentComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "journal")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(root) }()                // what is left does no harm
		m := newModel(t, root, func(c *Config) { c.Sync = Off }) // for speed
		defer func() { m.must(m.set.Close()) }()
		t.Repeat(map[string]func(*rapid.T){
			"mutate":  m.mutate,
			"another": m.mutate,
			"abort":   m.abort,
			"set":     m.together,
			"halfway": m.crashTogether,
			"all":     m.allAtOnce,
			"none":    m.crashOfAll,
			"edit":    m.edit,
			"crash":   m.crash,
			"wait": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.Int64Range(-3, 100).Draw(t, "s")) * time.Second)
			},
			"restart": func(*rapid.T) { m.reopen() },
			"rest":    func(*rapid.T) { m.must(m.j.Suspend()) },
			"recover": func(*rapid.T) { m.recover() },
			"history": m.checkHistory,
			"":        m.check,
		})
	})
}

// TestPruningOnlyForgets keeps hardly any history. The state at a moment must
// be right, or the error must say that it is gone. What is kept must be
// bounded.
func TestPruningOnlyForgets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "journal")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(root) }() // what is left does no harm
		m := newModel(t, root, func(c *Config) {
			c.Sync = Off // for speed
			c.History = time.Duration(rapid.IntRange(0, 200).Draw(t, "history")) * time.Second
			c.Limit = int64(rapid.SampledFrom([]int{0, 3000}).Draw(t, "limit"))
		})
		defer func() { m.must(m.set.Close()) }()
		for range rapid.IntRange(1, 60).Draw(t, "mutations") {
			m.now = m.now.Add(10 * time.Second)
			m.mutate(t)
			ago := time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds ago")) * time.Second
			for _, file := range m.files {
				got, err := m.j.At(file, m.now.Add(-ago))
				if errors.Is(err, ErrBeyondHistory) && ago > 0 {
					continue
				}
				if want := m.at(file, m.now.Add(-ago).UnixNano()); err != nil || got != want {
					t.Fatalf("%s %v ago: %q, %v, want %q", file, ago, got.Text, err, want.Text)
				}
			}
		}
		checkBounds(t, m)
	})
}

func checkBounds(t *rapid.T, m *model) {
	of, total, err := diskUsage(m.j.dir)
	m.must(err)
	numbers := slices.Sorted(maps.Keys(of))
	if m.cfg.History == 0 && len(numbers) > 1 {
		t.Fatalf("segments %v are kept without a history", numbers)
	}
	newest := of[numbers[len(numbers)-1]]
	if seen, err := os.Stat(filepath.Join(m.j.dir, seenFile)); err == nil { // which is written after old segments are removed
		total -= seen.Size()
	}
	if m.cfg.Limit > 0 && len(numbers) > 1 && total-newest > m.cfg.Limit {
		t.Fatalf("%d bytes are kept beside the newest segment", total-newest)
	}
}

// TestReplayStateIsManyAfters compares a replay with State.After, called one by
// one.
func TestReplayStateIsManyAfters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := State{Text: rapid.StringOf(rapid.RuneFrom([]rune("ab\x17\x18\x01"))).Draw(t, "base"), Exists: true}
		d := &replayState{base: want}
		for _, m := range rapid.SliceOf(mutations([]string{"a.phext"})).Draw(t, "mutations") {
			want = want.After(m)
			d.apply(m)
			if rapid.Bool().Draw(t, "look") && d.state() != want {
				t.Fatalf("%q, want %q", d.state().Text, want.Text)
			}
		}
		if d.state() != want {
			t.Fatalf("%q, want %q", d.state().Text, want.Text)
		}
	})
}
