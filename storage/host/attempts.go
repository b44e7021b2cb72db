package host

import (
	"context"
	"maps"
	"slices"
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

// attempts are those to take directories over that have failed, or are under way, by path.
type attempts struct {
	mu      sync.Mutex
	failed  map[string]attempt
	running map[string]context.CancelFunc
	passed  map[string]time.Duration // when they were given to another host last, instead
}

// mayPass says whether a directory may be given to another host, and notes that it is. If nobody
// can serve it, it does not go round and round.
func (a *attempts) mayPass(path string, now time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last, ok := a.passed[path]; ok && now-last < pauseAtMost {
		return false
	}
	if a.passed == nil {
		a.passed = map[string]time.Duration{}
	}
	a.passed[path] = now
	return true
}

type attempt struct {
	pause, until time.Duration // the next one is made then
	log          *replica.Log  // as takeOver.log
}

// begin notes an attempt, which interrupt ends.
func (a *attempts) begin(path string, end context.CancelFunc) (ended func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running == nil {
		a.running = map[string]context.CancelFunc{}
	}
	a.running[path] = end
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.running, path)
	}
}

func (a *attempts) interrupt(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if end := a.running[path]; end != nil {
		end()
	}
}

// paths are those of directories that are not taken over, although that was tried.
func (a *attempts) paths() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string]bool{}
	for path := range a.failed {
		all[path] = true
	}
	for path := range a.running {
		all[path] = true
	}
	return slices.Collect(maps.Keys(all))
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
