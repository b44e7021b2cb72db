package supervisor

// makeRoom waits until the child may be one of MaxChildren, asking the idle
// child that was used least recently to leave. If all are busy, the first one
// to come to rest leaves.
func (s *Supervisor) makeRoom(c *child) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanting++
	defer func() { s.wanting-- }()
	for s.fullLocked() {
		s.evictLocked()
		if err := s.awaitFreedLocked(c); err != nil {
			return err
		}
	}
	if c.left() {
		return c.ctx.Err()
	}
	s.live++
	c.counted = true
	return nil
}

func (s *Supervisor) fullLocked() bool {
	return s.config.MaxChildren > 0 && s.live >= s.config.MaxChildren
}

func (s *Supervisor) awaitFreedLocked(c *child) error {
	freed := s.freed
	s.mu.Unlock()
	defer s.mu.Lock()
	return awaitEnd(c.ctx, freed)
}

// evictLocked asks as many idle children to leave as are wanted and are not
// leaving already.
func (s *Supervisor) evictLocked() {
	for s.fullLocked() && s.wanting > s.leaving {
		_, oldest, ok := s.idle.GetOldest()
		if !ok {
			return
		}
		s.leaveLocked(oldest, "evicted for another data directory")
	}
}

// leaveRoomLocked takes a child that is gone out of all counts.
func (s *Supervisor) leaveRoomLocked(c *child) {
	if c.counted && c.left() {
		s.leaving--
	}
	if c.counted {
		s.live--
	}
	c.counted = false
	if !c.left() {
		s.idle.Remove(c.dir)
		c.leave()
	}
	if c.idleTimer != nil {
		c.idleTimer.Stop()
	}
	close(s.freed)
	s.freed = make(chan struct{})
}
