package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
)

// answersIn are the answers of a state.
func answersIn(t testing.TB, s *State) (all []object.Answer) {
	t.Helper()
	for a, err := range s.Answers(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// answered is a group with an answer.
func answered(tenant, key, answer string, at time.Time) object.Group {
	g := group("text")
	g.Time = at.UnixNano()
	m := &g.Mutations[0]
	m.Op, m.Tenant, m.Idempotency, m.Digest, m.Answer = journal.Replace, tenant, key, "digest of "+key, answer
	g.After = FileState(journal.State{Text: m.Text, Exists: true})
	return g
}

// heap is how many bytes are in use. What a sync.Pool has, as that of encoding/json, is gone
// after the second collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryOfAnswers has states of many directories, each with as many long answers as it may
// have: in the log, and in a checkpoint. They hold none of them, nor does what they keep.
func TestMemoryOfAnswers(t *testing.T) {
	const most = 8 << 20 // 6 directories have 90 MB
	memory, now := NewMemory(), time.Now()
	for _, compacted := range []bool{false, true} {
		var dirs []*Directory
		for i := range 6 {
			d := newDirectory(bucket.NewMemory(), "a")
			d.Memory = memory
			l := takeOver(t, d)
			for k := range 15 {
				must(l.Append(t.Context(), []object.Group{answered("will", fmt.Sprint(k), strings.Repeat(string(rune('a'+i)), 1<<20), now)}))(t)
			}
			if compacted {
				must(l.Compact(t.Context(), func(string) (journal.State, error) { return journal.State{}, errors.ErrUnsupported }, nil))(t)
			}
			dirs = append(dirs, d)
		}
		before := heap()
		var states []*State
		for _, d := range dirs {
			states = append(states, must(d.StateAt(t.Context(), 16))(t))
		}
		if held := heap() - before; held > most {
			t.Errorf("compacted %v: %d MB are held", compacted, held>>20)
		}
		runtime.KeepAlive(states)
		runtime.KeepAlive(dirs)
	}
}

// TestAnswersAreReadAgain has some that are kept, and some that are not, in a checkpoint and
// behind it.
func TestAnswersAreReadAgain(t *testing.T) {
	for _, kept := range []int64{0, 3 * mutationBeside, keptInAll} {
		d := newDirectory(bucket.NewMemory(), "a")
		d.Memory = memoryFor(kept)
		l := takeOver(t, d)
		var want []object.Answer
		now := time.Now()
		add := func(sizes ...int) {
			var groups []object.Group
			for _, size := range sizes {
				g := answered("will", fmt.Sprint(len(want)), strings.Repeat("x", size), now)
				groups = append(groups, answered("will", "", "", now), g)
				want = append(want, answersOf(g)...)
			}
			must(l.Append(t.Context(), groups))(t)
		}
		check := func(when string) {
			t.Helper()
			s := must(d.StateAt(t.Context(), l.End()))(t)
			if got := answersIn(t, s); !slices.Equal(got, want) {
				t.Errorf("%s, with %d bytes kept: %d answers, want %d", when, kept, len(got), len(want))
			}
			for range s.Answers(t.Context()) {
				break // which lets go of everything
			}
			if !d.Memory.decoding.TryAcquire(decodeAtOnce) || !d.Memory.encoding.TryAcquire(encodeAtOnce) {
				t.Fatal("memory was not given back")
			}
			d.Memory.decoding.Release(decodeAtOnce)
			d.Memory.encoding.Release(encodeAtOnce)
			other := s.kept.Load()
			for _, a := range s.answers {
				if a.kept != nil {
					other -= a.cost
				}
			}
			if s.ForgetAnswers(); s.kept.Load() != other || len(answersIn(t, s)) > 0 {
				t.Errorf("%d bytes are kept without answers, want %d", s.kept.Load(), other)
			}
		}
		check("none")
		add(1, small, 2)
		add(small, 3)
		for range 2 * readAhead {
			add(4)
		}
		check("in the log")
		must(l.Compact(t.Context(), func(string) (journal.State, error) { return journal.State{Text: "text", Exists: true}, nil }, nil))(t)
		check("in a checkpoint")
		for range readAhead {
			add(5, small, 6)
			must(l.Append(t.Context(), []object.Group{answered("will", "", "", now)}))(t)
		}
		check("in both")
		must(l.Compact(t.Context(), func(string) (journal.State, error) { return journal.State{Text: "text", Exists: true}, nil }, nil))(t)
		check("in another checkpoint")
	}
}

// TestCheckpointsWaitForMemory to be decoded, and to be made of answers.
func TestCheckpointsWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(bucket.NewMemory(), "a")
		d.Memory = NewMemory()
		l := takeOver(t, d)
		waits := func(memory *semaphore.Weighted, all int64, what func() error) {
			t.Helper()
			if !memory.TryAcquire(all) {
				t.Fatal("memory is not free")
			}
			done := make(chan error, 1)
			go func() { done <- what() }()
			synctest.Wait()
			select {
			case err := <-done:
				t.Error("it did not wait:", err)
			default:
				memory.Release(all)
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		nothing := func(string) (journal.State, error) { return journal.State{}, errors.ErrUnsupported }
		seq := must(l.Append(t.Context(), []object.Group{answered("will", "key", "answer", time.Now())}))(t)
		waits(d.Memory.encoding, encodeAtOnce, func() error { _, err := l.Compact(t.Context(), nothing, nil); return err })
		waits(d.Memory.decoding, decodeAtOnce, func() error { _, err := d.ReadCheckpoint(t.Context(), seq); return err })
		waits(d.Memory.decoding, decodeAtOnce, func() error { _, err := d.StateAt(t.Context(), seq); return err })
	})
}

// TestAnswersThatAreGone are an error, and not fewer answers.
func TestAnswersThatAreGone(t *testing.T) {
	m := bucket.NewMemory()
	d := newDirectory(m, "a")
	d.Memory = memoryFor(0)
	l := takeOver(t, d)
	seq := must(l.Append(t.Context(), []object.Group{answered("will", "key", "answer", time.Now())}))(t)
	s := must(d.StateAt(t.Context(), seq))(t)
	if err := m.Delete(t.Context(), d.logKey(seq)); err != nil {
		t.Fatal(err)
	}
	var got error
	for _, err := range s.Answers(t.Context()) {
		got = err
	}
	if !errors.Is(got, ErrBroken) {
		t.Error(got)
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
	got := answersIn(t, s)
	if len(got) != 1 && len(got) != 2 || got[len(got)-1].Answer != "answer 2" || got[0].Idempotency != "key 1" {
		t.Errorf("%+v", got)
	}
}

// TestAnswersOfOthersInTheLog are kept, however many and long those of one tenant are. The
// journal keeps the same ones.
func TestAnswersOfOthersInTheLog(t *testing.T) {
	d := newDirectory(bucket.NewMemory(), "a")
	l := takeOver(t, d)
	var all []journal.Answer
	var groups []object.Group
	add := func(tenant, key, answer string) {
		g := group("text")
		g.Time = time.Now().UnixNano()
		m := &g.Mutations[0]
		m.Tenant, m.Idempotency, m.Answer = tenant, key, answer
		groups = append(groups, g)
		all = append(all, journal.Answer{Time: time.Unix(0, g.Time), Tenant: tenant, Idempotency: key, Text: answer})
	}
	long := strings.Repeat("x", 1<<20)
	add("will", "pay-1", "mine")
	add("will", "long", long)
	for i := range 66_000 {
		add("eve", fmt.Sprint(i), "a")
		if i%3_000 == 0 {
			add("phil", fmt.Sprint(i), long)
		}
	}
	for part := range slices.Chunk(groups, 8_000) {
		must(l.Append(t.Context(), part))(t)
	}
	s := must(d.StateAt(t.Context(), l.End()))(t)
	var got []journal.Answer
	for _, a := range answersIn(t, s) {
		got = append(got, journal.Answer{Time: time.Unix(0, a.Time), Tenant: a.Tenant, Idempotency: a.Idempotency, Text: a.Answer})
	}
	if len(got) < 2 || got[0].Idempotency != "pay-1" || got[1].Idempotency != "long" || !journal.AnswersFit(len(got), s.answerBytes) {
		t.Errorf("%d answers are kept, with %d bytes", len(got), s.answerBytes)
	}
	js := must(journal.New(journal.Config{Dir: t.TempDir(), Quarantine: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}))(t)
	j := must(js.Of(t.TempDir()))(t)
	if err := j.SetAnswers(func(yield func(journal.Answer, error) bool) {
		for _, a := range all {
			if !yield(a, nil) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if want := must(j.Answers())(t); !slices.Equal(got, want) {
		t.Errorf("%d answers are kept, and %d by the journal", len(got), len(want))
	}
	if err := js.Close(); err != nil {
		t.Fatal(err)
	}
}
