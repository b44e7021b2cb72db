package proxy

import "sync/atomic"

// budget bounds what is held at once, bytes of memory or requests. It refuses rather than waits:
// waiting while holding a part of it is how two requests could wait for each
// other for ever.
type budget struct {
	limit int64
	used  atomic.Int64
}

func newBudget(limit int64) *budget { return &budget{limit: limit} }

// take reserves n, or nothing.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// share is one holder's part of up to two budgets: everybody's and, within it,
// one tenant's, so that one tenant's slow uploads cannot keep the others out.
type share struct {
	of   []*budget
	held int64
}

// grow raises the share to n bytes, or leaves it as it was.
func (s *share) grow(n int64) bool {
	more := n - s.held
	for i, b := range s.of {
		if b.take(more) {
			continue
		}
		for _, earlier := range s.of[:i] {
			earlier.give(more)
		}
		return false
	}
	s.held = n
	return true
}

func (s *share) release() {
	for _, b := range s.of {
		b.give(s.held)
	}
	s.held = 0
}
