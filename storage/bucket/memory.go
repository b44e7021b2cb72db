package bucket

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Op names a call of a Bucket.
type Op string

// The calls.
const (
	OpGet    Op = "get"
	OpPut    Op = "put"
	OpList   Op = "list"
	OpDelete Op = "delete"
)

// Fault is what goes wrong with one call of a Memory. The zero Fault is nothing.
type Fault struct {
	Delay  time.Duration // before the call has its effect
	Refuse error         // the call has no effect, and this is its error
	Lose   error         // the call has its effect, and this is its error
	Twice  bool          // the call has its effect twice, and the second answer is the one that counts
	Short  int           // at most so many objects in the page of a list; 0 = as asked for
	Miss   int           // so many of the newest objects are missing in a list, as never at S3
}

// Memory is a bucket in memory, for tests.
type Memory struct {
	// Fault decides about each call; nil = nothing goes wrong. It is called
	// before the call has its effect, without a lock.
	Fault func(op Op, key string) Fault
	// Now is the clock of the store; nil = time.Now.
	Now func() time.Time

	mu      sync.Mutex
	objects map[string]stored
	calls   map[Op]int
	writes  int
}

type stored struct {
	body     []byte
	modified time.Time
	number   int // of the write
}

// NewMemory returns an empty bucket.
func NewMemory() *Memory { return &Memory{objects: map[string]stored{}, calls: map[Op]int{}} }

// Calls says how often each call was made since the last time.
func (m *Memory) Calls() map[Op]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = map[Op]int{}
	return calls
}

// do makes a call, with its fault. unclear is the error if ctx ends after the call
// may have had its effect.
func (m *Memory) do(ctx context.Context, op Op, key string, unclear error, effect func(Fault) error) error {
	m.mu.Lock()
	m.calls[op]++
	m.mu.Unlock()
	var f Fault
	if m.Fault != nil {
		f = m.Fault(op, key)
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", unclear, ctx.Err())
		}
	}
	if err := cmp.Or(ctx.Err(), f.Refuse); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err := effect(f)
	if f.Twice {
		err = effect(f)
	}
	return cmp.Or(f.Lose, err)
}

func (m *Memory) Get(ctx context.Context, key, unlessETag string) (o Object, err error) {
	if err := checkKey(key); err != nil {
		return Object{}, err
	}
	err = m.do(ctx, OpGet, key, ErrTemporary, func(Fault) error {
		s, ok := m.objects[key]
		if !ok {
			return fmt.Errorf("%s: %w", key, ErrNotFound)
		}
		if o = (Object{slices.Clone(s.body), etagOf(s.body)}); o.ETag == unlessETag {
			return ErrNotModified
		}
		return nil
	})
	if err != nil {
		return Object{}, err
	}
	return o, nil
}

func (m *Memory) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	o, err := m.Get(ctx, key, "")
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(o.Body)), nil
}

func (m *Memory) Put(ctx context.Context, key string, body []byte, c Condition) (string, error) {
	if err := checkPut(key, body); err != nil {
		return "", err
	}
	err := m.do(ctx, OpPut, key, ErrUnknownOutcome, func(Fault) error {
		s, ok := m.objects[key]
		if c.absent && ok || c.etag != "" && (!ok || etagOf(s.body) != c.etag) {
			return fmt.Errorf("%s: %w", key, ErrPreconditionFailed)
		}
		m.writes++
		m.objects[key] = stored{slices.Clone(body), m.now(), m.writes}
		return nil
	})
	if err != nil {
		return "", err
	}
	return etagOf(body), nil
}

func (m *Memory) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

func (m *Memory) List(ctx context.Context, prefix, after string, limit int) (page []Entry, more bool, err error) {
	err = m.do(ctx, OpList, prefix, ErrTemporary, func(f Fault) error {
		page, more = nil, false
		limit := max(1, min(limit, PageMax))
		if f.Short > 0 {
			limit = min(limit, f.Short)
		}
		for _, key := range slices.Sorted(maps.Keys(m.objects)) {
			s := m.objects[key]
			if !strings.HasPrefix(key, prefix) || key <= after || s.number > m.writes-f.Miss {
				continue
			}
			if more = len(page) == limit; more {
				return nil
			}
			page = append(page, Entry{key, int64(len(s.body)), s.modified})
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return page, more, nil
}

func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return m.do(ctx, OpDelete, key, ErrUnknownOutcome, func(Fault) error {
		delete(m.objects, key)
		return nil
	})
}
