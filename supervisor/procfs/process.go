package procfs

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one process, held by a pidfd, so that no signal can reach another
// one that gets the same pid later. The zero value is no process.
type Process struct {
	PID int
	fd  int
}

// Open holds the process that has the pid now.
func Open(pid int) (Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, fd: fd}, nil
}

// FromPidfd takes over a pidfd of the process.
func FromPidfd(pid, pidfd int) Process { return Process{PID: pid, fd: pidfd} }

// Close lets go of the process, which lives on.
func (p Process) Close() {
	if p.PID != 0 {
		// Closing a pidfd has nothing to lose.
		_ = unix.Close(p.fd)
	}
}

// Gone reports whether the process has ended.
func (p Process) Gone() bool { return p.WaitGone(0) }

// pollSlice bounds one poll, which occupies an operating system thread.
const pollSlice = 200 * time.Millisecond

// WaitGone waits for the end of the process, for at most d, and reports
// whether it has ended.
func (p Process) WaitGone(d time.Duration) bool {
	for deadline := time.Now().Add(d); ; {
		left := max(0, min(time.Until(deadline), pollSlice))
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
		if err == nil && n > 0 {
			return true
		}
		if !time.Now().Before(deadline) {
			return false
		}
	}
}

// Signal sends to the whole process. A process that has ended is no error.
func (p Process) Signal(sig unix.Signal) error {
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// SignalThreads sends to each thread. To a stopped process this is more than
// Signal: every thread meets its own copy before its next instruction, so that
// none can begin a write while another one still takes the process down.
func (p Process) SignalThreads(sig unix.Signal) error {
	threads, err := Threads(p.PID)
	if err != nil {
		return p.Signal(sig)
	}
	var all error
	for _, tid := range threads {
		err := unix.Tgkill(p.PID, tid, sig)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			all = errors.Join(all, err)
		}
	}
	return all
}
