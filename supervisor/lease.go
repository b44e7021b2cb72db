package supervisor

import (
	"context"
	"sync/atomic"
	"time"
)

// Lease is the right to send requests to a ready child. The child is not
// stopped while one is held, unless Close runs out of time.
type Lease struct {
	supervisor *Supervisor
	child      *child
	ended      atomic.Bool
}

// Addr is where the child listens, 127.0.0.1:PORT.
func (l *Lease) Addr() string { return loopback(l.child.port) }

// Key is the child's own key, 32 hex digits, different for each start.
func (l *Lease) Key() string { return l.child.key }

// Version is the version the child announced, such as "0.5.6"; "" if none.
func (l *Lease) Version() string { return l.child.version }

// Generation is different for each start of a child, and grows.
func (l *Lease) Generation() uint64 { return l.child.generation }

// Release gives the child back in good order. Only the first Release or Retire
// of a lease counts.
func (l *Lease) Release() { l.end("") }

// Retire gives back a child that is suspect: it failed a request, did not answer
// in time, or answered 500. It gets no new leases, those in flight finish, then
// it is stopped. The next Lease starts a new child.
func (l *Lease) Retire(reason string) { l.end("retired: " + reason) }

func (l *Lease) end(suspicion string) {
	if l.ended.Swap(true) {
		return
	}
	l.giveBack(suspicion, suspicion != "")
}

// giveBack releases the child. It is to go if there is a reason.
func (l *Lease) giveBack(reason string, suspect bool) {
	s := l.supervisor
	s.mu.Lock()
	defer s.mu.Unlock()
	if reason != "" {
		l.child.suspect = l.child.suspect || suspect
		s.drainLocked(l.child, reason)
	}
	s.releaseLocked(l.child)
}

// Lease returns the ready child of a data directory, which is an absolute path.
// It starts the child if there is none, and waits until it is ready or has
// failed, or until ctx ends. Errors: ctx's, ErrClosed, *StartError,
// *CrashLoopError.
func (s *Supervisor) Lease(ctx context.Context, dir string) (*Lease, error) {
	dir, err := cleanDir(dir)
	if err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		lease, wait, err := s.claimOrStart(dir)
		if lease == nil && err == nil {
			lease, err = wait(ctx)
		}
		if err != nil {
			return nil, err
		}
		if lease == nil {
			continue
		}
		if !lease.child.displaced() {
			return lease, nil
		}
		lease.giveBack("another directory is at its path", false)
		if err := sleep(ctx, longestPause); err != nil { // it may go on coming and going
			return nil, err
		}
	}
}

// waitFunc waits for a change. If it returns neither a lease nor an error, the
// caller has to look again.
type waitFunc func(context.Context) (*Lease, error)

// claimOrStart claims the ready child, or returns how to wait for one: for a
// start that it may have begun, or for the end of a child that is going.
func (s *Supervisor) claimOrStart(dir string) (*Lease, waitFunc, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	p := s.slotLocked(dir)
	if p.child == nil {
		if err := p.backoff.check(dir, s.config.now()); err != nil {
			return nil, nil, err
		}
		s.newChildLocked(p)
	}
	c := p.child
	switch {
	case c.starting() && !c.leaving():
		c.waiting++
		return nil, func(ctx context.Context) (*Lease, error) { return s.awaitStart(ctx, c) }, nil
	case c.state == StateReady && !c.proc.Gone():
		s.claimLocked(c)
		return s.lease(c), nil, nil
	}
	return nil, func(ctx context.Context) (*Lease, error) { return nil, await(ctx, c.ended) }, nil
}

func (s *Supervisor) lease(c *child) *Lease { return &Lease{supervisor: s, child: c} }

// await waits for an event, or for the end of ctx, which is an error.
func await(ctx context.Context, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sleep ends early, with an error, if ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitStart returns the lease that openToLeases has claimed for each caller
// that waits, so that the child cannot be evicted before the caller has it.
func (s *Supervisor) awaitStart(ctx context.Context, c *child) (*Lease, error) {
	if err := await(ctx, c.started); err != nil {
		s.stopWaiting(c)
		return nil, err
	}
	if !c.wasReady {
		return nil, c.startErr
	}
	return s.lease(c), nil
}

// stopWaiting is for a caller that no longer waits for the start. If nobody else
// does and no process was spawned, the start is called off, so that it evicts no
// other child.
func (s *Supervisor) stopWaiting(c *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.wasReady {
		s.releaseLocked(c)
		return
	}
	c.waiting--
	if c.waiting == 0 && !c.spawned {
		s.drainLocked(c, "nobody waits for it")
	}
}
