package replica

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
)

func TestMain(m *testing.M) {
	// The compressor has channels, which must not belong to the first test that uses
	// it: tests with a clock of their own may not use each other's.
	b, err := object.Encode(&object.Owner{})
	if err == nil {
		_, err = object.Decode[object.Owner](b)
	}
	if err != nil {
		panic(err)
	}
	// Idle connections to a server of a test end after 90 s.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func newDirectory(b bucket.Bucket, host string) *Directory {
	return &Directory{Bucket: b, Name: "acme", Host: host, Incarnation: host + "-1"}
}

func group(text string) object.Group {
	return object.Group{Time: 1, Mutations: []journal.Mutation{{File: "a.phext", Op: journal.Update, At: phext.Origin(), Text: text}}}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func takeOver(t testing.TB, d *Directory) *Log {
	t.Helper()
	o, etag, err := d.Owner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return must(d.TakeOver(t.Context(), o, etag))(t)
}

func appendTexts(t testing.TB, l *Log, texts ...string) {
	t.Helper()
	for _, text := range texts {
		must(l.Append(t.Context(), []object.Group{group(text)}))(t)
	}
}

// texts is the log as words: the texts of its groups, and | for each epoch.
func texts(t testing.TB, d *Directory) string {
	t.Helper()
	var all []string
	for r, err := range d.Read(context.Background(), 0, must(d.End(context.Background()))(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Opens {
			all = append(all, "|")
		}
		for _, g := range r.Groups {
			all = append(all, g.Mutations[0].Text)
		}
	}
	return strings.Join(all, " ")
}

func TestOwnership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		a, b := newDirectory(m, "a"), newDirectory(m, "b")
		first := takeOver(t, a)
		appendTexts(t, first, "1", "2")
		seen, etag, err := b.Owner(t.Context())
		if err != nil || seen != (object.Owner{Host: "a", Incarnation: "a-1", Epoch: 1}) {
			t.Fatal(seen, err)
		}
		second := must(b.TakeOver(t.Context(), seen, etag))(t)
		if _, err := a.TakeOver(t.Context(), seen, etag); !errors.Is(err, ErrDeposed) {
			t.Error("what was seen is outdated:", err)
		}
		for range 2 {
			if _, err := first.Append(t.Context(), []object.Group{group("lost")}); !errors.Is(err, ErrDeposed) {
				t.Error(err)
			}
		}
		appendTexts(t, second, "3")
		if err := first.Release(t.Context(), ""); !errors.Is(err, ErrDeposed) {
			t.Error(err)
		}
		if err := second.Release(t.Context(), ""); err != nil {
			t.Error(err)
		}
		if _, err := second.Append(t.Context(), []object.Group{group("lost")}); !errors.Is(err, ErrReleased) {
			t.Error(err)
		}
		if o, _, err := a.Owner(t.Context()); err != nil || o != (object.Owner{Epoch: 2}) {
			t.Error(o, err)
		}
		third := takeOver(t, a)
		appendTexts(t, third, "4")
		if got := texts(t, a); got != "| 1 2 | 3 | 4" || third.Epoch() != 3 || third.End() != 7 {
			t.Error(got, third.Epoch(), third.End())
		}
	})
}

// TestCostOfTakeOver counts requests: with a log of thousands, a page for each 1000.
func TestCostOfTakeOver(t *testing.T) {
	m := bucket.NewMemory()
	l := takeOver(t, newDirectory(m, "a"))
	for i := range 2500 {
		appendTexts(t, l, fmt.Sprint(i))
	}
	if calls := m.Calls(); calls[bucket.OpPut] != 2502 || calls[bucket.OpGet] != 1 || calls[bucket.OpList] != 2 {
		t.Error("appending:", calls)
	}
	takeOver(t, newDirectory(m, "b"))
	if calls := m.Calls(); calls[bucket.OpPut] != 2 || calls[bucket.OpGet] != 2 || calls[bucket.OpList] != 4 {
		t.Error("taking over:", calls)
	}
}

// TestFaultsOfAppend has each thing that can go wrong with the first tries of an append.
func TestFaultsOfAppend(t *testing.T) {
	unknown, temporary := bucket.ErrUnknownOutcome, bucket.ErrTemporary
	for name, faults := range map[string][]bucket.Fault{
		"a lost answer":       {{Lose: unknown}},
		"lost answers":        {{Lose: unknown}, {Lose: unknown}, {Lose: unknown}},
		"lost requests":       {{Refuse: unknown}, {Refuse: unknown}},
		"slow down":           {{Refuse: temporary}, {Refuse: temporary}, {Lose: unknown}},
		"a request twice":     {{Twice: true}},
		"twice, answers lost": {{Twice: true, Lose: unknown}, {Refuse: unknown}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := bucket.NewMemory()
				d := newDirectory(m, "a")
				left := faults
				m.Fault = func(op bucket.Op, _ string) (f bucket.Fault) {
					if op == bucket.OpPut && len(left) > 0 {
						f, left = left[0], left[1:]
					}
					return f
				}
				l := takeOver(t, d) // the owner
				left = faults
				appendTexts(t, l, "1")
				left = faults
				appendTexts(t, l, "2")
				if got := texts(t, d); got != "| 1 2" || len(left) > 0 {
					t.Error(got, left)
				}
			})
		})
	}
}

// TestFaultsOfTakeOver has the same for the record that opens an epoch.
func TestFaultsOfTakeOver(t *testing.T) {
	for _, f := range []bucket.Fault{{Lose: bucket.ErrUnknownOutcome}, {Refuse: bucket.ErrUnknownOutcome}, {Twice: true}, {Refuse: bucket.ErrTemporary}} {
		for at := range 4 {
			synctest.Test(t, func(t *testing.T) {
				m := bucket.NewMemory()
				appendTexts(t, takeOver(t, newDirectory(m, "a")), "1")
				puts := 0
				m.Fault = func(op bucket.Op, _ string) bucket.Fault {
					if op == bucket.OpPut {
						if puts++; puts-1 == at {
							return f
						}
					}
					return bucket.Fault{}
				}
				d := newDirectory(m, "b")
				appendTexts(t, takeOver(t, d), "2")
				if got := texts(t, d); got != "| 1 | 2" {
					t.Errorf("%+v of write %d: %s", f, at, got)
				}
			})
		}
	}
}

// TestListsThatLag sees that the log decides, and not a list of it.
func TestListsThatLag(t *testing.T) {
	m := bucket.NewMemory()
	first := takeOver(t, newDirectory(m, "a"))
	appendTexts(t, first, "1", "2", "3", "4")
	m.Fault = func(op bucket.Op, _ string) bucket.Fault { return bucket.Fault{Miss: 4} }
	second := takeOver(t, newDirectory(m, "b"))
	m.Fault = nil
	if got := texts(t, newDirectory(m, "b")); got != "| 1 2 3 4 |" || second.End() != 6 {
		t.Error(got, second.End())
	}
	m.Fault = func(op bucket.Op, _ string) bucket.Fault { return bucket.Fault{Short: 1} }
	takeOver(t, newDirectory(m, "a"))
	if got := texts(t, newDirectory(m, "b")); got != "| 1 2 3 4 | |" {
		t.Error(got)
	}
}

// TestSlowTakeOver has a host that becomes the owner and opens its epoch only after
// the next owner did.
func TestSlowTakeOver(t *testing.T) {
	m := bucket.NewMemory()
	a, b := newDirectory(m, "a"), newDirectory(m, "b")
	for _, wait := range []bucket.Op{bucket.OpList, bucket.OpPut} {
		var other *Log
		m.Fault = func(op bucket.Op, key string) bucket.Fault {
			// before a lists the log, or creates its record
			if op == wait && strings.Contains(key, "/log/") {
				m.Fault = nil
				other = takeOver(t, b)
			}
			return bucket.Fault{}
		}
		seen, etag, err := a.Owner(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.TakeOver(t.Context(), seen, etag); !errors.Is(err, ErrDeposed) {
			t.Errorf("before a %s: %v", wait, err)
		}
		appendTexts(t, other, "after "+string(wait))
	}
	if got := texts(t, a); got != "| after list | after put" {
		t.Error(got)
	}
}

func TestEndOfTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			name  string
			fault bucket.Fault
			in    bool // the log
		}{
			{"no answer", bucket.Fault{Refuse: bucket.ErrUnknownOutcome}, false},
			{"a lost answer each time", bucket.Fault{Lose: bucket.ErrUnknownOutcome}, true},
			{"a slow bucket", bucket.Fault{Delay: time.Hour}, false},
		} {
			m := bucket.NewMemory()
			d := newDirectory(m, "a")
			l := takeOver(t, d)
			m.Fault = func(op bucket.Op, _ string) bucket.Fault { return test.fault }
			lease, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			begun := time.Now()
			_, err := l.Append(lease, []object.Group{group("1")})
			if !errors.Is(err, ErrLeaseEnded) || time.Since(begun) > 9*time.Second {
				t.Errorf("%s: %v after %v", test.name, err, time.Since(begun))
			}
			m.Fault = nil
			if got := texts(t, d); (got == "| 1") != test.in {
				t.Errorf("%s: %s", test.name, got)
			}
			// What the log ends with was not known, so nothing more may be appended.
			if _, err := l.Append(t.Context(), []object.Group{group("2")}); !errors.Is(err, ErrLeaseEnded) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	})
}

// TestALogIsLookedAtDuringAnUpload: who looks at all logs may not wait for the one whose
// bucket does not answer.
func TestALogIsLookedAtDuringAnUpload(t *testing.T) {
	m := bucket.NewMemory()
	l := takeOver(t, newDirectory(m, "a"))
	before := l.Appended()
	m.Fault = func(bucket.Op, string) bucket.Fault {
		looked := make(chan int64)
		go func() {
			l.End()
			looked <- l.Appended()
		}()
		select {
		case now := <-looked:
			if now != before {
				t.Errorf("%d bytes instead of %d", now, before)
			}
		case <-time.After(10 * time.Second):
			t.Error("it waits for the upload")
			go func() { <-looked }()
		}
		return bucket.Fault{}
	}
	appendTexts(t, l, "1")
	if l.Appended() == before {
		t.Error("what was appended does not count")
	}
}

// TestStoppedProcess has a lease that ends while the process is stopped, so that no
// timer has noticed it yet.
func TestStoppedProcess(t *testing.T) {
	m := bucket.NewMemory()
	d := newDirectory(m, "a")
	holds := true
	d.Holds = func() bool { return holds }
	l := takeOver(t, d)
	m.Fault = func(op bucket.Op, _ string) bucket.Fault {
		holds = false
		return bucket.Fault{}
	}
	if _, err := l.Append(t.Context(), []object.Group{group("1")}); !errors.Is(err, ErrLeaseEnded) {
		t.Error(err)
	}
	holds = true
	l = takeOver(t, d)
	holds = false
	if _, err := l.Append(t.Context(), []object.Group{group("2")}); !errors.Is(err, ErrNoLease) {
		t.Error(err)
	}
	m.Fault = nil
	if got := texts(t, d); got != "| 1 |" {
		t.Error(got)
	}
}

func TestBrokenLog(t *testing.T) {
	m := bucket.NewMemory()
	d := newDirectory(m, "a")
	l := takeOver(t, d)
	for i := range 40 {
		appendTexts(t, l, fmt.Sprint(i))
	}
	read := func() error {
		for _, err := range d.Read(t.Context(), 0, 41) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	whole := must(m.Get(t.Context(), d.logKey(30), ""))(t).Body
	other := must(object.Encode(&object.Log{Epoch: 2}))(t)
	for name, body := range map[string][]byte{"damaged": whole[:len(whole)-1], "of an epoch that was not opened": other} {
		must(m.Put(t.Context(), d.logKey(30), body, bucket.Condition{}))(t)
		if err := read(); !errors.Is(err, ErrBroken) && !errors.Is(err, object.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Delete(t.Context(), d.logKey(30)); err != nil {
		t.Fatal(err)
	}
	if err := read(); !errors.Is(err, ErrBroken) {
		t.Error("missing:", err)
	}
}

// breaking is a bucket whose streams break behind what is fetched ahead, and that counts
// those that are open.
type breaking struct {
	bucket.Bucket
	open   atomic.Int64
	breaks bool
}

func (b *breaking) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	in, err := b.Bucket.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	b.open.Add(1)
	s := &stream{Reader: in, bucket: b}
	if b.breaks {
		s.Reader = io.MultiReader(io.LimitReader(in, headAhead), iotest.ErrReader(bucket.ErrTemporary))
	}
	return s, nil
}

type stream struct {
	io.Reader
	bucket *breaking
	closed bool
}

func (s *stream) Close() error {
	if !s.closed {
		s.bucket.open.Add(-1)
	}
	s.closed = true
	return nil
}

// TestReadOfLargeObjects reads a log whose objects are larger than what is fetched ahead,
// also if that breaks off, and also only the beginning of it.
func TestReadOfLargeObjects(t *testing.T) {
	for _, breaks := range []bool{false, true} {
		b := &breaking{Bucket: bucket.NewMemory(), breaks: breaks}
		d := newDirectory(b, "a")
		l := takeOver(t, d)
		var want []string
		random := rand.NewChaCha8([32]byte{})
		for i := range 2*readAhead + 3 {
			text := make([]byte, headAhead+i%3*headAhead)
			_, _ = random.Read(text) // never fails
			want = append(want, hex.EncodeToString(text))
			appendTexts(t, l, want[i])
		}
		for _, most := range []int{len(want), readAhead + 1} {
			n := 0
			for r, err := range d.Read(t.Context(), 1, l.End()) {
				if err != nil {
					t.Fatal(err)
				}
				if got := r.Groups[0].Mutations[0].Text; got != want[n] || r.Bytes < int64(len(got)) {
					t.Errorf("breaks: %v, number %d has %d bytes, and a payload of %d", breaks, r.Seq, len(got), r.Bytes)
				}
				if n++; n == most {
					break
				}
			}
			if open := b.open.Load(); n != most || open != 0 {
				t.Errorf("%d objects were read, and %d streams are open", n, open)
			}
		}
	}
}
