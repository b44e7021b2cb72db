package host

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
)

// simBucket is the bucket as one process sees it.
type simBucket struct{ process *process }

// trouble is what goes wrong with one request.
type trouble struct {
	before, after time.Duration // until it has its effect, and then until its answer is there
	refuse        bool          // it has no effect
	lose          bool          // there is no answer
	twice         bool          // it has its effect twice, and the second answer counts
	again         time.Duration // until that
	lag           time.Duration // a list has no object that is newer
	page          int           // and at most so many
	hang          time.Duration // how long it takes until somebody who is cut off notices
}

// weather is how likely it is that something goes wrong, of 1000, and how slow it is.
type weather struct {
	slowest          time.Duration
	late, lose, none int
	lag              int
}

func (s *simulation) weather() weather {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.bad
	if time.Now().After(s.badUntil) {
		now = ""
	}
	switch now {
	case rough:
		return weather{300 * time.Millisecond, 30, 80, 80, 300}
	case storm:
		return weather{2 * time.Second, 80, 200, 250, 500}
	case outage:
		return weather{100 * time.Millisecond, 50, 0, 1000, 0}
	}
	if s.now() > s.length {
		return weather{slowest: 30 * time.Millisecond}
	}
	return weather{30 * time.Millisecond, 3, 6, 6, 200}
}

// latest is the longest that a request takes to have its effect.
const latest = 15 * time.Second

// trouble draws what becomes of a request.
func (p *process) trouble(op bucket.Op, key string) (f trouble) {
	r := p.machine.draw(p.machine.name, p.number, op, key, p.count(op, key))
	if p.machine.calm {
		f.before, f.after = between(r, 4*time.Millisecond, 6*time.Millisecond), between(r, 4*time.Millisecond, 6*time.Millisecond)
		return f
	}
	w := p.machine.weather()
	of1000 := func(n int) bool { return r.IntN(1000) < n }
	f.before, f.after = between(r, 1000, w.slowest), between(r, 1000, w.slowest)
	if of1000(w.late) {
		f.before = between(r, time.Second, latest)
	}
	if of1000(w.late) {
		f.after = between(r, time.Second, latest)
	}
	f.refuse, f.lose, f.twice = of1000(w.none), of1000(w.lose), of1000(w.lose)
	f.again, f.hang = between(r, 1, 5*time.Second), between(r, 50*time.Millisecond, 10*time.Second)
	if of1000(w.lag) {
		f.lag = between(r, 0, 6*time.Second)
	}
	if of1000(w.lag) {
		f.page = 1 + r.IntN(3)
	}
	return f
}

type answer[T any] struct {
	value T
	err   error
}

// request makes a request that may go wrong. unclear is the error if there is no answer.
// A request that was sent arrives, even if its sender is gone by then.
func request[T any](ctx context.Context, p *process, op bucket.Op, key string, unclear error, effect func(trouble) (T, error)) (T, error) {
	var none T
	if err := p.pass(op, key); err != nil {
		return none, err
	}
	f := p.trouble(op, key)
	answered := make(chan answer[T], 1)
	p.machine.flights.Go(func() {
		value, err := send(p, op, key, f, unclear, effect)
		answered <- answer[T]{value, err}
	})
	var a answer[T]
	select {
	case a = <-answered:
	case <-ctx.Done():
		a.err = fmt.Errorf("%w: %w", unclear, ctx.Err())
	}
	if err := p.pass(op, key, "answered"); err != nil {
		return none, err
	}
	return a.value, a.err
}

func send[T any](p *process, op bucket.Op, key string, f trouble, unclear error, effect func(trouble) (T, error)) (value T, err error) {
	s := p.machine.simulation
	s.countRequest(opOf(op, key))
	time.Sleep(f.before)
	if p.machine.isCut() {
		time.Sleep(f.hang)
		return value, unclear
	}
	if f.refuse {
		return value, bucket.ErrTemporary
	}
	value, err = effect(f)
	s.say("host %d: %s %s: %v", p.machine.number, op, key, err)
	if f.twice && op == bucket.OpPut {
		time.Sleep(f.again)
		value, err = effect(f)
		s.say("host %d: %s %s again: %v", p.machine.number, op, key, err)
	}
	time.Sleep(f.after)
	if p.machine.isCut() {
		time.Sleep(f.hang)
		return value, unclear
	}
	if f.lose {
		return value, unclear
	}
	return value, err
}

func (s *simulation) countRequest(op bucket.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[op]++
}

// The bucket itself is asked without any deadline.
var always = context.Background()

func (b *simBucket) Get(ctx context.Context, key, unlessETag string) (bucket.Object, error) {
	return request(ctx, b.process, bucket.OpGet, key, bucket.ErrTemporary, func(trouble) (bucket.Object, error) {
		return b.process.machine.bucket.Get(always, key, unlessETag)
	})
}

func (b *simBucket) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	o, err := b.Get(ctx, key, "")
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(o.Body)), nil
}

func (b *simBucket) Put(ctx context.Context, key string, body []byte, c bucket.Condition) (string, error) {
	body = slices.Clone(body) // it may arrive when nobody waits for it any more
	return request(ctx, b.process, bucket.OpPut, key, bucket.ErrUnknownOutcome, func(trouble) (string, error) {
		return b.process.machine.bucket.Put(always, key, body, c)
	})
}

func (b *simBucket) Delete(ctx context.Context, key string) error {
	_, err := request(ctx, b.process, bucket.OpDelete, key, bucket.ErrUnknownOutcome, func(trouble) (any, error) {
		return nil, b.process.machine.bucket.Delete(always, key)
	})
	return err
}

type page struct {
	entries []bucket.Entry
	more    bool
}

func (b *simBucket) List(ctx context.Context, prefix, after string, limit int) ([]bucket.Entry, bool, error) {
	p, err := request(ctx, b.process, bucket.OpList, prefix, bucket.ErrTemporary, func(f trouble) (p page, err error) {
		if f.page > 0 {
			limit = min(limit, f.page)
		}
		p.entries, p.more, err = b.process.machine.bucket.List(always, prefix, after, limit)
		// What was replaced is listed all the same, as the clock of the store.
		p.entries = slices.DeleteFunc(p.entries, func(e bucket.Entry) bool {
			return time.Since(e.Modified) < f.lag && !strings.HasSuffix(e.Key, "/clock")
		})
		p.more = p.more && len(p.entries) > 0 // the end of what is old enough
		return p, err
	})
	return p.entries, p.more, err
}
