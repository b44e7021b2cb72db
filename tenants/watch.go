package tenants

import (
	"context"
	"time"
)

// Run looks at the file whenever its directory changes, and now and then
// besides, until ctx ends; the error is that of ctx. One goroutine, this one,
// owns the watcher, the waiting-out of bursts and the polling.
//
// A poll reads the file and compares its bytes: size and time of change may
// stay the same across a change, and the file is small.
func (s *Store) Run(ctx context.Context) error {
	w := s.newWatcher()
	defer w.close()
	poll := time.NewTicker(s.options.Poll)
	defer poll.Stop()
	b := newBurst(s.options.Debounce)
	defer b.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-w.events():
			w.stillOpen(ok)
			b.event(time.Now())
		case err, ok := <-w.errors():
			w.stillOpen(ok)
			w.complain(err)
			b.event(time.Now()) // events may have been lost
		case <-b.timer.C:
			b.over()
			s.lookIfWanted(w)
		case <-poll.C:
			s.lookIfWanted(w)
		}
	}
}

// lookIfWanted follows first: what changes behind a new watch is an event, and
// what changed before it is seen by the look.
func (s *Store) lookIfWanted(w *watcher) {
	if !s.Current().ReloadOnChange() {
		return
	}
	w.follow(s.options.Path)
	s.look()
}

// longestBurst is how many times the debounce a burst may last: a directory in
// which others write all the time must not hold a change up.
const longestBurst = 8

// burst waits out events that come close together: a file is often written in
// several steps.
type burst struct {
	timer *time.Timer
	quiet time.Duration
	began time.Time // zero between bursts
}

// newBurst begins with one, for what changed before the watch began.
func newBurst(quiet time.Duration) *burst {
	return &burst{timer: time.NewTimer(0), quiet: quiet}
}

func (b *burst) event(now time.Time) {
	if b.began.IsZero() {
		b.began = now
	}
	left := b.began.Add(longestBurst * b.quiet).Sub(now)
	if left > 0 { // else the timer is about to fire
		b.timer.Reset(min(b.quiet, left))
	}
}

func (b *burst) over() { b.began = time.Time{} }
