package supervisor

import (
	"context"
	"errors"
	"time"
)

// run owns one child from the reservation of its place until Wait has
// returned; nothing else starts or ends it.
func (s *Supervisor) run(c *child) {
	defer s.running.Done()
	err := s.start(c)
	if err == nil && s.ready(c) {
		err = s.attend(c)
	}
	if err == nil {
		s.setState(c, StateStopping)
		s.stop(c)
	}
	s.finish(c, err)
}

// start waits for the backoff and for room, then spawns and proves. With an
// error the process is gone again.
func (s *Supervisor) start(c *child) error {
	if err := s.backoff(c); err != nil {
		return err
	}
	if err := s.makeRoom(c); err != nil {
		return err
	}
	return s.launch(c)
}

func (s *Supervisor) backoff(c *child) error {
	delay := s.noteBackoff(c)
	if delay <= 0 {
		return nil
	}
	s.log.Info("waiting before the next start", keyDir, c.dir, keyWait, delay)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	s.setState(c, StateStarting)
	return nil
}

func (s *Supervisor) noteBackoff(c *child) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	delay := c.place.history.until.Sub(s.config.now())
	if delay > 0 {
		c.state = StateBackoff
	}
	return delay
}

func (s *Supervisor) setState(c *child, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.state = state
}

// ready opens the child to leases, beginning with one for each waiter. It is
// false if the child was asked to leave before.
func (s *Supervisor) ready(c *child) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.left() {
		return false
	}
	c.state, c.granted = StateReady, true
	c.lastUsed = s.config.now()
	c.inFlight, c.waiters = c.waiters, 0
	close(c.started)
	s.restLocked(c)
	s.log.Info("child is ready", keyDir, c.dir, keyPID, c.proc.PID, keyPort, c.port)
	return true
}

var errDied = errors.New("SQ ended by itself")

// attend waits while the child serves; it returns errDied, or nil once the
// child is to be stopped and its leases have ended.
func (s *Supervisor) attend(c *child) error {
	select {
	case <-c.exited:
		return errDied
	case <-c.ctx.Done():
	}
	select {
	case <-c.exited:
		return errDied
	case <-c.drained:
	case <-s.urgent:
	}
	return nil
}

// stop ends the process between two writes. A write that takes longer than
// WriteLimit is waited for again, unless the supervisor itself must end.
func (s *Supervisor) stop(c *child) {
	for {
		err := s.endProcess(c)
		if err == nil {
			<-c.exited
			return
		}
		s.log.Error("child cannot be stopped", keyDir, c.dir, keyPID, c.proc.PID, keyError, err)
		if s.abandon(err) {
			c.signaled = true // so that it is not taken for a crash
			return
		}
	}
}

func (s *Supervisor) endProcess(c *child) error {
	end := s.ender()
	signaled, err := end.process(context.Background(), c.proc)
	c.signaled = c.signaled || signaled
	return err
}

func (s *Supervisor) ender() ender {
	return ender{patience: s.config.StopTimeout, limit: s.config.WriteLimit, log: s.log}
}

func (s *Supervisor) abandon(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.abandoned = append(s.abandoned, err)
	}
	return s.closed
}

// finish frees the place, so that the next start may begin.
func (s *Supervisor) finish(c *child, err error) {
	s.ports.release(c.port)
	s.logs.rest(c.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordLocked(c, err)
	c.proc.Close()
	s.leaveRoomLocked(c)
	c.place.child = nil
	if !c.granted && !errors.Is(err, context.Canceled) {
		c.startErr = err
	}
	if !c.granted {
		close(c.started)
	}
	close(c.gone)
}

// recordLocked decides whether this end counts as a failure.
func (s *Supervisor) recordLocked(c *child, err error) {
	h, now := &c.place.history, s.config.now()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrHeld):
	case !c.granted && err == nil: // left before it was ready
	case !c.granted:
		h.failed(now, err.Error())
	case c.granted && !c.signaled:
		s.recordDeathLocked(c, now)
	case c.suspect:
		h.suspected(now, c.proven(now))
	default:
		h.calm()
	}
	if err != nil {
		s.log.Warn("child is gone", keyDir, c.dir, keyPID, c.proc.PID, keyError, err)
		return
	}
	s.log.Info("child is stopped", keyDir, c.dir, keyPID, c.proc.PID)
}

func (s *Supervisor) recordDeathLocked(c *child, now time.Time) {
	if c.proven(now) {
		c.place.history.calm()
	}
	last := c.out.tail.last(1)
	c.place.history.failed(now, errDied.Error()+" ("+c.cmd.ProcessState.String()+") "+join(last))
}
