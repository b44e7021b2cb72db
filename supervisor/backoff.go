package supervisor

import (
	"math/rand/v2"
	"time"
)

const (
	firstDelay       = 100 * time.Millisecond
	longestDelay     = 30 * time.Second
	loopFailures     = 5                // this many failures in quick succession are a crash loop
	forgetAfter      = 5 * time.Minute  // failures further apart do not add up
	stableUptime     = 60 * time.Second // a child that was up this long,
	stableLeases     = 20               // or served this many leases, is not part of a crash loop
	toleratedRetired = 2                // this many retired children in a row are no failure
)

// backoff decides from the failures of a directory's children when the next one
// may start. It is guarded by Supervisor.mu.
type backoff struct {
	failures    int
	retirements int // in a row
	lastFailure time.Time
	lastError   string
	notBefore   time.Time // no start before
}

// failed counts a failure and sets the delay: 100 ms, doubled each time up to
// 30 s, less a random part of up to a half, so that the starts of many
// directories spread.
func (b *backoff) failed(now time.Time, lastError string) {
	if now.Sub(b.lastFailure) > forgetAfter {
		b.failures = 0
	}
	delay := min(firstDelay<<min(b.failures, 16), longestDelay)
	b.failures++
	b.lastFailure, b.lastError = now, lastError
	b.notBefore = now.Add(delay - rand.N(delay/2))
}

// retired counts a child that a caller retired. That is no failure unless it
// happens again and again to children that did little else.
func (b *backoff) retired(now time.Time, stable bool) {
	if stable {
		b.reset()
	}
	b.retirements++
	if b.retirements > toleratedRetired {
		b.failed(now, "retired again and again")
	}
}

func (b *backoff) reset() { b.failures, b.retirements = 0, 0 }

func (b *backoff) crashLooping() bool { return b.failures >= loopFailures }

// check returns a CrashLoopError while the directory is given up. After that
// time, the next lease is a trial.
func (b *backoff) check(dir string, now time.Time) error {
	wait := b.notBefore.Sub(now)
	if !b.crashLooping() || wait <= 0 {
		return nil
	}
	return &CrashLoopError{Dir: dir, RetryAfter: wait, Last: b.lastError}
}

// stable reports whether a child did so well that earlier failures do not count.
func (c *child) stable(now time.Time) bool {
	return c.served >= stableLeases || now.Sub(c.startedAt) >= stableUptime
}

// startReason is why the next child of a slot is started.
func (p *slot) startReason() string {
	switch {
	case p.starts == 0:
		return StartedFirst
	case p.backoff.failures > 0 || p.backoff.retirements > 0:
		return StartedFailure
	}
	return StartedAgain
}

// awaitBackoff waits until the child may start, or is asked to go.
func (s *Supervisor) awaitBackoff(c *child) error {
	delay := s.backoffDelay(c)
	if delay <= 0 {
		return nil
	}
	s.log.Info("waiting before the next start", keyDir, c.dir, keyWait, delay)
	if err := sleep(c.ctx, delay); err != nil {
		return err
	}
	s.setState(c, StateStarting)
	return nil
}

func (s *Supervisor) backoffDelay(c *child) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	delay := c.slot.backoff.notBefore.Sub(s.config.now())
	if delay > 0 {
		c.state = StateBackoff
	}
	return delay
}
