package supervisor

import (
	"math/rand/v2"
	"time"
)

const (
	firstDelay      = 100 * time.Millisecond
	longestDelay    = 30 * time.Second
	loopFailures    = 5                // failures in quick succession that make a crash loop
	forgetAfter     = 5 * time.Minute  // failures further apart do not add up
	provenUptime    = 60 * time.Second // a child that was up this long,
	provenServed    = 20               // or served this many leases, was not part of a crash loop
	toleratedDoubts = 2                // retired children in a row before they count as failures
)

// history is what the failures of a directory's children say about the next
// start. It belongs to Supervisor.mu.
type history struct {
	failures int
	doubts   int
	latest   time.Time
	until    time.Time // no start before
	last     string
}

// failed counts a failure and sets the delay: 100 ms, doubled each time up to
// 30 s, less up to a half of it so that directories do not march in step.
func (h *history) failed(now time.Time, last string) {
	if now.Sub(h.latest) > forgetAfter {
		h.failures = 0
	}
	delay := min(firstDelay<<min(h.failures, 16), longestDelay)
	h.failures++
	h.latest, h.last = now, last
	h.until = now.Add(delay - rand.N(delay/2))
}

// suspected counts a child that was retired alive. That is no failure unless
// it keeps happening to children that did nothing else.
func (h *history) suspected(now time.Time, proven bool) {
	if proven {
		h.calm()
	}
	h.doubts++
	if h.doubts > toleratedDoubts {
		h.failed(now, "retired again and again")
	}
}

// reason says why the next child of a place is started.
func (p *place) reason() string {
	switch {
	case p.starts == 0:
		return StartedFirst
	case p.history.failures > 0 || p.history.doubts > 0:
		return StartedFailure
	}
	return StartedAgain
}

func (h *history) calm() { h.failures, h.doubts = 0, 0 }

func (h *history) looping() bool { return h.failures >= loopFailures }

// refusal is the error for a lease while the directory is given up. When the
// time is over, the next lease is the trial.
func (h *history) refusal(dir string, now time.Time) error {
	wait := h.until.Sub(now)
	if !h.looping() || wait <= 0 {
		return nil
	}
	return &CrashLoopError{Dir: dir, RetryAfter: wait, Last: h.last}
}

// proven reports whether a child did well enough that its end starts a new count.
func (c *child) proven(now time.Time) bool {
	return c.served >= provenServed || now.Sub(c.startedAt) >= provenUptime
}
