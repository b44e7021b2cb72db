package journal

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/disk"
	"mirrorborn.us/sqgate/phext"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a journal with the directory that it is of.
type world struct {
	t       *testing.T
	config  Config
	set     *Set
	journal *Journal
	data    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root := t.TempDir()
	w := &world{t: t, data: filepath.Join(root, "data"), config: Config{
		Dir: filepath.Join(root, "journal"), Quarantine: filepath.Join(root, "quarantine"),
		History: time.Hour, Logger: slog.New(slog.DiscardHandler), BootID: "this boot"}}
	if err := os.Mkdir(w.data, 0o700); err != nil {
		t.Fatal(err)
	}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.set, err = New(w.config); err != nil {
		w.t.Fatal(err)
	}
	if w.journal, err = w.set.Of(w.data); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = w.set.Close() }) // a second closing is nothing
}

func (w *world) reopen() Report {
	w.t.Helper()
	if err := w.set.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
	report, err := w.journal.Recover(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

func (w *world) path(file string) string { return filepath.Join(w.data, file) }

func (w *world) state(file string) State {
	w.t.Helper()
	s, err := readState(w.path(file))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) begin(m Mutation) *Pending {
	w.t.Helper()
	p, err := w.journal.Begin(m, func() (State, error) { return w.state(m.File), nil })
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// do makes a mutation as the gateway and SQ do together.
func (w *world) do(m Mutation) {
	w.t.Helper()
	p := w.begin(m)
	w.store(m.File, w.state(m.File).After(m))
	id, err := disk.Identify(w.path(m.File))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.Done(id); err != nil {
		w.t.Fatal(err)
	}
	if err := p.Flushed(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) store(file string, s State) {
	w.t.Helper()
	var err error
	if s.Exists {
		err = os.WriteFile(w.path(file), []byte(s.Text), 0o600)
	} else if err = os.Remove(w.path(file)); os.IsNotExist(err) {
		err = nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func place(n int) phext.Coordinate {
	return phext.Coordinate{1, 1, 1, 1, 1, 1, 1, uint32(1 + n/9), uint32(1 + n%9)}
}

func someMutation(r *rand.Rand, i int) Mutation {
	m := Mutation{File: fmt.Sprintf("p%d.phext", r.IntN(3)), Op: Op(1 + r.IntN(3)), At: place(r.IntN(20)), Text: fmt.Sprintf("text %d ", i), Tenant: "will"}
	switch r.IntN(30) {
	case 0:
		m.Op, m.Text = Replace, "whole\x17file\x18\x18"
	case 1:
		m.Op, m.Text = Remove, ""
	case 2:
		m.Text = strings.Repeat("long ", 1<<18) // a checkpoint of it lies beside
	case 3:
		m.Text = "a\x17b"
	}
	return m
}

// TestEveryMomentCanBeReadAgain compares what the journal says of random
// moments with what was there, through restarts, rotations and edits.
func TestEveryMomentCanBeReadAgain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	type moment struct {
		at    time.Time
		files map[string]State
	}
	var moments []moment
	for i := range 400 {
		w.do(someMutation(r, i))
		if r.IntN(20) == 0 {
			w.reopen()
		}
		if r.IntN(25) == 0 {
			file := "p1.phext"
			w.store(file, State{Text: fmt.Sprintf("edited %d", i), Exists: true})
			id, err := disk.Identify(w.path(file))
			if err != nil {
				t.Fatal(err)
			}
			if err := w.journal.Edited(file, w.state(file), id); err != nil {
				t.Fatal(err)
			}
			if _, known := w.journal.Left(file); !known {
				continue // nothing was known of it that could have been edited
			}
		}
		if r.IntN(4) == 0 {
			m := moment{at: time.Now(), files: map[string]State{}}
			for _, file := range []string{"p0.phext", "p1.phext", "p2.phext"} {
				m.files[file] = w.state(file)
			}
			moments = append(moments, m)
		}
	}
	for n, m := range moments {
		for file, want := range m.files {
			got, err := w.journal.At(file, m.at)
			if err != nil || got != want {
				t.Fatalf("moment %d of %d, %s: %.60q (%v), %v; want %.60q (%v)", n, len(moments), file, got.Text, got.Exists, err, want.Text, want.Exists)
			}
		}
	}
	if _, err := w.journal.At("p0.phext", time.Now().Add(-time.Hour)); err == nil {
		t.Error("a moment before the journal was answered")
	}
}

// TestACrashInTheMiddle leaves a write at every stage in which a crash can.
func TestACrashInTheMiddle(t *testing.T) {
	before := State{Text: "one\x17two\x17three", Exists: true}
	m := Mutation{File: "n.phext", Op: Update, At: place(1), Text: "another"}
	after := before.After(m)
	for name, c := range map[string]struct {
		left, want State
		aside      int
		boot       string
	}{
		"SQ has seen nothing": {left: before, want: after},
		"SQ is done":          {left: after, want: after},
		"empty":               {left: State{Exists: true}, want: after},
		"torn":                {left: State{Text: after.Text[:7], Exists: true}, want: after, aside: 1},
		"gone":                {left: State{}, want: after},
		"not UTF-8":           {left: State{Text: "caf\xe9", Exists: true}, want: after, aside: 1},
		"edited":              {left: State{Text: "something else", Exists: true}, want: State{Text: "something else", Exists: true}},
		"power cut":           {left: State{Text: after.Text[:5] + "\x00\x00\x00", Exists: true}, want: after, aside: 1, boot: "another boot"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.store(m.File, before)
			p := w.begin(m)
			if err := p.Flushed(); err != nil {
				t.Fatal(err)
			}
			w.store(m.File, c.left)
			if c.boot != "" {
				w.config.BootID = c.boot
			}
			w.reopen()
			if got := w.state(m.File); got != c.want {
				t.Errorf("%q (%v), want %q", got.Text, got.Exists, c.want.Text)
			}
			aside, _ := filepath.Glob(filepath.Join(w.config.Quarantine, "*"))
			if len(aside) != c.aside {
				t.Errorf("set aside: %q", aside)
			}
			if r := w.reopen(); r.Healed+r.Completed+r.Kept != 0 {
				t.Errorf("a second recovery found something: %+v", r)
			}
			w.do(Mutation{File: m.File, Op: Insert, At: place(5), Text: "goes on"})
		})
	}
}

func TestWhatDidNotHappenStaysSo(t *testing.T) {
	w := newWorld(t)
	w.do(Mutation{File: "n.phext", Op: Update, At: place(1), Text: "one"})
	want := w.state("n.phext")
	p := w.begin(Mutation{File: "n.phext", Op: Update, At: place(1), Text: "two"})
	if err := p.Abort(); err != nil {
		t.Fatal(err)
	}
	w.store("n.phext", State{Text: want.Text[:1], Exists: true}) // its traces could not be removed
	if r := w.reopen(); r.Healed != 1 || w.state("n.phext") != want {
		t.Errorf("%+v, %q", r, w.state("n.phext").Text)
	}
}

func TestAnEditIsKept(t *testing.T) {
	w := newWorld(t)
	w.do(Mutation{File: "n.phext", Op: Update, At: place(1), Text: "one"})
	for _, edit := range []State{{Text: "by hand", Exists: true}, {Exists: true}, {}} {
		w.store("n.phext", edit)
		if r := w.reopen(); r.Kept != 1 || w.state("n.phext") != edit {
			t.Errorf("%+v, %q", r, w.state("n.phext").Text)
		}
	}
}

func TestAnswersLastADay(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.config.Now = func() time.Time { return now }
	w.reopen()
	w.do(Mutation{File: "n.phext", Op: Insert, At: place(1), Text: "x", Tenant: "will", Idempotency: "k", Digest: "d", Answer: "Inserted 1 bytes"})
	for range 2 {
		if a, d, ok := w.journal.Answered("will", "k"); !ok || a != "Inserted 1 bytes" || d != "d" {
			t.Errorf("%q %q %v", a, d, ok)
		}
		w.reopen()
	}
	if _, _, ok := w.journal.Answered("bob", "k"); ok {
		t.Error("another tenant's key was answered")
	}
	now = now.Add(25 * time.Hour)
	if _, _, ok := w.journal.Answered("will", "k"); ok {
		t.Error("an answer of yesterday was given")
	}
}

// TestFullDisk lets every append fail in turn: what is refused is not there,
// what is acknowledged is.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	for n := range 60 {
		count := 0
		w.set.write = func(f *os.File, b []byte, off int64) (int, error) {
			if count++; count == 1+n%4 {
				k, _ := f.WriteAt(b[:len(b)/2], off)
				return k, syscall.ENOSPC
			}
			return f.WriteAt(b, off)
		}
		m := Mutation{File: "n.phext", Op: Insert, At: place(n % 9), Text: fmt.Sprint(n)}
		before := w.state(m.File)
		p, err := w.journal.Begin(m, func() (State, error) { return before, nil })
		want := before
		if err == nil {
			want = before.After(m)
			w.store(m.File, want)
			id, _ := disk.Identify(w.path(m.File))
			_ = p.Done(id) // if this fails, recovery finds the file as it is to be
		}
		w.reopen()
		if got := w.state(m.File); got != want {
			t.Fatalf("round %d: %q, want %q", n, got.Text, want.Text)
		}
	}
}

func TestFlushesAreShared(t *testing.T) {
	w := newWorld(t)
	w.do(Mutation{File: "n.phext", Op: Update, At: place(1), Text: "one"})
	var mu sync.Mutex
	syncs, gate := 0, make(chan struct{})
	w.set.sync = func(f *os.File) error {
		mu.Lock()
		syncs++
		mu.Unlock()
		<-gate
		return nil
	}
	var waiters sync.WaitGroup
	const many = 50
	for i := range many {
		p := w.begin(Mutation{File: "n.phext", Op: Update, At: place(1), Text: fmt.Sprint(i)})
		waiters.Go(func() {
			if err := p.Flushed(); err != nil {
				t.Error(err)
			}
		})
	}
	close(gate)
	waiters.Wait()
	if syncs >= many || syncs == 0 {
		t.Errorf("%d flushes for %d mutations", syncs, many)
	}
}

func TestOldSegmentsGo(t *testing.T) {
	w := newWorld(t)
	w.config.History, w.config.Limit = 0, 0
	w.reopen()
	for i := range 40 {
		w.do(Mutation{File: "n.phext", Op: Update, At: place(i % 9), Text: strings.Repeat("x", 512<<10)})
	}
	all, err := w.journal.numbers()
	if err != nil || len(all) != 1 || all[0] == 1 {
		t.Errorf("segments %v, %v", all, err)
	}
	want := w.state("n.phext")
	if w.reopen(); w.state("n.phext") != want {
		t.Error("the phext changed")
	}
}

// FuzzRecovery cuts and flips a real journal anywhere. Nothing is invented: the
// file is one of the states that it had, and what is dropped is set aside.
func FuzzRecovery(f *testing.F) {
	f.Add(uint32(100), byte(1), false)
	f.Add(uint32(300), byte(0), true)
	f.Fuzz(func(t *testing.T, where uint32, flip byte, torn bool) {
		w := newWorld(t)
		had := map[State]bool{{}: true}
		var ends []int64
		for i := range 12 {
			m := Mutation{File: "n.phext", Op: Op(1 + i%3), At: place(i % 4), Text: fmt.Sprintf("text %d", i)}
			w.do(m)
			had[w.state(m.File)] = true
			ends = append(ends, w.journal.size)
		}
		last := w.state("n.phext")
		path := w.journal.segment(1)
		if err := w.set.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := int(where) % len(b)
		if flip == 0 {
			b = b[:at]
		} else {
			b[at] ^= flip
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if torn {
			w.store("n.phext", State{Text: last.Text[:len(last.Text)/2], Exists: true})
			had[w.state("n.phext")] = true
		}
		w.open()
		kept, _, _, err := w.journal.read(1)
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for _, r := range kept {
			if r.kind == kindDone {
				whole++
			}
		}
		for i, end := range ends {
			if end <= int64(at) && whole < i+1 {
				t.Errorf("damage at %d lost the record that ended at %d", at, end)
			}
		}
		if _, err := w.journal.Recover(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := w.state("n.phext"); !had[got] {
			t.Errorf("%q was never there", got.Text)
		}
		if !torn && w.state("n.phext") != last {
			t.Errorf("an undamaged phext was replaced: %q", w.state("n.phext").Text)
		}
	})
}
