package memlimit

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestBudget(t *testing.T) {
	b := NewBudget(10)
	if !b.Take(10) || b.Take(1) {
		t.Error("the limit is not where it should be")
	}
	b.Give(10)
	release, ok := b.TakeAtMost(1000)
	if !ok || b.Take(1) {
		t.Error("more than there can be must find all the room that there is")
	}
	release()
	if !b.Take(10) {
		t.Error("something was not given back")
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

func TestSharedIsCountedOnce(t *testing.T) {
	b := NewBudget(10)
	s := NewShared[string](b)
	for range 2 {
		if !s.Take("a", 8) {
			t.Error("a thing is not counted once")
		}
	}
	if s.Take("b", 8) {
		t.Error("there is room past the limit")
	}
	s.Give("a", 8)
	if s.Take("b", 8) {
		t.Error("a thing that is still used was given back")
	}
	s.Give("a", 8)
	if !s.Take("b", 8) {
		t.Error("a thing that nobody uses was not given back")
	}
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
