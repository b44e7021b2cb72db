package supervisor

import (
	"context"
	"errors"
	"fmt"
)

// Stop takes the child of a directory out of service, waits for its leases
// and ends it; it returns when no process serves the directory, not even one
// left by an earlier gateway. A Lease that comes meanwhile waits and then
// starts a fresh child, so a caller who wants none must stop asking first.
// What was known of the directory, failures and output, is forgotten.
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

// Clear is Stop without forgetting: for a caller who has to touch the
// directory's files and then goes on with it.
func (s *Supervisor) Clear(ctx context.Context, dir, reason string) error {
	dir, err := cleanDir(dir)
	if err != nil {
		return err
	}
	if c := s.dismiss(dir, reason); c != nil {
		if err := awaitEnd(ctx, c.gone); err != nil {
			return err
		}
	}
	return s.stopOrphan(ctx, dir)
}

func (s *Supervisor) dismiss(dir, reason string) *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.places[dir]
	if p == nil || p.child == nil {
		return nil
	}
	s.leaveLocked(p.child, reason)
	return p.child
}

func (s *Supervisor) forget(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.places[dir]; p != nil && p.child == nil {
		delete(s.places, dir)
	}
}

// Close ends everything: no new leases, those in flight finish, then all
// children are stopped at once. When ctx ends it stops waiting for leases and
// returns ctx's error, but even then no child is stopped in the middle of a
// write. When Close returns, all processes and goroutines are gone, unless
// the error is ErrStillWriting.
func (s *Supervisor) Close(ctx context.Context) error {
	s.dismissAll()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	err := awaitEnd(ctx, done)
	if err != nil {
		s.hurry()
		err = fmt.Errorf("children stopped with requests in flight: %w", err)
	}
	<-done
	return errors.Join(err, s.logs.close(), s.leftovers())
}

func (s *Supervisor) dismissAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, p := range s.places {
		if p.child != nil {
			s.leaveLocked(p.child, "closing")
		}
	}
}

func (s *Supervisor) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hurried {
		close(s.urgent)
	}
	s.hurried = true
}

func (s *Supervisor) leftovers() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.abandoned...)
}
