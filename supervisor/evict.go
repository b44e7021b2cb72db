package supervisor

// reserveCapacity waits until the child may be one of MaxChildren. It asks the
// least recently used child without a lease to go. If all have leases, the first
// one to be released goes.
func (s *Supervisor) reserveCapacity(c *child) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued++
	defer func() { s.queued-- }()
	for s.fullLocked() {
		s.evictLocked()
		if err := s.awaitChildEndLocked(c); err != nil {
			return err
		}
	}
	if c.leaving() {
		return c.ctx.Err()
	}
	s.live++
	c.counted = true
	return nil
}

func (s *Supervisor) fullLocked() bool {
	return s.config.MaxChildren > 0 && s.live >= s.config.MaxChildren
}

// awaitChildEndLocked unlocks while it waits.
func (s *Supervisor) awaitChildEndLocked(c *child) error {
	childEnded := s.childEnded
	s.mu.Unlock()
	defer s.mu.Lock()
	return await(c.ctx, childEnded)
}

// evictLocked asks as many unused children to go as are needed beside those
// that are going already.
func (s *Supervisor) evictLocked() {
	for s.fullLocked() && s.queued > s.draining {
		_, oldest, ok := s.unused.GetOldest()
		if !ok {
			return
		}
		s.drainLocked(oldest, "evicted for another data directory")
	}
}

// releaseCapacityLocked takes a child that has ended out of all counts.
func (s *Supervisor) releaseCapacityLocked(c *child) {
	if c.counted && c.leaving() {
		s.draining--
	}
	if c.counted {
		s.live--
	}
	c.counted = false
	if !c.leaving() {
		s.unused.Remove(c.dir)
		c.cancel()
	}
	c.stopIdleTimer()
	close(s.childEnded)
	s.childEnded = make(chan struct{})
}
