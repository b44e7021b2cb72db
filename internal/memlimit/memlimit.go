// Package memlimit bounds what is held in memory at once: bytes of bodies and
// answers, or numbers of requests. It refuses, and never waits for other holders: two that
// each wait for what the other has would wait for ever. What is larger than Little may wait
// until garbage is collected, so whoever has a turn gives it back before.
package memlimit

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Little is how much, in bytes, may be taken in a turn: for that, no garbage is collected.
const Little = 256 << 10

// Budget is how much may be held at once. Its methods may be called at any time.
type Budget struct {
	limit   int64
	used    atomic.Int64
	reclaim func(collect func()) bool
	level   int64
	above   func()

	shares *Shares // of which this is what owner has; nil = none
	owner  string

	whole  *Budget // of which this is a part; nil = of none
	leaves int64   // of whole to parts that have little, see Part

	collector collector
	mostLeft  int64        // of garbage; 0 = it is not counted
	beside    func() int64 // see CountGarbage
}

// NewBudget makes a budget of limit bytes, or whatever the caller counts.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Part makes a budget of at most limit, which is taken from b too. So that few parts cannot
// keep the others out, the last eighth of b is for parts that have little: no more than an
// eighth of what is free then.
func (b *Budget) Part(limit int64) *Budget {
	return &Budget{limit: limit, whole: b, leaves: min(b.limit/eighth, b.limit-limit)}
}

// OnShortage has reclaim called when there is no room, which may give some back. It
// returns whether it has. Where it may wait, it gets collect, which has garbage collected;
// else nil. It is set before the budget is used.
func (b *Budget) OnShortage(reclaim func(collect func()) bool) { b.reclaim = reclaim }

// OnLevel has above called each time that something was taken and more than level is
// held then. It is set before the budget is used.
func (b *Budget) OnLevel(level int64, above func()) { b.level, b.above = level, above }

// CountGarbage has bytes that were given back count until they are collected, but for
// mostLeft of them: else more than the limit is in memory where the garbage collector
// does not keep up. beside is what others keep within the limit without taking it. It is
// set before the budget is used.
func (b *Budget) CountGarbage(mostLeft int64, beside func() int64) {
	b.mostLeft, b.beside = mostLeft, beside
}

// Above is how much more than level is held.
func (b *Budget) Above(level int64) int64 { return max(0, b.used.Load()-level) }

// Limit is the most that may be held at once.
func (b *Budget) Limit() int64 { return b.limit }

// Take reserves n, or nothing.
func (b *Budget) Take(n int64) bool {
	return takeWaiting([]*Budget{b}, n, func() bool { return b.take(n) })
}

// take is Take without waiting.
func (b *Budget) take(n int64) bool {
	if b.shares != nil {
		return b.shares.take(b.owner, n, n)
	}
	return b.takeOf(n, b.limit)
}

// takeOf is take unless more than most would be held then.
func (b *Budget) takeOf(n, most int64) bool {
	for {
		used := b.used.Load()
		if n > most-used {
			if n <= most && b.reclaim != nil && b.reclaim(nil) {
				continue
			}
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			if b.whole != nil && !b.whole.takeOf(n, b.mostOfWhole(used+n)) {
				b.used.Add(-n)
				return false
			}
			b.watch(n, used+n)
			return true
		}
	}
}

// mostOfWhole is how much all parts may have when this one wants to have mine.
func (b *Budget) mostOfWhole(mine int64) int64 {
	if free := b.whole.limit - b.whole.used.Load(); mine <= free/eighth {
		return b.whole.limit
	}
	return b.whole.limit - b.leaves
}

// TakeAnyway is Take for what cannot be refused. Others are refused until there is room again.
func (b *Budget) TakeAnyway(n int64) {
	_ = takeWaiting([]*Budget{b}, n, func() bool { b.watch(n, b.used.Add(n)); return true })
}

// watch looks at the level after n was taken. What is let go of then is garbage.
func (b *Budget) watch(n, used int64) {
	if b.above == nil || n <= 0 || used <= b.level {
		return
	}
	before := b.besides()
	b.above()
	b.collector.garbage.Add(max(0, before-b.besides()))
}

func (b *Budget) besides() int64 {
	if b.beside == nil {
		return 0
	}
	return b.beside()
}

// takeWaiting has take take n from each budget. If n is more than Little, garbage is
// collected for it.
func takeWaiting(budgets []*Budget, n int64, take func() bool) bool {
	for !take() {
		if n <= Little || !slices.ContainsFunc(budgets, func(b *Budget) bool { return b.reclaimFor(n) }) {
			return false
		}
	}
	for _, b := range budgets {
		if b.whole != nil {
			b = b.whole
		}
		if n > Little && b.isFull() {
			b.collector.collect(b.isFull)
		}
	}
	return true
}

// reclaimFor has garbage collected if there is no room for n, and says whether some was
// given back.
func (b *Budget) reclaimFor(n int64) bool {
	all, used := b, b.used.Load()
	short := n > b.limit-used
	if b.whole != nil {
		all, short = b.whole, short || n > b.mostOfWhole(used+n)-b.whole.used.Load()
	}
	return short && n <= b.limit && all.reclaim != nil && all.reclaim(func() { all.collector.collect(nil) })
}

// isFull says that what is held and more than mostLeft of the garbage do not fit together.
func (b *Budget) isFull() bool {
	garbage := b.collector.garbage.Load()
	return b.mostLeft > 0 && garbage > b.mostLeft && b.used.Load()+garbage-b.mostLeft+b.beside() > b.limit
}

// Give returns n.
func (b *Budget) Give(n int64) {
	if b.shares != nil {
		b.shares.give(b.owner, n, n)
		return
	}
	if b.used.Add(-n); b.mostLeft > 0 {
		b.collector.garbage.Add(n)
	}
	if b.whole != nil {
		b.whole.Give(n)
	}
}

// PutBack is Give for what leaves no garbage, such as what was not used.
func (b *Budget) PutBack(n int64) {
	if b.shares != nil {
		b.shares.give(b.owner, n, n)
		return
	}
	b.used.Add(-n)
	if b.whole != nil {
		b.whole.PutBack(n)
	}
}

// takeAll takes an amount from each budget, or nothing from any.
func takeAll(budgets []*Budget, amount func(*Budget) int64) bool {
	for i, b := range budgets {
		if !b.take(amount(b)) {
			putBackAll(budgets[:i], amount)
			return false
		}
	}
	return true
}

func giveAll(budgets []*Budget, amount func(*Budget) int64) {
	for _, b := range budgets {
		b.Give(amount(b))
	}
}

func putBackAll(budgets []*Budget, amount func(*Budget) int64) {
	for _, b := range budgets {
		b.PutBack(amount(b))
	}
}

// atMost is the amount of a thing that may be larger than a whole budget.
func atMost(n int64) func(*Budget) int64 {
	return func(b *Budget) int64 { return min(n, b.limit) }
}

// Reservation is one holder's part of several budgets at once: of everybody's
// and, within it, of one tenant's, so that one tenant's slow uploads cannot keep
// the others out. It belongs to one goroutine.
type Reservation struct {
	budgets []*Budget
	held    int64
}

// Reserve makes an empty reservation.
func Reserve(budgets ...*Budget) *Reservation { return &Reservation{budgets: budgets} }

// Grow raises the reservation to n in all, or leaves it as it was. A smaller n lowers it.
func (r *Reservation) Grow(n int64) bool {
	more := n - r.held
	if more < 0 {
		giveAll(r.budgets, func(*Budget) int64 { return -more })
	} else if !takeWaiting(r.budgets, more, func() bool { return takeAll(r.budgets, func(*Budget) int64 { return more }) }) {
		return false
	}
	r.held = n
	return true
}

// Fits says whether n could be reserved if nobody else held anything.
func (r *Reservation) Fits(n int64) bool {
	return !slices.ContainsFunc(r.budgets, func(b *Budget) bool { return n > b.limit })
}

// Size is what is reserved.
func (r *Reservation) Size() int64 { return r.held }

// PutBack is Release of what leaves no garbage.
func (r *Reservation) PutBack() {
	putBackAll(r.budgets, func(*Budget) int64 { return r.held })
	r.held = 0
}

// Release gives everything back.
func (r *Reservation) Release() {
	if r.held == 0 {
		return // as of most requests, which are small
	}
	giveAll(r.budgets, func(*Budget) int64 { return r.held })
	r.held = 0
}

// Shared counts things that several hold at a time, each once: an answer that
// is being sent to many clients is in memory once.
type Shared struct {
	budgets []*Budget
	kept    bool // the things stay where they are, and are no garbage afterwards
	mu      sync.Mutex
	users   map[any]int
}

// NewShared counts within all of the budgets.
func NewShared(budgets ...*Budget) *Shared {
	return &Shared{budgets: budgets, users: map[any]int{}}
}

// NewSharedKept is NewShared for things that somebody else keeps in memory.
func NewSharedKept(budgets ...*Budget) *Shared {
	s := NewShared(budgets...)
	s.kept = true
	return s
}

// Take counts one more user of a thing of size n, which is the same at each
// call, unless there is no room for it. A thing that is larger than a budget has
// room when there is nothing else. release gives the room back.
func (s *Shared) Take(thing any, n int64) (release func(), ok bool) {
	if !takeWaiting(s.budgets, n, func() bool { return s.take(thing, n) }) {
		return nil, false
	}
	return func() { s.give(thing, n) }, true
}

func (s *Shared) take(thing any, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[thing] == 0 && !takeAll(s.budgets, atMost(n)) {
		return false
	}
	s.users[thing]++
	return true
}

func (s *Shared) give(thing any, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[thing]--; s.users[thing] == 0 {
		delete(s.users, thing)
		if s.kept {
			putBackAll(s.budgets, atMost(n))
		} else {
			giveAll(s.budgets, atMost(n))
		}
	}
}
