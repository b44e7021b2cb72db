package replica

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
)

// TestStateAt makes mutations of some files, with checkpoints between them, and looks at
// what the log says after each. What is fetched is only the files that are asked for.
func TestStateAt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := bucket.NewMemory()
		d := newDirectory(m, "a")
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
				c := object.Checkpoint{Seq: l.End(), Epoch: l.Epoch()}
				for _, name := range []string{"a.phext", "b.phext"} {
					if s := model[name]; s.Exists {
						_, hash, err := object.EncodeFile([]byte(s.Text))
						if err != nil {
							t.Fatal(err)
						}
						c.Files = append(c.Files, object.File{Name: name, Hash: hash, Size: int64(len(s.Text))})
					}
				}
				must(0, l.WriteCheckpoint(t.Context(), c, func(f object.File) ([]byte, error) { return []byte(model[f.Name].Text), nil }))(t)
			}
		}
		for i, want := range states {
			s, err := d.StateAt(t.Context(), uint64(i+1))
			if err != nil {
				rt.Fatal(err)
			}
			for _, name := range []string{"a.phext", "b.phext"} {
				got, err := s.Content(t.Context(), name)
				if err != nil || got != want[name] {
					rt.Fatalf("at %d %s is %+v, %v; want %+v", i+1, name, got, err, want[name])
				}
				f := s.Files[name]
				if f != nil && (!f.Is(want[name]) || f.Is(journal.State{Text: "another", Exists: true})) {
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

// TestAnswersInTheLog are those of the last day.
func TestAnswersInTheLog(t *testing.T) {
	d := newDirectory(bucket.NewMemory(), "a")
	now := time.Unix(1e9, 0)
	d.Now = func() time.Time { return now }
	l := takeOver(t, d)
	for i := range 3 {
		g := group("text")
		g.Time, g.Mutations[0].Idempotency, g.Mutations[0].Answer = now.UnixNano(), fmt.Sprint("key ", i), fmt.Sprint("answer ", i)
		must(l.Append(t.Context(), []object.Group{g}))(t)
		now = now.Add(13 * time.Hour)
	}
	s := must(d.StateAt(t.Context(), l.End()))(t)
	if len(s.Answers) != 1 && len(s.Answers) != 2 || s.Answers[len(s.Answers)-1].Answer != "answer 2" || s.Answers[0].Idempotency != "key 1" {
		t.Errorf("%+v", s.Answers)
	}
}
