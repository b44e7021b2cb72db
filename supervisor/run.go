package supervisor

import (
	"context"
	"errors"
	"strings"
	"time"
)

// run owns one child from the reservation of its slot until the process has
// been waited for. Nothing else starts or ends it.
func (s *Supervisor) run(c *child) {
	defer s.running.Done()
	err := s.start(c)
	if err == nil && s.openToLeases(c) {
		err = s.wait(c)
	}
	if err == nil {
		s.setState(c, StateStopping)
		s.stop(c)
	}
	s.finish(c, err)
}

// start waits until the child may start, then launches it. If it fails, no
// process is left.
func (s *Supervisor) start(c *child) error {
	if err := s.awaitBackoff(c); err != nil {
		return err
	}
	if err := s.reserveCapacity(c); err != nil {
		return err
	}
	return s.launch(c)
}

func (s *Supervisor) setState(c *child, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.state = state
}

// openToLeases makes the child ready, with one lease for each caller that waits.
// It is false if the child was asked to go before.
func (s *Supervisor) openToLeases(c *child) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.leaving() {
		return false
	}
	c.state, c.wasReady = StateReady, true
	c.lastUsed = s.config.now()
	c.inFlight, c.waiting = c.waiting, 0
	close(c.started)
	s.checkUnusedLocked(c)
	s.log.Info("child is ready", keyDir, c.dir, keyPID, c.proc.PID, keyPort, c.port)
	return true
}

var errDied = errors.New("SQ ended by itself")

// wait waits while the child serves. It returns errDied, or nil when the child
// is to be stopped and its leases have ended.
func (s *Supervisor) wait(c *child) error {
	select {
	case <-c.exited:
		return errDied
	case <-c.ctx.Done():
	}
	select {
	case <-c.exited:
		return errDied
	case <-c.drained:
	case <-s.forced:
	}
	return nil
}

// stop ends the process between two writes. It waits again for a write that
// takes longer than WriteLimit, unless the supervisor is closing.
func (s *Supervisor) stop(c *child) {
	for {
		err := s.terminate(c)
		if err == nil {
			<-c.exited
			return
		}
		s.log.Error("child cannot be stopped", keyDir, c.dir, keyPID, c.proc.PID, keyError, err)
		if s.mayAbandon(err) {
			c.signaled = true // so that it is not taken for a crash
			return
		}
	}
}

func (s *Supervisor) terminate(c *child) error {
	signaled, err := s.terminator().terminate(context.Background(), c.proc)
	c.signaled = c.signaled || signaled
	return err
}

func (s *Supervisor) terminator() terminator {
	return terminator{stopTimeout: s.config.StopTimeout, writeLimit: s.config.WriteLimit, log: s.log}
}

// mayAbandon reports whether a process may be left alive, which Close then
// returns as err.
func (s *Supervisor) mayAbandon(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.abandoned = append(s.abandoned, err)
	}
	return s.closed
}

// finish frees the slot, so that the next start can begin.
func (s *Supervisor) finish(c *child, err error) {
	s.ports.release(c.port)
	s.logs.closeFile(c.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordEndLocked(c, err)
	c.proc.Close()
	s.releaseCapacityLocked(c)
	c.slot.child = nil
	if !c.wasReady && !errors.Is(err, context.Canceled) {
		c.startErr = err
	}
	if !c.wasReady {
		close(c.started)
	}
	close(c.ended)
}

// recordEndLocked decides whether the end of a child counts as a failure.
func (s *Supervisor) recordEndLocked(c *child, err error) {
	b, now := &c.slot.backoff, s.config.now()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrHeld), errors.Is(err, errDirRefused):
	case !c.wasReady && err == nil: // asked to go before it was ready
	case !c.wasReady:
		b.failed(now, err.Error())
	case !c.signaled:
		s.recordCrashLocked(c, now)
	case c.suspect:
		b.retired(now, c.stable(now))
	default:
		b.reset()
	}
	if err != nil {
		s.log.Warn("child is gone", keyDir, c.dir, keyPID, c.proc.PID, keyError, err)
		return
	}
	s.log.Info("child is stopped", keyDir, c.dir, keyPID, c.proc.PID)
}

func (s *Supervisor) recordCrashLocked(c *child, now time.Time) {
	if c.stable(now) {
		c.slot.backoff.reset()
	}
	lastLine := strings.Join(c.out.tail.last(1), "")
	c.slot.backoff.failed(now, errDied.Error()+" ("+c.cmd.ProcessState.String()+") "+lastLine)
}
