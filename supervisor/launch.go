package supervisor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

const (
	portTries = 5
	// outputDelay is how long the pipe may stay open after its process has
	// ended, if a process that the child started still has it.
	outputDelay = 2 * time.Second
)

// launch locks the directory, spawns SQ and waits until it is ready. Our copy of
// the lock is closed at the end: from then on it lives exactly as long as the
// child, which has inherited it. If it fails, no process is left.
func (s *Supervisor) launch(c *child) error {
	lock, err := s.lockDir(c.ctx, c.dir)
	if err != nil {
		return startError(c, err)
	}
	// The child has a copy; ours has nothing to lose.
	defer func() { _ = lock.Close() }()
	if c.place, err = lock.Stat(); err != nil {
		return startError(c, err)
	}
	// Somebody may have removed the state directory meanwhile.
	if err := makeDir(filepath.Join(s.config.WorkDir, sqFolder)); err != nil {
		return startError(c, err)
	}
	for range portTries {
		err = s.launchOnPort(c, lock)
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
		// The child was not asked to go: its own end has canceled the probe.
		// That is a failure and must not look like a start that was called off.
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

// launchOnPort makes one try. If it fails, no process is left.
func (s *Supervisor) launchOnPort(c *child, lock *os.File) error {
	port, err := s.ports.reserve()
	if err != nil {
		return err
	}
	if err = s.spawn(c, port, lock); err == nil {
		err = s.awaitReady(c)
	}
	if err == nil {
		return nil
	}
	portTaken := s.cleanUp(c)
	s.forgetProcess(c, port)
	if portTaken {
		return errPortTaken
	}
	return err
}

// cleanUp ends the process of a failed try and reports whether it could not have
// its port.
func (s *Supervisor) cleanUp(c *child) (portTaken bool) {
	if c.exited == nil {
		return false
	}
	s.stop(c)
	select {
	case <-c.exited:
		return c.out.portTaken
	default:
		return false // Close has left it alive
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
	c.out = newOutput(c.key, &c.slot.output, s.logs.writer(c.dir))
	pidfd := -1
	c.cmd = s.command(c, port, lock, &pidfd)
	if err := s.sandbox.Start(c.cmd.Path, lock, port, c.cmd.Start); err != nil {
		return err
	}
	reason := s.recordSpawn(c, port, procfs.FromPidfd(c.cmd.Process.Pid, pidfd))
	if s.config.OnStart != nil {
		s.config.OnStart(c.dir, reason)
	}
	c.exited = make(chan struct{})
	life, end := context.WithCancel(c.ctx)
	c.life = life
	go reap(c.cmd, c.out, c.exited, end)
	return nil
}

// reap waits for the process. Whoever spawned it waits for exited.
func reap(cmd *exec.Cmd, out *output, exited chan<- struct{}, end context.CancelFunc) {
	// The error says only what ProcessState has too.
	_ = cmd.Wait()
	out.flush()
	close(exited)
	end()
}

// inheritedDir is the data directory of a child for itself: the one that it inherits as the
// first of ExtraFiles, whatever is at its path later, such as the mount point below it.
const inheritedDir = "/proc/self/fd/3"

// command gives the child a session of its own. So the signals of a terminal do
// not reach it, and the kernel does not send it HUP if it is frozen at the moment
// at which this process dies.
func (s *Supervisor) command(c *child, port int, lock *os.File, pidfd *int) *exec.Cmd {
	argv := append([]string{}, s.config.Command...)
	argv = append(argv, "host", strconv.Itoa(port), "--key", c.key, "--data-dir", inheritedDir)
	return &exec.Cmd{
		Path: argv[0], Args: argv, Dir: s.config.WorkDir,
		Env:    []string{envDataDir + "=" + c.dir, envParent + "=" + s.marker},
		Stdout: c.out, Stderr: c.out,
		ExtraFiles:  []*os.File{lock},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, PidFD: pidfd},
		WaitDelay:   outputDelay,
	}
}

func (s *Supervisor) recordSpawn(c *child, port int, p procfs.Process) (reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reason = c.slot.startReason()
	c.port, c.proc, c.spawned = port, p, true
	c.startedAt = s.config.now()
	c.slot.starts++
	s.log.Info("child is starting", keyDir, c.dir, keyPID, p.PID, keyPort, port)
	return reason
}

func (s *Supervisor) forgetProcess(c *child, port int) {
	s.ports.release(port)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.proc.Close()
	c.port, c.proc, c.exited = 0, procfs.Process{}, nil
}

var errNoPort = errors.New("no free port in the range of children")

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ports gives each child a port of its own.
type ports struct {
	low, high int
	workDir   string

	mu    sync.Mutex
	inUse map[int]bool
}

// reserve returns a free port. It looks from a random one on, so that two
// gateways seldom choose the same.
func (p *ports) reserve() (int, error) {
	size := p.high - p.low + 1
	first := mathrand.IntN(size)
	for i := range size {
		port := p.low + (first+i)%size
		if p.tryReserve(port) {
			return port, nil
		}
	}
	return 0, errNoPort
}

func (p *ports) tryReserve(port int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inUse[port] || !p.available(port) {
		return false
	}
	p.inUse[port] = true
	return true
}

// available tries the port on all addresses, as SQ will. SQ does not serve on a
// port whose number is the name of a file in its working directory: it takes the
// number for a phext.
func (p *ports) available(port int) bool {
	if _, err := os.Lstat(filepath.Join(p.workDir, strconv.Itoa(port))); err == nil {
		return false
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func (p *ports) release(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inUse, port)
}
