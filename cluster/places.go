package cluster

import "sync"

// places are those of requests that are on their way to other hosts. No owner gets more of
// them than are left free then. The last ones, a part of all, are for owners that have none.
// One alone has nearly half of all; several that want more come to have the same part.
type places struct {
	most int

	mu    sync.Mutex
	taken int
	by    map[string]int // by owner
}

// firstPart is the part of all places that are for owners that have none.
const firstPart = 8

func newPlaces(most int) *places { return &places{most: most, by: map[string]int{}} }

// take takes a place, or refuses to, and never waits.
func (p *places) take(owner string) (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.most - p.taken
	if p.by[owner] > 0 {
		free -= p.most / firstPart
	}
	if p.by[owner] >= free {
		return nil, false
	}
	p.taken++
	p.by[owner]++
	return func() { p.leave(owner) }, true
}

func (p *places) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken == 0
}

func (p *places) leave(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.by[owner]--; p.by[owner] == 0 {
		delete(p.by, owner)
	}
}
