package supervisor

import (
	"context"
	"os/exec"
	"time"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// State of a child, or of a data directory that waits for its next start.
type State string

// States, in the order a child walks through them. The last two are those of
// a directory whose child failed: waiting a little, or given up for a while.
const (
	StateStarting     State = "starting"
	StateReady        State = "ready"
	StateDraining     State = "draining"
	StateStopping     State = "stopping"
	StateBackoff      State = "backoff"
	StateCrashLooping State = "crash-looping"
)

// child is one start of SQ. Its run goroutine owns it from reservation to
// exit; fields below mu belong to Supervisor.mu.
type child struct {
	place      *place
	dir        string
	generation uint64
	ctx        context.Context // ends when the child is asked to leave
	leave      context.CancelFunc
	started    chan struct{} // closed when ready, or failed, or left before that
	drained    chan struct{} // closed when it is leaving and no lease is left
	gone       chan struct{} // closed when Wait has returned and the place is free

	// Written before started is closed, constant after it.
	port     int
	key      string
	version  string
	granted  bool
	startErr error

	// The running process; the run goroutine's, proc also under mu.
	cmd      *exec.Cmd
	out      *output
	exited   chan struct{}   // closed when Wait has returned
	life     context.Context // ends after that, or with ctx
	proc     procfs.Process
	signaled bool // the end was asked for, so it is no crash

	// mu
	state     State
	spawned   bool
	counted   bool // has room among MaxChildren
	suspect   bool
	waiters   int // Lease calls that wait for the start
	inFlight  int
	served    int
	startedAt time.Time
	lastUsed  time.Time
	idleTimer *time.Timer
}

func (c *child) starting() bool { return c.state == StateStarting || c.state == StateBackoff }

// left reports whether the child has been asked to leave.
func (c *child) left() bool { return c.ctx.Err() != nil }

// beginLocked reserves the place and lets a new child's goroutine run.
func (s *Supervisor) beginLocked(p *place) {
	s.generation++
	ctx, cancel := context.WithCancel(context.Background())
	p.child = &child{
		place: p, dir: p.dir, generation: s.generation,
		ctx: ctx, leave: cancel, state: StateStarting,
		started: make(chan struct{}), drained: make(chan struct{}), gone: make(chan struct{}),
	}
	s.running.Add(1)
	go s.run(p.child)
}

func (s *Supervisor) claimLocked(c *child) {
	c.inFlight++
	s.idle.Remove(c.dir)
	if c.idleTimer != nil {
		c.idleTimer.Stop()
	}
}

func (s *Supervisor) releaseLocked(c *child) {
	c.inFlight--
	c.served++
	c.lastUsed = s.config.now()
	s.restLocked(c)
}

// restLocked is what happens when the last lease has ended: a leaving child
// is drained, any other starts its idle clock.
func (s *Supervisor) restLocked(c *child) {
	if c.inFlight > 0 {
		return
	}
	if c.left() {
		close(c.drained)
		return
	}
	s.idle.Add(c.dir, c)
	s.evictLocked()
	if s.config.IdleTimeout > 0 && !c.left() {
		used := c.served
		c.idleTimer = time.AfterFunc(s.config.IdleTimeout, func() { s.idled(c, used) })
	}
}

// idled runs when an idle clock has run out. A lease may have come between;
// it is known by the count of leases served.
func (s *Supervisor) idled(c *child, served int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.inFlight == 0 && c.served == served {
		s.leaveLocked(c, "idle")
	}
}

// leaveLocked asks a child to go: no new leases, the ones in flight finish.
func (s *Supervisor) leaveLocked(c *child, reason string) {
	if c.left() {
		return
	}
	s.log.Info("child is to stop", keyDir, c.dir, keyReason, reason)
	c.leave()
	s.idle.Remove(c.dir)
	if c.idleTimer != nil {
		c.idleTimer.Stop()
	}
	if c.counted {
		s.leaving++
	}
	if c.state != StateReady {
		return
	}
	c.state = StateDraining
	if c.inFlight == 0 {
		close(c.drained)
	}
}
