package supervisor

import (
	"context"
	"errors"
	"fmt"
)

// Stop takes the child of a directory out of service, waits for its leases and
// ends it. When it returns nil, no process serves the directory, not even one of
// an earlier sqgate, and the directory's failures and output are forgotten. A
// Lease that comes meanwhile waits, then starts a new child: a caller that wants
// none has to stop leasing first. If another sqgate serves the directory, the
// error is ErrHeld.
//
// If ctx ends, its error is returned and the child still goes.
func (s *Supervisor) Stop(ctx context.Context, dir, reason string) error {
	if err := s.Clear(ctx, dir, reason); err != nil {
		return err
	}
	dir, err := cleanDir(dir)
	if err == nil {
		s.forget(dir)
	}
	return err
}

// Clear is Stop without the forgetting, for a caller that has to work on the
// directory's files before it is served again.
func (s *Supervisor) Clear(ctx context.Context, dir, reason string) error {
	dir, err := cleanDir(dir)
	if err != nil {
		return err
	}
	if c := s.drain(dir, reason); c != nil {
		if err := await(ctx, c.ended); err != nil {
			return err
		}
	}
	return s.stopOrphanIn(ctx, dir)
}

func (s *Supervisor) drain(dir, reason string) *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.slots[dir]
	if p == nil || p.child == nil {
		return nil
	}
	s.drainLocked(p.child, reason)
	return p.child
}

func (s *Supervisor) forget(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.slots[dir]; p != nil && p.child == nil {
		delete(s.slots, dir)
	}
}

// Close stops everything: no new leases are given, those in flight finish, then
// all children are stopped at once. When ctx ends, it stops waiting for leases
// and returns ctx's error; even then no child is stopped in the middle of a
// write. When it returns, all processes and goroutines are gone, unless the
// error is ErrStillWriting.
func (s *Supervisor) Close(ctx context.Context) error {
	s.drainAll()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	err := await(ctx, done)
	if err != nil {
		s.force()
		err = fmt.Errorf("children stopped with requests in flight: %w", err)
	}
	<-done
	return errors.Join(err, s.logs.close(), s.abandonedErrors())
}

func (s *Supervisor) drainAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, p := range s.slots {
		if p.child != nil {
			s.drainLocked(p.child, "closing")
		}
	}
}

func (s *Supervisor) abandonedErrors() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.abandoned...)
}
