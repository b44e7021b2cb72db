package host

import (
	"context"
	"slices"
	"sync"

	"mirrorborn.us/sqgate/internal/memlimit"
)

// places are divided between directories, so that one whose objects the bucket does not give
// keeps no other waiting. Whoever finds none waits; those who may have one get it in the order
// in which they came.
type places struct {
	shares *memlimit.Shares

	mu      sync.Mutex
	waiting []*placeWaiter
}

type placeWaiter struct {
	share *memlimit.Budget
	got   chan struct{}
}

func newPlaces(n int64) *places { return &places{shares: memlimit.NewShares(n, n/2)} }

// take waits for a place for the directory at a path.
func (p *places) take(ctx context.Context, path string) (release func(), err error) {
	w := &placeWaiter{p.shares.Of(path), make(chan struct{})}
	release = func() { p.give(w) }
	p.mu.Lock()
	if w.share.Take(1) {
		p.mu.Unlock()
		return release, nil
	}
	p.waiting = append(p.waiting, w)
	p.mu.Unlock()
	select {
	case <-w.got:
		return release, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	p.mu.Unlock()
	if i < 0 { // it got one just now
		release()
	}
	return nil, ctx.Err()
}

func (p *places) give(w *placeWaiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.share.Give(1)
	for i := 0; i < len(p.waiting) && p.shares.Used() < p.shares.Limit(); {
		next := p.waiting[i]
		if !next.share.Take(1) {
			i++
			continue
		}
		p.waiting = slices.Delete(p.waiting, i, i+1)
		close(next.got)
	}
}
