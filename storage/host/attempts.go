package host

import (
	"context"
	"sync"
	"time"

	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/replica"
)

// A directory may fail to be taken over for long: an object of its log is damaged, say, or the
// disk here is full. Requests come all the same, and each of them would read the log, and open
// an epoch, whose record stays in the bucket for good. So after a failure there is a pause, and
// the next attempt goes on in the epoch that was opened.

// The pauses between attempts.
const (
	pauseAtFirst = time.Second
	pauseAtMost  = 15 * time.Second
)

// attempts are those to take directories over that have failed, by path.
type attempts struct {
	mu     sync.Mutex
	failed map[string]attempt
}

type attempt struct {
	pause, until time.Duration // the next one is made then
	log          *replica.Log  // as takeOver.log
}

// fail notes a failure. After some there is no pause.
func (a *attempts) fail(path string, log *replica.Log, now time.Duration, pauses bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed == nil {
		a.failed = map[string]attempt{}
	}
	next := attempt{log: log}
	if pauses {
		next.pause = min(max(2*a.failed[path].pause, pauseAtFirst), pauseAtMost)
		next.until = now + next.pause
	}
	a.failed[path] = next
}

func (a *attempts) of(path string) attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed[path]
}

func (a *attempts) forget(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.failed, path)
}

// open opens a new epoch, or goes on in the one that an attempt before has opened, if nobody
// has had the directory since.
func (t *takeOver) open(ctx context.Context, owner object.Owner, etag string) (*replica.Log, error) {
	if t.log != nil {
		if log := t.dir.Reopen(t.log, owner, etag); log != nil {
			return log, nil
		}
	}
	return t.dir.TakeOver(ctx, owner, etag)
}
