package replica

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
)

// memoryFor has so many bytes for mutations that are kept. All others are read again.
func memoryFor(kept int64) *Memory {
	m := NewMemory()
	m.kept = memlimit.NewBudget(kept)
	return m
}

// TestStateThenOfAPartOfAnObject has objects of several groups, and asks for the states
// between them, which are in no object.
func TestStateThenOfAPartOfAnObject(t *testing.T) {
	for _, kept := range []int64{0, keptInAll} {
		d := newDirectory(bucket.NewMemory(), "a")
		now := int64(1)
		d.Now, d.Memory = func() time.Time { return time.Unix(0, now) }, memoryFor(kept)
		l := takeOver(t, d)
		file, want, states := journal.State{}, "", map[int64]string{1: ""}
		for range 5 {
			var groups []object.Group
			for range 4 {
				now += 10
				m := journal.Mutation{File: "a.phext", Op: journal.Insert, At: phext.Origin(), Text: fmt.Sprint(now, " ")}
				if now%150 == 1 {
					m.Op, want = journal.Replace, ""
				}
				want += m.Text
				file = file.After(m)
				groups = append(groups, object.Group{Time: now, Mutations: []journal.Mutation{m}, After: FileState(file)})
				other := group("other")
				other.Time, other.Mutations[0].File = now, "b.phext"
				groups, states[now] = append(groups, other), want
			}
			now++
			must(l.Append(t.Context(), groups))(t)
		}
		for at, want := range states {
			s := must(d.StateThen(t.Context(), time.Unix(0, at)))(t)
			if got := must(s.Content(t.Context(), "a.phext"))(t); got.Text != want {
				t.Errorf("at %d %q, want %q", at, got.Text, want)
			}
		}
	}
}

// TestMemoryOfStates gives back what states that nobody has any more kept.
func TestMemoryOfStates(t *testing.T) {
	d := newDirectory(bucket.NewMemory(), "a")
	d.Memory = memoryFor(keptInAll)
	l := takeOver(t, d)
	appendTexts(t, l, "one", "two", "three")
	s := must(d.StateAt(t.Context(), l.End()))(t)
	if s.kept.Load() == 0 || d.Memory.kept.Above(0) != s.kept.Load() {
		t.Errorf("%d bytes are kept, and %d taken", s.kept.Load(), d.Memory.kept.Above(0))
	}
	runtime.KeepAlive(s)
	for i := 0; d.Memory.kept.Above(0) > 0; i++ {
		if i == 10000 {
			t.Fatal("nothing was given back")
		}
		runtime.GC()
		runtime.Gosched()
	}
}

// TestStateAt makes mutations of some files, with checkpoints between them, and looks at
// what the log says after each. What is fetched is only the files that are asked for.
func TestStateAt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := bucket.NewMemory()
		d := newDirectory(m, "a")
		d.Memory = memoryFor(rapid.SampledFrom([]int64{0, 3 * mutationBeside, keptInAll}).Draw(rt, "kept"))
		l := takeOver(t, d)
		model := map[string]journal.State{}
		var states []map[string]journal.State // by number - 1
		note := func() {
			now := map[string]journal.State{}
			for name, s := range model {
				now[name] = s
			}
			states = append(states, now)
		}
		note() // after the record that opens the epoch
		for i := range rapid.IntRange(1, 12).Draw(rt, "objects") {
			var groups []object.Group
			for range rapid.IntRange(1, 3).Draw(rt, "groups") {
				mut := journal.Mutation{
					File: rapid.SampledFrom([]string{"a.phext", "b.phext"}).Draw(rt, "file"), Op: journal.Op(rapid.IntRange(1, 5).Draw(rt, "op")),
					At: phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, rapid.Uint32Range(1, 4).Draw(rt, "at")}, Text: rapid.SampledFrom([]string{"", "x", "yy", "a\x17b", "z\x17"}).Draw(rt, "text"),
				}
				if mut.Op == journal.Remove || mut.Op == journal.Delete {
					mut.Text = ""
				}
				model[mut.File] = model[mut.File].After(mut)
				groups = append(groups, object.Group{Time: int64(i), Mutations: []journal.Mutation{mut}, After: FileState(model[mut.File])})
			}
			must(l.Append(t.Context(), groups))(t)
			note()
			if rapid.Bool().Draw(rt, "checkpoint") {
				local := func(name string) (journal.State, error) {
					if i%3 == 0 {
						return journal.State{}, os.ErrPermission
					}
					return model[name], nil
				}
				if seq := must(l.Compact(t.Context(), local, nil))(t); seq != l.End() {
					rt.Fatal(seq)
				}
			}
		}
		for i, want := range states {
			s, err := d.StateAt(t.Context(), uint64(i+1))
			if err != nil || s.Checkpoint > uint64(i+1) {
				rt.Fatal(s, err)
			}
			for _, name := range []string{"a.phext", "b.phext"} {
				got, err := s.Content(t.Context(), name)
				if err != nil || got != want[name] {
					rt.Fatalf("at %d %s is %+v, %v; want %+v", i+1, name, got, err, want[name])
				}
				f := s.Files[name]
				if f != nil && (!f.Is(SumsOf(want[name])) || f.Is(SumsOf(journal.State{Text: "another", Exists: true}))) {
					rt.Fatalf("at %d %s is not known by its checksum", i+1, name)
				}
			}
		}
	})
}

// TestStateOfADamagedLog has a log whose checksum is of another text.
func TestStateOfADamagedLog(t *testing.T) {
	d := newDirectory(bucket.NewMemory(), "a")
	l := takeOver(t, d)
	appendTexts(t, l, "one") // group has no checksum
	s := must(d.StateAt(t.Context(), l.End()))(t)
	if _, err := s.Content(t.Context(), "a.phext"); !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
}

// TestCompact has a long log of a few files. Afterwards a state takes few requests, a
// file that did not change is not written again, and what the checkpoint says is right
// also where this host has something else.
func TestCompact(t *testing.T) {
	m := bucket.NewMemory()
	d := newDirectory(m, "a")
	l := takeOver(t, d)
	write := func(file, text, key string) {
		g := object.Group{Time: time.Now().UnixNano(), Mutations: []journal.Mutation{{File: file, Op: journal.Replace, Text: text, Idempotency: key}}, After: FileState(journal.State{Text: text, Exists: true})}
		must(l.Append(t.Context(), []object.Group{g}))(t)
	}
	write("same.phext", "same", "")
	nothing := func(string) (journal.State, error) { return journal.State{Text: "ahead", Exists: true}, nil }
	must(l.Compact(t.Context(), nothing, nil))(t)
	for i := range 100 {
		write("n.phext", fmt.Sprint(i), "")
	}
	write("n.phext", "last", "key")
	m.Calls()
	seq := must(l.Compact(t.Context(), nothing, nil))(t)
	if calls := m.Calls(); calls[bucket.OpPut] != 3 { // the clock, one file, and the checkpoint
		t.Error(calls)
	}
	s := must(d.StateAt(t.Context(), l.End()))(t)
	if calls := m.Calls(); calls[bucket.OpGet] != 1 || s.Checkpoint != seq || len(s.answers) != 1 {
		t.Errorf("%v, %+v", calls, s)
	}
	for name, want := range map[string]string{"same.phext": "same", "n.phext": "last"} {
		if got := must(s.Content(t.Context(), name))(t); got.Text != want {
			t.Errorf("%s is %q", name, got.Text)
		}
	}
	if again := must(l.Compact(t.Context(), nothing, nil))(t); again != seq || m.Calls()[bucket.OpPut] != 0 {
		t.Error("a checkpoint of what has one")
	}
}
