package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// listenTo reads what is behind a Position, in several calls, and returns the notes of the
// changes and the last Position.
func listenTo(t *testing.T, j *Journal, from Position, most int) (notes []string, all []Change, next Position) {
	t.Helper()
	for {
		found, after, more, err := j.Changes(from, nil, most, nil, func(Event) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range found {
			notes = append(notes, c.Op+c.Note)
		}
		all, from = append(all, found...), after
		if !more {
			return notes, all, from
		}
	}
}

// restarted is the journal after a crash and a restart of sqgate.
func restarted(w *world) *Journal {
	w.open()
	return w.j
}

func idOf(w *world, file string) fsutil.FileID {
	id, err := fsutil.Identify(w.path(file))
	w.must(err)
	return id
}

// TestChangesModel makes batches, refusals, edits, rotations and restarts at random. A
// listener that goes on from any cursor that it was ever given must see all that was
// announced behind it, once and in order.
func TestChangesModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		e := newWorld(t, t.TempDir(), nil)
		e.tune = func(s *settings) { s.segmentMax = 2 << 10 }
		j := restarted(e)
		var want []string // that were announced
		type given struct {
			at   Position
			seen int
		}
		cursors := []given{{j.End().Position, 0}, {Position{}, 0}}
		live, seen := Position{}, 0
		files := []string{"a.phext", "b.phext"}
		state := map[string]State{}
		waiting := []string{}
		announced := func() { want, waiting = append(want, waiting...), nil }
		for n := range 120 {
			file := files[r.IntN(len(files))]
			before := state[file]
			switch r.IntN(8) {
			default: // a batch
				var all []Mutation
				for i := range 1 + r.IntN(3) {
					all = append(all, Mutation{File: file, Op: Update, At: phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, uint32(i + 1)}, Text: fmt.Sprint("text ", n), Tenant: "t", Note: fmt.Sprint(n, ".", i), ETag: `"x"`, Size: 7})
				}
				begin := j.BeginBatch
				if r.IntN(2) == 0 {
					begin = j.BeginAll
				}
				p, err := begin(all, func() (State, error) { return before, nil })
				if err != nil {
					t.Fatal(err)
				}
				if r.IntN(4) == 0 {
					if err := p.Abort(); err != nil {
						t.Fatal(err)
					}
					p.Announce()
					announced()
					break
				}
				state[file] = before.AfterAll(all)
				e.put(file, State{Text: state[file].Text, Exists: true})
				if err := p.Done(idOf(e, file)); err != nil {
					t.Fatal(err)
				}
				for _, m := range all {
					waiting = append(waiting, "update"+m.Note)
				}
				if r.IntN(4) > 0 {
					p.Announce()
					announced()
				}
			case 5:
				e.put(file, State{Text: fmt.Sprint("by hand ", n), Exists: true})
				state[file] = State{Text: fmt.Sprint("by hand ", n), Exists: true}
				if err := j.RecordEdit(file, state[file], idOf(e, file)); err != nil {
					t.Fatal(err)
				}
				waiting = append(waiting, "edited")
			case 6:
				if err := j.Suspend(); err != nil {
					t.Fatal(err)
				}
			case 7: // a restart, after a crash or not
				j = restarted(e)
				if _, err := j.Recover(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := j.AnnounceAll(); err != nil {
					t.Fatal(err)
				}
				announced()
			}
			got, all, next := listenTo(t, j, live, 1+r.IntN(3))
			if !slices.Equal(got, want[seen:]) {
				t.Fatalf("seed %d, step %d: a listener saw %q, want %q", seed, n, got, want[seen:])
			}
			for i, c := range all {
				cursors = append(cursors, given{c.Position, seen + i + 1})
			}
			live, seen = next, len(want)
			cursors = append(cursors, given{j.End().Position, len(want)})
		}
		for _, c := range cursors {
			if got, _, _ := listenTo(t, j, c.at, 50); !slices.Equal(got, want[c.seen:]) {
				t.Fatalf("seed %d: from %+v a listener saw %q, want %q", seed, c.at, got, want[c.seen:])
			}
		}
		if last, err := j.LastChange(); err != nil || last == 0 {
			t.Errorf("the last change was at %d: %v", last, err)
		}
	}
}

// TestChangesOfALostEnd is about a power cut that takes the record of an end which was told.
func TestChangesOfALostEnd(t *testing.T) {
	e := newWorld(t, t.TempDir(), nil)
	j := e.j
	write := func(text string) *Pending {
		m := Mutation{File: "a.phext", Op: Update, At: phext.Origin(), Text: text, Tenant: "t", Note: text}
		p, err := j.Begin(m, func() (State, error) { return State{}, nil })
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := write("first")
	e.put("a.phext", State{Text: "first", Exists: true})
	begun := j.seg.end
	if err := p.Done(idOf(e, "a.phext")); err != nil {
		t.Fatal(err)
	}
	p.Announce()
	_, all, _ := listenTo(t, j, Position{}, 10)
	now := j.End().Position
	if err := j.seg.f.Truncate(begun); err != nil {
		t.Fatal(err)
	}
	j = restarted(e)
	if report, err := j.Recover(t.Context()); err != nil || report.Completed != 1 {
		t.Fatal(report, err)
	}
	if err := j.AnnounceAll(); err != nil {
		t.Fatal(err)
	}
	for _, from := range []Position{all[0].Position, now} {
		if got, _, _ := listenTo(t, j, from, 10); len(got) > 0 {
			t.Errorf("from %+v: %q is told again", from, got)
		}
	}
}

func TestChangesThatAreGone(t *testing.T) {
	e := newWorld(t, t.TempDir(), func(c *Config) { c.History = 0 })
	e.tune = func(s *settings) { s.segmentMax = 1 }
	j := restarted(e)
	none := j.End().Position
	var first Position
	for i := range 4 {
		m := Mutation{File: "a.phext", Op: Update, At: phext.Origin(), Text: "text", Tenant: "t", Note: fmt.Sprint(i)}
		p, err := j.Begin(m, func() (State, error) { return State{}, nil })
		if err != nil {
			t.Fatal(err)
		}
		e.put("a.phext", State{Text: "text", Exists: true})
		if err := p.Done(idOf(e, "a.phext")); err != nil {
			t.Fatal(err)
		}
		p.Announce()
		if i == 0 {
			first = j.End().Position
		}
	}
	expect := func(what string, from Position, want error) {
		t.Helper()
		if _, _, _, err := j.Changes(from, nil, 10, nil, func(Event) bool { return true }); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	last := j.End().Position
	expect("the first change is pruned", first, ErrBeyondHistory)
	expect("from when there was nothing", none, ErrBeyondHistory)
	expect("the last one", last, nil)
	wrong := last
	wrong.Seq += 7
	expect("no such change", wrong, ErrBeyondHistory)
	wrong = last
	wrong.Offset++
	expect("no record there", wrong, ErrBeyondHistory)
	wrong = last
	wrong.Created += int64(time.Second)
	expect("another journal", wrong, ErrBeyondHistory)
	if err := j.ForgetChanges(); err != nil {
		t.Fatal(err)
	}
	expect("forgotten", last, ErrBeyondHistory)
	last = j.End().Position
	expect("now, in the same process", last, nil)
	if err := j.ForgetChanges(); err != nil {
		t.Fatal(err)
	}
	expect("forgotten again, with nothing done meanwhile", last, ErrBeyondHistory)
	j = restarted(e)
	if _, err := j.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := j.AnnounceAll(); err != nil {
		t.Fatal(err)
	}
	expect("forgotten, after a restart", last, ErrBeyondHistory)
	expect("now", j.End().Position, nil)
}

// TestAChangeThatEndsLate is about a file that waits for room while another one is
// written. Whoever has seen the other one's change must see the late one.
func TestAChangeThatEndsLate(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	begin := func(file string) *Pending {
		return w.begin(Mutation{File: file, Op: Update, At: phext.Origin(), Text: "text", Tenant: "t", Note: file})
	}
	end := func(p *Pending, file string) {
		w.must(p.Done(w.put(file, State{Text: "text", Exists: true})))
		p.Announce()
	}
	late := begin("late.phext")
	end(begin("other.phext"), "other.phext")
	_, all, next := listenTo(t, w.j, Position{}, 10)
	cursors := []Position{all[0].Position, next, w.j.End().Position}
	end(late, "late.phext")
	for _, from := range cursors {
		if got, _, _ := listenTo(t, w.j, from, 10); !slices.Contains(got, "updatelate.phext") {
			t.Errorf("from %+v: %q", from, got)
		}
	}
	if got, _, _ := listenTo(t, w.j, cursors[0], 10); len(got) != 1 {
		t.Errorf("%q is told", got)
	}
}
