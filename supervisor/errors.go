package supervisor

import (
	"errors"
	"fmt"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
)

// ErrClosed is returned by Lease once Close has been called.
var ErrClosed error = apierror.RetryIn(time.Second, apierror.Unavailable,
	"the service is stopping: try again in a moment")

// ErrHeld is what a StartError wraps when another process serves the
// directory. It is no failure of SQ: the next Lease looks again at once.
var ErrHeld = errors.New("data directory is in use")

// ErrStillWriting is returned by Close when a child was in the middle of one
// write for so long (Config.WriteLimit) that it was left to itself. Its lock
// on the directory stands, so whoever comes next stops it between writes.
var ErrStillWriting = errors.New("still writing")

// errPortTaken: somebody bound the port between our look and SQ's bind.
var errPortTaken = errors.New("port was taken by another process")

// errNotProven: what answers on the port is not the child that was started.
var errNotProven = errors.New("not proven to be the child")

// StartError says why no child came up for a directory.
type StartError struct {
	Dir    string
	Err    error    // the cause; errors.Is(err, ErrHeld) if another process serves Dir
	Holder int      // pid of the process that serves Dir, 0 if unknown or not the cause
	Lines  []string // last output of the child, oldest first; may be empty
}

func (e *StartError) Error() string {
	text := fmt.Sprintf("start SQ for %s: %v", e.Dir, e.Err)
	if n := len(e.Lines); n > 0 {
		text += ": " + e.Lines[n-1]
	}
	return text
}

func (e *StartError) Unwrap() error { return e.Err }

// APIError tells a caller nothing of the cause, which may name paths.
func (e *StartError) APIError() *apierror.Error {
	return apierror.RetryIn(time.Second, apierror.Unavailable,
		"this tenant's database could not be started: the operator's log says why; try again")
}

// CrashLoopError says that the child of a directory failed so often in quick
// succession that it is not started again for a while.
type CrashLoopError struct {
	Dir        string
	RetryAfter time.Duration // until the next start is tried
	Last       string        // how it failed last
}

func (e *CrashLoopError) Error() string {
	return fmt.Sprintf("SQ for %s keeps failing, next try in %s: %s",
		e.Dir, e.RetryAfter.Round(time.Millisecond), e.Last)
}

// APIError tells a caller when the next start is tried.
func (e *CrashLoopError) APIError() *apierror.Error {
	return apierror.RetryIn(e.RetryAfter, apierror.Unavailable,
		"this tenant's database keeps failing and is given a pause: try again later")
}
