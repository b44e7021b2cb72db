package supervisor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

const (
	portTries = 5
	// outputDelay is how long a pipe may stay open after its process ended,
	// as a process started by the child would keep it.
	outputDelay = 2 * time.Second
)

// launch takes the directory's lock, spawns and proves. Our copy of the lock
// is closed at the end: from then on it lives exactly as long as the child.
func (s *Supervisor) launch(c *child) error {
	lock, err := s.lockDir(c.ctx, c.dir)
	if err != nil {
		return startError(c, err)
	}
	// The child has a copy; ours has nothing to lose.
	defer func() { _ = lock.Close() }()
	for range portTries {
		err = s.attempt(c, lock)
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	return startError(c, err)
}

func startError(c *child, err error) error {
	if err == nil || errors.Is(err, context.Canceled) && c.ctx.Err() != nil {
		return err
	}
	if errors.Is(err, context.Canceled) {
		// Nobody dismissed the child: its own end canceled the probe. That is
		// a failure, and must not pass for a start that was called off.
		err = errors.New(err.Error())
	}
	failed := &StartError{Dir: c.dir, Err: err}
	var held *heldError
	if errors.As(err, &held) {
		failed.Holder = held.holder
	}
	if c.out != nil {
		failed.Lines = c.out.tail.last(tailLines)
	}
	return failed
}

// attempt spawns on one port. With an error the process is gone again.
func (s *Supervisor) attempt(c *child, lock *os.File) error {
	port, err := s.ports.take()
	if err != nil {
		return err
	}
	if err = s.spawn(c, port, lock); err == nil {
		err = s.awaitProof(c)
	}
	if err == nil {
		return nil
	}
	taken := s.clean(c)
	s.despawned(c, port)
	if taken {
		return errPortTaken
	}
	return err
}

// clean ends what an attempt has left and reports whether it failed for the port.
func (s *Supervisor) clean(c *child) (portTaken bool) {
	if c.exited == nil {
		return false
	}
	s.stop(c)
	select {
	case <-c.exited:
		return c.out.portTaken
	default:
		return false
	}
}

// newKey returns 128 random bits in hex.
func newKey() string {
	key := make([]byte, 16)
	rand.Read(key) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(key)
}

func (s *Supervisor) spawn(c *child, port int, lock *os.File) error {
	c.key = newKey()
	c.out = newOutput(c.key, &c.place.output, s.logs.sink(c.dir))
	pidfd := -1
	c.cmd = s.command(c, port, lock, &pidfd)
	if err := s.sandbox.Start(c.cmd.Path, lock, port, c.cmd.Start); err != nil {
		return err
	}
	s.spawned(c, port, procfs.FromPidfd(c.cmd.Process.Pid, pidfd))
	c.exited = make(chan struct{})
	life, end := context.WithCancel(c.ctx)
	c.life = life
	go await(c.cmd, c.out, c.exited, end)
	return nil
}

// await reaps the process; whoever started it waits for exited.
func await(cmd *exec.Cmd, out *output, exited chan<- struct{}, end context.CancelFunc) {
	// The status is read from ProcessState; an error here is nothing else.
	_ = cmd.Wait()
	out.flush()
	close(exited)
	end()
}

// command has a session of its own: the terminal's signals do not reach the
// child, and the kernel does not hang up on it, should it be frozen at the
// moment at which this process dies.
func (s *Supervisor) command(c *child, port int, lock *os.File, pidfd *int) *exec.Cmd {
	argv := append([]string{}, s.config.Command...)
	argv = append(argv, "host", strconv.Itoa(port), "--key", c.key, "--data-dir", c.dir)
	return &exec.Cmd{
		Path: argv[0], Args: argv, Dir: s.config.WorkDir,
		Env:    []string{envDataDir + "=" + c.dir, envParent + "=" + s.marker},
		Stdout: c.out, Stderr: c.out,
		ExtraFiles:  []*os.File{lock},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, PidFD: pidfd},
		WaitDelay:   outputDelay,
	}
}

func (s *Supervisor) spawned(c *child, port int, p procfs.Process) {
	reason := s.noteSpawn(c, port, p)
	if s.config.OnStart != nil {
		s.config.OnStart(c.dir, reason)
	}
}

func (s *Supervisor) noteSpawn(c *child, port int, p procfs.Process) (reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reason = c.place.reason()
	c.port, c.proc, c.spawned = port, p, true
	c.startedAt = s.config.now()
	c.place.starts++
	s.log.Info("child is starting", keyDir, c.dir, keyPID, p.PID, keyPort, port)
	return reason
}

func (s *Supervisor) despawned(c *child, port int) {
	s.ports.release(port)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.proc.Close()
	c.port, c.proc, c.exited = 0, procfs.Process{}, nil
}
