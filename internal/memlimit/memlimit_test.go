package memlimit

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBudget(t *testing.T) {
	b := NewBudget(10)
	if !b.Take(10) || b.Take(1) {
		t.Error("the limit is not where it should be")
	}
	b.Give(10)
	if b.Take(11) || !b.Take(10) {
		t.Error("something was not given back")
	}
}

// collections counts what b has collected, which takes as long as it is told.
func collections(b *Budget, takes time.Duration) (n *int) {
	n = new(int)
	b.collector.gc = func() { *n++; time.Sleep(takes) }
	return n
}

// TestGarbage has what was given back collected when it has no place beside what is held.
func TestGarbage(t *testing.T) {
	const unit = 2 * Little
	b := NewBudget(10 * unit)
	kept := int64(0)
	b.CountGarbage(2*unit, func() int64 { return kept })
	n := collections(b, 0)
	take := func(units int64, collects bool) {
		t.Helper()
		before := *n
		if !b.Take(units * unit) {
			t.Fatalf("there is no room for %d", units)
		}
		if got := *n != before; got != collects {
			t.Errorf("garbage was collected: %v, want %v", got, collects)
		}
	}
	take(6, false)
	b.Give(3 * unit)
	take(6, false) // 9, and 3 that were given back, of which 2 may be left
	take(1, true)
	b.Give(2 * unit)
	take(2, false) // no more than may be left
	b.Give(3 * unit)
	kept = 3 * unit
	if !b.Take(Little) || *n != 1 {
		t.Error("garbage was collected for a little")
	}
	b.PutBack(Little)
	take(1, true)
	kept = 0
	b.Give(2 * unit)
	take(4, false)
	if taken := takeAll([]*Budget{b, NewBudget(0)}, func(*Budget) int64 { return 1 }); taken || b.collector.garbage.Load() != 2*unit {
		t.Error("what was not taken counts as garbage")
	}
	r := Reserve(b)
	b.Give(10 * unit)
	if r.Grow(5 * unit); !r.Grow(unit) || b.collector.garbage.Load() != 4*unit {
		t.Errorf("%d were given back", b.collector.garbage.Load())
	}
	if r.PutBack(); r.Size() != 0 || b.used.Load() != 0 || b.collector.garbage.Load() != 4*unit {
		t.Error("what leaves no garbage counts as some")
	}
}

// TestCollectionsTakeAFifthOfTheTime, whatever they are for: memory for which there is no
// room, and garbage.
func TestCollectionsTakeAFifthOfTheTime(t *testing.T) {
	const size, takes, most = 2 * Little, 100 * time.Millisecond, 20
	for what, prepare := range map[string]func(b *Budget){
		"garbage": func(b *Budget) { b.CountGarbage(1, func() int64 { return 0 }) },
		"a shortage": func(b *Budget) {
			b.Take(size)
			b.OnShortage(func(collect func()) bool {
				if collect != nil {
					collect()
				}
				return false
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := NewBudget(size)
				n := collections(b, takes)
				prepare(b)
				for end := time.Now().Add(((most-1)*5 + 1) * takes); time.Now().Before(end); {
					if b.Take(size) {
						b.Give(size)
					}
				}
				if *n != most {
					t.Errorf("%d collections, want %d", *n, most)
				}
			})
		})
	}
}

// TestWhatIsUsedAndKeptIsNoGarbage, however often it is used.
func TestWhatIsUsedAndKeptIsNoGarbage(t *testing.T) {
	b := NewBudget(10)
	b.CountGarbage(1, func() int64 { return 0 })
	for garbage, s := range map[int64]*Shared{0: NewSharedKept(b), 8: NewShared(b)} {
		release, ok := s.Take("a", 8)
		if release(); !ok || b.used.Load() != 0 || b.collector.garbage.Swap(0) != garbage {
			t.Errorf("not %d of garbage", garbage)
		}
	}
}

// TestWhatIsLetGoOfIsGarbage where others need its room.
func TestWhatIsLetGoOfIsGarbage(t *testing.T) {
	b, kept := NewBudget(10), int64(5)
	b.CountGarbage(1, func() int64 { return kept })
	b.OnLevel(5, func() { kept = 1 })
	if b.Take(9); b.collector.garbage.Load() != 4 {
		t.Errorf("%d are garbage", b.collector.garbage.Load())
	}
}

func TestALevel(t *testing.T) {
	b, calls := NewBudget(10), 0
	b.OnLevel(5, func() { calls++ })
	b.Take(5)
	if calls != 0 || b.Above(5) != 0 {
		t.Error("the level is not passed yet")
	}
	b.Take(2)
	if calls != 1 || b.Above(5) != 2 {
		t.Errorf("%d calls, %d above", calls, b.Above(5))
	}
	if b.Give(3); b.Above(5) != 0 {
		t.Error("what was given back still counts")
	}
	b.TakeAnyway(100)
	if calls != 2 || b.Take(1) || b.Above(5) != 99 {
		t.Error("what cannot be refused does not count")
	}
	if b.Give(100); !b.Take(1) {
		t.Error("it was not given back")
	}
}

func TestAReservationIsOfAllBudgetsOrNone(t *testing.T) {
	all, own := NewBudget(100), NewBudget(10)
	r := Reserve(all, own)
	if !r.Grow(10) || r.Grow(11) {
		t.Error("the smaller budget does not decide")
	}
	if !all.Take(90) || all.Take(1) {
		t.Error("what was refused is still taken from the larger budget")
	}
	r.Release()
	if !all.Take(10) || !own.Take(10) {
		t.Error("something was not given back")
	}
}

// TestFewPartsLeaveOthersSomething has parts take all that they get: what is left has room for
// those that want little.
func TestFewPartsLeaveOthersSomething(t *testing.T) {
	whole := NewBudget(1000)
	var parts []*Budget
	for range 5 {
		b := whole.Part(400)
		for b.Take(10) {
			parts = append(parts, b)
		}
	}
	if left := 1000 - whole.Above(0); left < 100 || left > 1000/eighth {
		t.Errorf("%d are left", left) // a little less than an eighth, as the others have had little once
	}
	little := whole.Part(400)
	if !little.Take(10) || little.Take(100) {
		t.Error("what is left is not for those that want little")
	}
	little.Give(10)
	for _, b := range parts {
		b.Give(10)
	}
	if whole.Above(0) != 0 {
		t.Error("something was not given back")
	}
	if alone := whole.Part(990); !alone.Take(990) { // of which no more than the rest is for others
		t.Error("one alone cannot have all of its part")
	} else if next := whole.Part(990); next.Take(11) || next.Above(0) != 0 {
		t.Error("what was refused is still taken")
	}
}

func TestSharedIsCountedOnce(t *testing.T) {
	b, own := NewBudget(20), NewBudget(10)
	s := NewShared(own, b)
	take := func(thing string, want bool) func() {
		release, ok := s.Take(thing, 8)
		if ok != want {
			t.Errorf("%s: %v", thing, ok)
		}
		return release
	}
	first, second := take("a", true), take("a", true)
	take("b", false)
	if !b.Take(12) {
		t.Error("more than was taken is counted")
	}
	first()
	take("b", false)
	second()
	take("b", true)()
	b.Give(12)
	if release, ok := s.Take("larger than the budget", 1000); !ok {
		t.Error("it does not fit when there is nothing else")
	} else {
		release()
	}
	if !b.Take(20) || !own.Take(10) {
		t.Error("something was not given back")
	}
	take("a", false)
}

func TestManyAtOnceNeverPassTheLimit(t *testing.T) {
	const limit = 3
	b := NewBudget(limit)
	var inside atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 1000 {
				if !b.Take(1) {
					continue
				}
				if n := inside.Add(1); n > limit {
					t.Errorf("%d at once", n)
				}
				runtime.Gosched() // so that the others meet a budget that is used
				inside.Add(-1)
				b.Give(1)
			}
		})
	}
	group.Wait()
	if !b.Take(limit) {
		t.Error("something was not given back")
	}
}
