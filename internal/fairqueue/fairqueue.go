// Package fairqueue shares the processors between owners, so that the work of one
// does not wait behind all the work of another. Whoever has something to compute
// or to send takes a turn first, and gives it back before it waits for anything:
// a client, a disk, a lock. There are only a few turns at a time. Where several
// owners wait, each has one turn after the other.
//
// A turn is not interrupted. What takes long says how far it has come, by Turn.Worked,
// and lets others go first after each Piece.
package fairqueue

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"
)

// Go's scheduler runs goroutines in the order in which they became ready, and
// looks at the network only when none is ready. With a queue that always has the
// next one ready, it would look every 10 ms, and a request that arrives would wait
// that long before it could take its turn. So the queue watches whether the
// scheduler has looked: now and then it writes to a pipe, whose reader wakes when
// the scheduler looks. If many turns begin meanwhile, no other does until then.
// With few connections the scheduler always looks in time.
const (
	lookEvery   = 250 * time.Microsecond // after which the pipe is written to
	turnsUnseen = 4                      // for each turn at a time: how many begin until the scheduler has looked
	longUnseen  = 2 * lookEvery          // after which no turn begins, however few there were
	idleAfter   = 50 * time.Microsecond  // after which without a turn the scheduler has looked
)

// Queue is where owners wait for their turns. Its methods may be called at any
// time. With a nil Queue, nobody waits.
type Queue struct {
	ring  func() // has resume called when the scheduler looks at the network
	pipe  *os.File
	done  chan struct{} // closed when listen has ended
	began time.Time
	turns int // at a time

	mu     sync.Mutex
	free   int              // turns that nobody has
	next   []*lane          // lanes in which somebody waits, in the order of their turns
	lanes  map[string]*lane // the same by owner
	begun  int              // turns since ring was called
	rang   bool             // the scheduler has not looked since ring
	paused bool             // no turn begins until it has
	looked time.Duration    // when the scheduler last looked, since began
	given  time.Duration    // when a turn was last given back, since began
	busy   time.Duration    // until when somebody may compute without a turn, since began
	closed bool             // ring does nothing any more
}

// lane is where the turns of one owner wait.
type lane struct {
	owner   string
	waiting []*Turn // first come, first served
}

// New makes a queue of so many turns at a time. Close ends its goroutine.
func New(turns int) (*Queue, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	q := newQueue(turns, func() { _, _ = writer.Write([]byte{0}) }) // fails only when it is closed, which listen notices
	q.pipe, q.done = writer, make(chan struct{})
	go q.listen(reader)
	return q, nil
}

func newQueue(turns int, ring func()) *Queue {
	return &Queue{ring: ring, began: time.Now(), turns: turns, free: turns, lanes: map[string]*lane{}}
}

// Close ends the goroutine of the queue. Turns can be taken all the same.
func (q *Queue) Close() error {
	err := q.pipe.Close()
	<-q.done
	return err
}

// Waiting is how many wait for a turn now.
func (q *Queue) Waiting() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.next {
		n += len(l.waiting)
	}
	return n
}

func (q *Queue) listen(pipe *os.File) {
	defer close(q.done)
	defer pipe.Close()
	var b [1]byte
	for {
		_, err := pipe.Read(b[:])
		q.resume(err != nil)
		if err != nil {
			return
		}
	}
}

// resume lets turns begin again: the scheduler has looked. last says that it
// will not be called again.
func (q *Queue) resume(last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = q.closed || last
	q.rang, q.paused, q.looked = false, false, time.Since(q.began)
	for q.free > 0 && len(q.next) > 0 {
		q.free--
		q.beginNextLocked()
	}
}

// watchLocked pauses the queue if the scheduler has not looked for long. If it
// returns true, the caller has to call ring, without the lock.
func (q *Queue) watchLocked(now time.Duration) (ring bool) {
	since := now - q.looked
	switch {
	case q.closed || since < lookEvery:
		return false
	case !q.rang:
		q.rang, q.begun = true, 0
		return true
	}
	q.begun++
	q.paused = q.begun > turnsUnseen*q.turns || since > longUnseen
	return false
}

func (q *Queue) take(ctx context.Context, t *Turn) error {
	q.mu.Lock()
	now := time.Since(q.began)
	if len(q.next) == 0 && now-q.given > idleAfter && now > q.busy {
		q.looked = now
	}
	ring := q.watchLocked(now)
	wait := q.paused || q.free == 0 || len(q.next) > 0
	if wait {
		q.enqueueLocked(t)
	} else {
		q.free--
	}
	q.mu.Unlock()
	if ring {
		q.ring()
	}
	if !wait {
		return nil
	}
	select {
	case <-t.begin:
		return nil
	case <-ctx.Done():
		return q.leave(t, ctx.Err())
	}
}

func (q *Queue) enqueueLocked(t *Turn) {
	if t.begin == nil {
		t.begin = make(chan struct{}, 1)
	}
	l := q.lanes[t.owner]
	if l == nil {
		l = &lane{owner: t.owner}
		q.lanes[t.owner] = l
		q.next = append(q.next, l)
	}
	l.waiting = append(l.waiting, t)
	t.lane = l
}

// beginNextLocked begins the next turn, and puts its lane behind the others.
func (q *Queue) beginNextLocked() {
	l := q.next[0]
	t := l.waiting[0]
	q.next, l.waiting = q.next[1:], l.waiting[1:]
	if len(l.waiting) > 0 {
		q.next = append(q.next, l)
	} else {
		delete(q.lanes, l.owner)
	}
	t.begin <- struct{}{}
}

// leave ends the wait of t because of cause, unless its turn has begun.
func (q *Queue) leave(t *Turn, cause error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := t.lane
	if !slices.Contains(l.waiting, t) {
		<-t.begin
		return nil
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(x *Turn) bool { return x == t })
	if len(l.waiting) == 0 {
		delete(q.lanes, l.owner)
		q.next = slices.DeleteFunc(q.next, func(x *lane) bool { return x == l })
	}
	return cause
}

// give ends a turn. goesOn says that its owner computes on without it.
func (q *Queue) give(goesOn bool) {
	q.mu.Lock()
	q.given = time.Since(q.began)
	if goesOn {
		q.busy = q.given + lookEvery
	}
	ring := len(q.next) > 0 && q.watchLocked(q.given)
	if q.paused || len(q.next) == 0 {
		q.free++
	} else {
		q.beginNextLocked()
	}
	q.mu.Unlock()
	if ring {
		q.ring()
	}
}
