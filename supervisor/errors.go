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

// ErrHeld is what a StartError wraps if another process serves the directory. It
// is no failure of SQ: the next Lease tries again at once.
var ErrHeld = errors.New("data directory is in use")

// ErrStillWriting is returned by Close if a child was in one write for longer
// than Config.WriteLimit and was left alive. It keeps its lock on the directory,
// so whoever comes next stops it between two writes.
var ErrStillWriting = errors.New("still writing")

// errPortTaken: another process bound the port after we looked and before SQ did.
var errPortTaken = errors.New("port was taken by another process")

// errNotTheChild: what answers on the port is not the child that was started.
var errNotTheChild = errors.New("another process answers")

// StartError says why no child is ready for a directory. Its text may contain
// paths and output of SQ.
type StartError struct {
	Dir    string
	Err    error    // the cause; ErrHeld if another process serves Dir
	Holder int      // pid of that process, 0 if unknown or not the cause
	Lines  []string // last output of the child, oldest line first; may be empty
}

func (e *StartError) Error() string {
	text := fmt.Sprintf("start SQ for %s: %v", e.Dir, e.Err)
	if n := len(e.Lines); n > 0 {
		text += ": " + e.Lines[n-1]
	}
	return text
}

func (e *StartError) Unwrap() error { return e.Err }

// APIError tells a caller of the failure, and nothing of its cause.
func (e *StartError) APIError() *apierror.Error {
	return apierror.RetryIn(time.Second, apierror.Unavailable,
		"this tenant's database could not be started: the operator's log says why; try again")
}

// CrashLoopError says that the child of a directory failed so often in quick
// succession that none is started for a while.
type CrashLoopError struct {
	Dir        string
	RetryAfter time.Duration // until the next start may be tried
	Last       string        // the last failure
}

func (e *CrashLoopError) Error() string {
	return fmt.Sprintf("SQ for %s keeps failing, next try in %s: %s",
		e.Dir, e.RetryAfter.Round(time.Millisecond), e.Last)
}

// APIError tells a caller when to try again.
func (e *CrashLoopError) APIError() *apierror.Error {
	return apierror.RetryIn(e.RetryAfter, apierror.Unavailable,
		"this tenant's database keeps failing and is given a pause: try again later")
}
