package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func (w *world) beginAll(all []Mutation) *Pending {
	w.t.Helper()
	p, err := w.j.BeginAll(all, func() (State, error) { return ReadState(nil, w.path(all[0].File)) })
	w.must(err)
	return p
}

func (m *model) beginAttempt(a attempt) *Pending {
	if a.whole {
		return m.beginAll(a.made)
	}
	return m.beginTogether(a.made)
}

// allAtOnce makes mutations that happen all or not at all. Between their ends nothing but
// all of them can be seen.
func (m *model) allAtOnce(t *rapid.T) {
	all := drawSet(t, m.files)
	file, before := all[0].File, m.read(all[0].File)
	m.touch(file)
	p := m.beginAll(all)
	if rapid.IntRange(0, 3).Draw(t, "refused") == 0 {
		m.must(p.Abort())
		return
	}
	m.must(p.Done(m.put(file, before.AfterAll(all))))
	m.sawAll(t, file, all)
}

func (m *model) sawAll(t *rapid.T, file string, all []Mutation) {
	events, err := m.j.History(Query{File: file})
	m.must(err)
	if len(events) < len(all) {
		t.Fatalf("%d events of %d mutations", len(events), len(all))
	}
	first := events[len(events)-len(all)].Time.UnixNano()
	m.versions[file] = append(m.versions[file], sight{first, m.read(file)})
	m.events += len(all)
}

// crashOfAll kills sqgate in the middle of such mutations.
func (m *model) crashOfAll(t *rapid.T) {
	all := drawSet(t, m.files)
	file, before := all[0].File, m.read(all[0].File)
	m.touch(file)
	m.beginAll(all)
	if rapid.Bool().Draw(t, "written") {
		m.put(file, before.AfterAll(all))
	}
	if rapid.Bool().Draw(t, "power cut") {
		m.cfg.BootID += "+"
	}
	m.reopen()
	m.recover()
	if got, want := m.read(file), before.AfterAll(all); got != want {
		t.Fatalf("recovered %q, want %q", got.Text, want.Text)
	}
	m.sawAll(t, file, all)
}

// three are mutations of one file with the state before and after them.
func three() (before, after State, all []Mutation) {
	before = text("one\x17two\x17three")
	all = []Mutation{update("a.phext", 1, "ONE"), {File: "a.phext", Op: Delete, At: at(2)}, {File: "a.phext", Op: Insert, At: at(3), Text: "+"}}
	return before, before.AfterAll(all), all
}

// TestAllOrNothingWhereverTheJournalEnds cuts the journal off at many bytes of such
// mutations and of their end, as a crash in the middle of a write to it may, with the file
// as it is before and after them.
func TestAllOrNothingWhereverTheJournalEnds(t *testing.T) {
	before, after, all := three()
	cutAt := func(cut int64, ended bool, file State, boot string) (got State, more bool) {
		w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync = Off })) // for speed
		w.j.format = formatWhole                                                    // or it would be another segment
		w.put("a.phext", before)
		w.mutate(update("a.phext", 1, "one"))
		start := w.j.seg.end
		p := w.beginAll(all)
		if ended {
			start = w.j.seg.end
			file = after
			w.must(p.Done(w.put("a.phext", after)))
		}
		path, end := filepath.Join(w.j.dir, segmentName(w.j.seg.number)), w.j.seg.end
		w.must(w.set.Close())
		w.must(os.Truncate(path, min(start+cut, end)))
		w.put("a.phext", file)
		w.cfg.BootID += boot
		w.open()
		w.recover()
		return w.read("a.phext"), start+cut < end
	}
	for _, ended := range []bool{false, true} {
		cuts := 0
		for cut, more := int64(0), true; more; cut += 11 {
			for _, file := range []State{before, after} {
				var got State
				if got, more = cutAt(cut, ended, file, strings.Repeat("+", cuts%2)); got != after && (ended || got != before) {
					t.Fatalf("ended %v, cut at byte %d, %q became %q", ended, cut, file.Text, got.Text)
				}
			}
			cuts++
		}
		if cuts < 3 {
			t.Errorf("ended %v: %d cuts have shown little", ended, cuts)
		}
	}
}

// TestTheFormatOfASegment is an old one until it has mutations that happen all or not at
// all, which an older sqgate would take for damage. From then on, all have the new one.
func TestTheFormatOfASegment(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	formats := func() (all []byte) {
		t.Helper()
		numbers, _, err := segments(w.j.dir)
		w.must(err)
		for _, n := range numbers {
			f, err := os.Open(filepath.Join(w.j.dir, segmentName(n)))
			w.must(err)
			head, ok, err := readHeader(f)
			w.must(err)
			if !ok {
				t.Fatal("no header")
			}
			all = append(all, head.version)
			w.must(f.Close())
		}
		return all
	}
	w.mutate(update("a.phext", 1, "x"))
	w.reopen()
	w.mutate(update("a.phext", 1, "y"))
	if got := formats(); string(got) != "\x01" {
		t.Fatalf("without such mutations: %v", got)
	}
	for range 2 {
		p := w.beginAll([]Mutation{update("a.phext", 1, "one"), update("a.phext", 2, "two")})
		w.must(p.Done(w.put("a.phext", text("one\x17two"))))
	}
	if got := formats(); string(got) != "\x01\x02" {
		t.Fatalf("with such mutations: %v", got)
	}
	w.reopen()
	w.j.mu.Lock()
	w.must(w.j.openLocked())
	w.j.mustRotate = true
	w.j.mu.Unlock()
	w.mutate(update("a.phext", 1, "z"))
	if got := formats(); string(got) != "\x01\x02\x02" {
		t.Fatalf("after another start: %v", got)
	}
}

// TestAnswersToBatches are kept like others, but not without a bound.
func TestAnswersToBatches(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	answer := func(n int) string { return fmt.Sprint(n, strings.Repeat("x", 1<<20)) }
	made := mostAnswerBytes>>20 + 2
	for n := range made {
		all := []Mutation{update("a.phext", 1, fmt.Sprint(n)), update("a.phext", 2, "two")}
		all[0].Tenant, all[0].Idempotency, all[0].Answer = "t", fmt.Sprint(n), answer(n)
		p := w.beginAll(all)
		w.must(p.Done(w.put("a.phext", text(fmt.Sprint(n)+"\x17two"))))
	}
	w.reopen()
	for n := range made {
		got, _, ok, err := w.j.Answered("t", fmt.Sprint(n))
		w.must(err)
		if kept := n >= 4; ok != kept || kept && got != answer(n) {
			t.Errorf("answer %d: %v, %d bytes", n, ok, len(got))
		}
	}
}

// TestAnswersOfOthers are kept, however long those of one key are.
func TestAnswersOfOthers(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	answer := func(tenant, key, text string) {
		m := update("a.phext", 1, "x")
		m.Tenant, m.Idempotency, m.Answer = tenant, key, text
		w.mutate(m)
	}
	wants := func(tenant, key, text string) {
		t.Helper()
		got, _, _, err := w.j.Answered(tenant, key)
		if w.must(err); got != text {
			t.Errorf("%s/%q: %d bytes, want %d", tenant, key, len(got), len(text))
		}
	}
	long := strings.Repeat("x", 1<<20)
	answer("will", "k", "short")
	answer("will", "long", long)
	answer("eve", "k", "short")
	answer("will", "\x00guest\x00k", long)
	for n := range mostAnswerBytes>>20 + 2 {
		answer("eve", fmt.Sprint(n), long)
	}
	for n := range mostAnswerBytes>>20 + 2 {
		answer("will", fmt.Sprint("\x00reader\x00", n), long)
	}
	for range 2 {
		wants("will", "k", "short")
		wants("will", "long", long)
		wants("will", "\x00guest\x00k", long)
		wants("eve", "k", "short")
		wants("eve", "0", "")
		wants("will", "\x00reader\x000", "")
		if w.j.answers.bytes > mostAnswerBytes {
			t.Errorf("%d bytes are kept", w.j.answers.bytes)
		}
		w.reopen()
	}
}
