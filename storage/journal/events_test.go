package journal

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestHistoryInPages reads a history of several segments page by page.
func TestHistoryInPages(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.j.cfg.segmentMax, w.j.cfg.inlineMax = 300, 50 // so that a segment ends after a few mutations
	for n := range 20 {
		w.mutate(update("a.phext", 1, strings.Repeat("x", n)))
		w.mutate(update("b.phext", 1, "y"))
	}
	if n, _, err := segments(w.j.dir); err != nil || len(n) < 3 {
		t.Fatalf("%v segments, %v", n, err)
	}
	q := Query{File: "a.phext", Limit: 3, Wanted: func(e Event) bool { return e.Bytes != 7 }}
	var got []int
	for {
		page, err := w.j.History(q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			got = append(got, e.Bytes)
		}
		if len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1].Time
	}
	want := 0
	for _, bytes := range got {
		if want == 7 {
			want++
		}
		if bytes != want {
			t.Errorf("%v", got)
			break
		}
		want++
	}
	if want != 20 {
		t.Errorf("the pages end at %d: %v", want, got)
	}
}

// TestWalkKeepsNoLongText walks past a long mutation, and finds it damaged.
func TestWalkKeepsNoLongText(t *testing.T) {
	long := record{kind: begun, time: 1, seq: 2, m: Mutation{File: "a.phext", Op: Update, Text: strings.Repeat("long", 4<<20), Tenant: "will", Key: "key", Note: "a note", Answer: "ok"}}
	// More than its text would be missing, or something else.
	odd := record{kind: begun, time: 2, seq: 3, m: Mutation{File: "a.phext", Op: Update, Text: strings.Repeat("text", 1<<20), Answer: strings.Repeat("answer", 1<<16)}}
	answer := record{kind: begun, time: 2, seq: 3, m: Mutation{File: "a.phext", Op: Update, Text: "text", Answer: strings.Repeat("answer", 1<<20)}}
	last := record{kind: aborted, time: 3, seq: 3, m: Mutation{File: "a.phext"}}
	var b []byte
	var err error
	for _, r := range []record{long, odd, answer, last} {
		if b, err = frame(b, r); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "segment")
	walk := func() (all []record) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := walkRecords(f, int64(len(b)), func(r record) error { all = append(all, r); return nil }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := walk()
	if len(all) != 4 {
		t.Fatalf("%d records", len(all))
	}
	if r := all[0]; r.m.Text != "" || r.textSize != 16<<20 || r.m.Tenant != "will" || r.m.Note != "a note" || r.m.Answer != "ok" {
		t.Errorf("%d %+v", r.textSize, r.m)
	}
	if r := all[1]; r.textSize != 4<<20 || len(r.m.Answer) != 6<<16 {
		t.Errorf("%d, and %d of the answer", r.textSize, len(r.m.Answer))
	}
	if r := all[2]; r.m.Text != "text" || r.textSize != 4 || len(r.m.Answer) != 6<<20 {
		t.Errorf("%q, %d, and %d of the answer", r.m.Text, r.textSize, len(r.m.Answer))
	}
	b[1<<20+rand.IntN(8<<20)] ^= 1
	if all := walk(); len(all) != 0 {
		t.Errorf("%d records behind the damage", len(all))
	}
}

// TestHistoryMemory reads a history that is far larger than what it may keep.
func TestHistoryMemory(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	text := strings.Repeat("x", 8<<20)
	for range 4 {
		w.mutate(update("a.phext", 1, text))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	events, err := w.j.History(Query{After: time.Time{}, Limit: 3})
	runtime.ReadMemStats(&after)
	if err != nil || len(events) != 3 || events[2].Bytes != len(text) {
		t.Fatalf("%+v, %v", events, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d MB were allocated for three events", n>>20)
	}
}
