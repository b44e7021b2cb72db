package supervisor

import (
	"context"
	"sync/atomic"
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

// Release gives the child back in good order. Only the first Release or
// Retire of a lease counts.
func (l *Lease) Release() { l.end("") }

// Retire gives back a child that is suspect: an exchange failed, timed out or
// answered 500. It takes no new leases, those in flight finish, then it is
// stopped, and the next Lease starts a fresh one.
func (l *Lease) Retire(reason string) { l.end("retired: " + reason) }

func (l *Lease) end(suspicion string) {
	if l.ended.Swap(true) {
		return
	}
	s := l.supervisor
	s.mu.Lock()
	defer s.mu.Unlock()
	if suspicion != "" {
		l.child.suspect = true
		s.leaveLocked(l.child, suspicion)
	}
	s.releaseLocked(l.child)
}

// Lease returns the child of a data directory, an absolute path, starting it
// if there is none. It waits until the child is ready, has failed, or ctx ends.
// Errors: ctx's, ErrClosed, *StartError, *CrashLoopError.
func (s *Supervisor) Lease(ctx context.Context, dir string) (*Lease, error) {
	dir, err := cleanDir(dir)
	if err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		lease, wait, err := s.admit(dir)
		if lease != nil || err != nil {
			return lease, err
		}
		if lease, err = wait(ctx); lease != nil || err != nil {
			return lease, err
		}
	}
}

// waiter waits for something to change; without lease and error, look again.
type waiter func(context.Context) (*Lease, error)

// admit claims the ready child, joins a start, or begins one.
func (s *Supervisor) admit(dir string) (*Lease, waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	p := s.placeLocked(dir)
	if p.child == nil {
		if err := p.history.refusal(dir, s.config.now()); err != nil {
			return nil, nil, err
		}
		s.beginLocked(p)
	}
	return s.joinLocked(p.child)
}

func (s *Supervisor) joinLocked(c *child) (*Lease, waiter, error) {
	switch {
	case c.starting() && !c.left():
		c.waiters++
		return nil, func(ctx context.Context) (*Lease, error) { return s.awaitStart(ctx, c) }, nil
	case c.state == StateReady && !c.proc.Gone():
		s.claimLocked(c)
		return s.lease(c), nil, nil
	}
	return nil, func(ctx context.Context) (*Lease, error) { return nil, awaitEnd(ctx, c.gone) }, nil
}

func (s *Supervisor) lease(c *child) *Lease { return &Lease{supervisor: s, child: c} }

func awaitEnd(ctx context.Context, gone <-chan struct{}) error {
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitStart takes the claim that was made for each waiter when the child
// became ready, so that no eviction can come between.
func (s *Supervisor) awaitStart(ctx context.Context, c *child) (*Lease, error) {
	select {
	case <-c.started:
	case <-ctx.Done():
		s.giveUp(c)
		return nil, ctx.Err()
	}
	if !c.granted {
		return nil, c.startErr
	}
	return s.lease(c), nil
}

// giveUp takes a waiter away. A start that nobody waits for, and that has not
// spawned anything yet, must not push somebody else's child out.
func (s *Supervisor) giveUp(c *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.granted {
		s.releaseLocked(c)
		return
	}
	c.waiters--
	if c.waiters == 0 && !c.spawned {
		s.leaveLocked(c, "nobody waits for it")
	}
}
