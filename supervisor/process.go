package supervisor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// process is one process, held by a descriptor, so that no signal can reach
// another one that got the same pid later. The zero value is no process.
type process struct {
	pid, fd int
}

func openProcess(pid int) (process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return process{}, err
	}
	return process{pid: pid, fd: fd}, nil
}

func (p process) close() {
	if p.pid != 0 {
		// Closing a pidfd has nothing to lose.
		_ = unix.Close(p.fd)
	}
}

func (p process) gone() bool { return p.waitGone(0) }

// pollSlice bounds one poll, which occupies an operating system thread.
const pollSlice = 200 * time.Millisecond

// waitGone waits for the end of the process, for at most d.
func (p process) waitGone(d time.Duration) bool {
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

// signal sends to the whole process; one that has ended already is no error.
func (p process) signal(sig unix.Signal) error {
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// signalThreads sends to each thread. To a stopped process this is more than
// signal: every thread meets its own copy before its next instruction, so that
// none can begin a write while another one is still taking the process down.
func (p process) signalThreads(sig unix.Signal) error {
	threads, err := threadsOf(p.pid)
	if err != nil {
		return p.signal(sig)
	}
	var all error
	for _, tid := range threads {
		err := unix.Tgkill(p.pid, tid, sig)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			all = errors.Join(all, err)
		}
	}
	return all
}
