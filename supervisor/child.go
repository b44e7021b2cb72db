package supervisor

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// State is that of a child, or of a data directory that waits for its next start.
type State string

// The states of a child, in order. The last two are those of a directory whose
// child failed: it waits for a moment, or is given up for a while.
const (
	StateStarting     State = "starting"
	StateReady        State = "ready"
	StateDraining     State = "draining"
	StateStopping     State = "stopping"
	StateBackoff      State = "backoff"
	StateCrashLooping State = "crash-looping"
)

// child is one start of SQ. Its run goroutine owns it from the reservation of
// the slot to the end of the process.
type child struct {
	slot       *slot
	dir        string
	generation uint64
	ctx        context.Context // ends when the child is asked to go
	cancel     context.CancelFunc
	started    chan struct{} // closed when the child is ready, or will never be
	drained    chan struct{} // closed when it was asked to go and has no lease left
	ended      chan struct{} // closed when the process is gone and the slot is free

	// Written before started is closed, constant after that.
	port     int
	key      string
	version  string
	place    fs.FileInfo // of the directory that it was started on
	wasReady bool
	startErr error

	// The run goroutine's; proc is also read under mu.
	cmd      *exec.Cmd
	out      *output
	exited   chan struct{}   // closed when the process has been waited for
	life     context.Context // ends with the process, or with ctx
	proc     procfs.Process
	signaled bool // we ended the process, so its end is no crash

	// Guarded by Supervisor.mu.
	state     State
	spawned   bool
	counted   bool // it counts among MaxChildren
	suspect   bool // a caller retired it
	waiting   int  // Lease calls that wait for the start
	inFlight  int  // leases
	served    int  // leases that have ended
	startedAt time.Time
	lastUsed  time.Time
	idleTimer *time.Timer
}

// newChildLocked reserves the slot for a new child and starts its goroutine.
func (s *Supervisor) newChildLocked(p *slot) {
	s.generation++
	ctx, cancel := context.WithCancel(context.Background())
	p.child = &child{
		slot: p, dir: p.dir, generation: s.generation,
		ctx: ctx, cancel: cancel, state: StateStarting,
		started: make(chan struct{}), drained: make(chan struct{}), ended: make(chan struct{}),
	}
	s.running.Add(1)
	go s.run(p.child)
}

func (c *child) starting() bool { return c.state == StateStarting || c.state == StateBackoff }

// displaced reports whether another directory is at the path of the child's own now, or
// none, as when its disk was unmounted. The child would go on to use its own.
func (c *child) displaced() bool {
	now, err := os.Stat(c.dir)
	return err != nil || !os.SameFile(now, c.place)
}

// leaving reports whether the child has been asked to go.
func (c *child) leaving() bool { return c.ctx.Err() != nil }

func (s *Supervisor) claimLocked(c *child) {
	c.inFlight++
	s.unused.Remove(c.dir)
	c.stopIdleTimer()
}

func (s *Supervisor) releaseLocked(c *child) {
	c.inFlight--
	c.served++
	c.lastUsed = s.config.now()
	s.checkUnusedLocked(c)
}

// checkUnusedLocked acts if the child has no lease: one that was asked to go is
// drained, for any other the idle time begins.
func (s *Supervisor) checkUnusedLocked(c *child) {
	if c.inFlight > 0 {
		return
	}
	if c.leaving() {
		close(c.drained)
		return
	}
	s.unused.Add(c.dir, c)
	s.evictLocked()
	if s.config.IdleTimeout > 0 && !c.leaving() {
		served := c.served
		c.idleTimer = time.AfterFunc(s.config.IdleTimeout, func() { s.idleExpired(c, served) })
	}
}

// idleExpired stops an idle child. A lease that came just before the timer was
// stopped shows in the number of leases served.
func (s *Supervisor) idleExpired(c *child, served int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.inFlight == 0 && c.served == served {
		s.drainLocked(c, "idle")
	}
}

func (c *child) stopIdleTimer() {
	if c.idleTimer != nil {
		c.idleTimer.Stop()
	}
}

// drainLocked asks a child to go: it gets no new leases, and those in flight finish.
func (s *Supervisor) drainLocked(c *child, reason string) {
	if c.leaving() {
		return
	}
	s.log.Info("child is to stop", keyDir, c.dir, keyReason, reason)
	c.cancel()
	s.unused.Remove(c.dir)
	c.stopIdleTimer()
	if c.counted {
		s.draining++
	}
	if c.state != StateReady {
		return
	}
	c.state = StateDraining
	if c.inFlight == 0 {
		close(c.drained)
	}
}
