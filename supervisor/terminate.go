package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/supervisor/procfs"
)

// SQ rewrites a phext in place: it truncates the file, writes, closes. A signal
// in between leaves a torn file (LEGACY.md). So a process is ended like this: it
// is frozen, then its open files are looked at. If a phext is open for writing,
// the process goes on for a moment and is frozen again. If none is, the signal
// is sent, and ends the process before it runs another instruction.

const (
	shortestPause = time.Millisecond
	longestPause  = 20 * time.Millisecond
	freezeLimit   = 2 * time.Second  // for all threads to stop; one may be in a slow write
	warnAfter     = 60 * time.Second // of one write
)

// terminator ends processes between two writes.
type terminator struct {
	stopTimeout time.Duration // from TERM to KILL
	writeLimit  time.Duration // the longest wait for a write to end
	log         *slog.Logger
}

// terminate sends TERM and, if the process does not end in time, KILL. signaled
// is false if the process had ended by itself. Errors: ErrStillWriting, and
// ctx's as long as nothing was sent.
func (t terminator) terminate(ctx context.Context, p procfs.Process) (signaled bool, err error) {
	signaled, err = t.signalBetweenWrites(ctx, p, p.SignalThreads, unix.SIGTERM)
	if err != nil || !signaled || p.WaitGone(t.stopTimeout) {
		return signaled, err
	}
	t.log.Warn("child ignores TERM", keyPID, p.PID)
	_, err = t.signalBetweenWrites(ctx, p, p.Signal, unix.SIGKILL)
	for err == nil && !p.WaitGone(time.Minute) {
		t.log.Error("child survives KILL", keyPID, p.PID)
	}
	return true, err
}

// signalBetweenWrites tries until the signal could be sent, or is not needed.
func (t terminator) signalBetweenWrites(ctx context.Context, p procfs.Process, send func(unix.Signal) error, sig unix.Signal) (sent bool, err error) {
	begun, warned := time.Now(), false
	for pause := shortestPause; ctx.Err() == nil; pause = min(2*pause, longestPause) {
		if p.Gone() {
			return false, nil
		}
		if sent, err := t.trySignal(p, send, sig); sent || err != nil {
			return sent, err
		}
		waited := time.Since(begun)
		if waited > t.writeLimit {
			return false, fmt.Errorf("process %d: %w after %s", p.PID, ErrStillWriting, waited)
		}
		if waited > warnAfter && !warned {
			warned = true
			t.log.Warn("waiting for the end of a write", keyPID, p.PID, keyWait, waited)
		}
		p.WaitGone(pause)
	}
	return false, ctx.Err()
}

// trySignal freezes the process and sends the signal unless a phext is being
// written. In any case it lets the process go on.
func (t terminator) trySignal(p procfs.Process, send func(unix.Signal) error, sig unix.Signal) (sent bool, err error) {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return false, fmt.Errorf("freeze process %d: %w", p.PID, err)
	}
	defer func() {
		if thaw := p.Signal(unix.SIGCONT); err == nil && thaw != nil {
			err = fmt.Errorf("thaw process %d: %w", p.PID, thaw)
		}
	}()
	if !frozen(p) || procfs.WritesTo(p.PID, isPhext) {
		return false, nil
	}
	if err := send(sig); err != nil {
		return false, fmt.Errorf("send %v to process %d: %w", sig, p.PID, err)
	}
	return true, nil
}

// isPhext is also true for the export that SQ writes beside a phext.
func isPhext(path string) bool {
	return strings.HasSuffix(strings.TrimSuffix(path, ".json"), phext.Extension)
}

// frozen waits until no thread can run. SIGSTOP lets a thread finish the system
// call that it is in, which may be a large write.
func frozen(p procfs.Process) bool {
	deadline := time.Now().Add(freezeLimit)
	for pause := 50 * time.Microsecond; time.Now().Before(deadline); pause = min(2*pause, 5*time.Millisecond) {
		if procfs.Stopped(p.PID) {
			return true
		}
		if p.Gone() {
			return false
		}
		time.Sleep(pause)
	}
	return false
}
