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

// SQ rewrites a phext in place: open with truncation, write, close. A signal
// in between leaves a torn file. So a process is ended like this: freeze it,
// look for a phext open for writing; if there is one let it go on for a
// moment and try again, if there is none it dies without having run another
// instruction of its own.

const (
	shortestPause = time.Millisecond
	longestPause  = 20 * time.Millisecond
	freezeLimit   = 2 * time.Second  // for all threads to stop; one may be in a slow write
	complainAfter = 60 * time.Second // of one write
)

// ender ends processes between their writes.
type ender struct {
	patience time.Duration // from TERM to KILL
	limit    time.Duration // longest wait for a write to end
	log      *slog.Logger
}

// process sends TERM and, if that was not enough, KILL. signaled is false if
// the process had ended by itself. Errors: ErrStillWriting, and ctx's as long
// as nothing was sent.
func (e ender) process(ctx context.Context, p procfs.Process) (signaled bool, err error) {
	signaled, err = e.betweenWrites(ctx, p, p.SignalThreads, unix.SIGTERM)
	if err != nil || !signaled || p.WaitGone(e.patience) {
		return signaled, err
	}
	e.log.Warn("child ignores TERM", keyPID, p.PID)
	_, err = e.betweenWrites(ctx, p, p.Signal, unix.SIGKILL)
	for err == nil && !p.WaitGone(time.Minute) {
		e.log.Error("child survives KILL", keyPID, p.PID)
	}
	return true, err
}

// betweenWrites sends a signal at a moment at which no phext is being written.
func (e ender) betweenWrites(ctx context.Context, p procfs.Process, send func(unix.Signal) error, sig unix.Signal) (bool, error) {
	begun, complained := time.Now(), false
	for pause := shortestPause; ctx.Err() == nil; pause = min(2*pause, longestPause) {
		if p.Gone() {
			return false, nil
		}
		if sent, err := e.attempt(p, send, sig); sent || err != nil {
			return sent, err
		}
		waited := time.Since(begun)
		if waited > e.limit {
			return false, fmt.Errorf("process %d: %w after %s", p.PID, ErrStillWriting, waited)
		}
		if waited > complainAfter && !complained {
			complained = true
			e.log.Warn("waiting for the end of a write", keyPID, p.PID, keyWait, waited)
		}
		p.WaitGone(pause)
	}
	return false, ctx.Err()
}

// attempt freezes the process and sends the signal unless a write is under
// way. Whatever happens, the process is let go again.
func (e ender) attempt(p procfs.Process, send func(unix.Signal) error, sig unix.Signal) (sent bool, err error) {
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

// frozen waits until every thread stands still. SIGSTOP lets a thread finish
// the system call it is in, a large write included.
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
