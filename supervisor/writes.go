package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
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
	onFrozen func() // for tests; called while the process stands still
}

// process sends TERM and, if that was not enough, KILL. signaled is false if
// the process had ended by itself. Errors: ErrStillWriting, and ctx's as long
// as nothing was sent.
func (e ender) process(ctx context.Context, p process) (signaled bool, err error) {
	signaled, err = e.betweenWrites(ctx, p, p.signalThreads, unix.SIGTERM)
	if err != nil || !signaled || p.waitGone(e.patience) {
		return signaled, err
	}
	e.log.Warn("child ignores TERM", keyPID, p.pid)
	_, err = e.betweenWrites(ctx, p, p.signal, unix.SIGKILL)
	for err == nil && !p.waitGone(time.Minute) {
		e.log.Error("child survives KILL", keyPID, p.pid)
	}
	return true, err
}

// betweenWrites sends a signal at a moment at which no phext is being written.
func (e ender) betweenWrites(ctx context.Context, p process, send func(unix.Signal) error, sig unix.Signal) (bool, error) {
	begun, complained := time.Now(), false
	for pause := shortestPause; ctx.Err() == nil; pause = min(2*pause, longestPause) {
		if p.gone() {
			return false, nil
		}
		if sent, err := e.attempt(p, send, sig); sent || err != nil {
			return sent, err
		}
		waited := time.Since(begun)
		if waited > e.limit {
			return false, fmt.Errorf("process %d: %w after %s", p.pid, ErrStillWriting, waited)
		}
		if waited > complainAfter && !complained {
			complained = true
			e.log.Warn("waiting for the end of a write", keyPID, p.pid, keyWait, waited)
		}
		p.waitGone(pause)
	}
	return false, ctx.Err()
}

// attempt freezes the process and sends the signal unless a write is under
// way. Whatever happens, the process is let go again.
func (e ender) attempt(p process, send func(unix.Signal) error, sig unix.Signal) (sent bool, err error) {
	if err := p.signal(unix.SIGSTOP); err != nil {
		return false, fmt.Errorf("freeze process %d: %w", p.pid, err)
	}
	defer func() {
		if thaw := p.signal(unix.SIGCONT); err == nil && thaw != nil {
			err = fmt.Errorf("thaw process %d: %w", p.pid, thaw)
		}
	}()
	if !frozen(p) || writing(p.pid) {
		return false, nil
	}
	if e.onFrozen != nil {
		e.onFrozen()
	}
	if err := send(sig); err != nil {
		return false, fmt.Errorf("send %v to process %d: %w", sig, p.pid, err)
	}
	return true, nil
}

// frozen waits until every thread stands still. SIGSTOP lets a thread finish
// the system call it is in, a large write included.
func frozen(p process) bool {
	deadline := time.Now().Add(freezeLimit)
	for pause := 50 * time.Microsecond; time.Now().Before(deadline); pause = min(2*pause, 5*time.Millisecond) {
		if allStopped(p.pid) {
			return true
		}
		if p.gone() {
			return false
		}
		time.Sleep(pause)
	}
	return false
}
