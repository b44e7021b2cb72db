package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/datadir"
)

var errAnswerLost = apierror.New(apierror.NotKnown, "the other host did not answer")

// routed has a process do something, or the one to which it sends requests of a tenant: what
// a gateway with other hosts does. Without any, it is the first one.
func routed[T any](ctx context.Context, c *client, p *process, tenant int, do func(context.Context, *process) (T, error)) (value T, err error) {
	if !c.many {
		return do(ctx, p)
	}
	dir := p.dataDir(tenant)
	for {
		to, here, err := p.ds.Route(ctx, dir)
		switch {
		case err != nil:
		case here:
			value, err = do(ctx, p)
		default:
			value, err = sendOn(ctx, c, p, to, func(ctx context.Context, q *process) (none T, err error) {
				if ok, err := q.ds.Accepts(ctx, q.dataDir(tenant)); err != nil || !ok {
					return none, errors.Join(err, datadir.ErrMoved)
				}
				return do(ctx, q)
			})
		}
		if !errors.Is(err, datadir.ErrMoved) {
			return value, err
		}
		p.ds.Forget(dir)
		select {
		case <-time.After(between(c.draw("again", c.number, p.machine.name, p.number, p.count("again", c.number)), 20*time.Millisecond, 500*time.Millisecond)):
		case <-ctx.Done():
			return value, datadir.ErrMoved
		}
	}
}

// sendOn has another host do something. Nothing was done if the error is datadir.ErrMoved.
func sendOn[T any](ctx context.Context, c *client, from *process, to Peer, do func(context.Context, *process) (T, error)) (none T, err error) {
	var q *process
	for _, h := range c.simulation.hosts {
		if h.name == to.Name && !h.isApart() && !from.machine.isApart() {
			q = h.running()
		}
	}
	if q == nil || q.Incarnation != to.Incarnation {
		from.Unreachable(to.Name)
		return none, datadir.ErrMoved
	}
	left := time.Hour
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	a, answered := ask(c, q, left, func(ctx context.Context) (T, error) { return do(ctx, q) })
	if !answered {
		return none, errAnswerLost
	}
	return a.value, a.err
}

func (p *process) dataDir(tenant int) string {
	t, _ := p.tenants.ByID(tenantID(tenant)) // there is one
	return t.DataDir
}

// drain has the host drained for a while.
func (h *simHost) drain(length time.Duration) {
	p := h.running()
	if p == nil {
		return
	}
	p.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		h.say("host %d is drained: %v", h.number, p.ds.Drain(ctx))
	})
	h.flights.Go(func() {
		time.Sleep(length)
		h.undrain()
	})
}

func (h *simHost) undrain() {
	p := h.running()
	if p == nil {
		return
	}
	p.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		h.say("host %d takes directories again: %v", h.number, p.ds.Undrain(ctx))
	})
}

// move has the host give a tenant to another host.
func (h *simHost) move(e event) {
	p := h.running()
	if p == nil {
		return
	}
	to := ""
	if n := (h.number + e.number) % len(h.plan.hostNames()); n != h.number {
		to = h.plan.hostNames()[n]
	}
	p.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		tenant := e.number % h.plan.tenants
		h.say("host %d moves tenant %d to %q: %v", h.number, tenant, to, p.ds.HandOver(ctx, p.dataDir(tenant), to))
	})
}

func (p plan) hostNames() (names []string) {
	for i := range p.hosts {
		names = append(names, fmt.Sprint("h", i))
	}
	return names
}

// setApart has the others not reach the host, and it none of them, for a while.
func (h *simHost) setApart(length time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.apartUntil = time.Now().Add(length)
}

func (h *simHost) isApart() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.apartUntil)
}
