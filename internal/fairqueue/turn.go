package fairqueue

import "context"

// Turn takes turns for one owner at a time. It belongs to one goroutine. A nil
// Turn need not be waited for.
type Turn struct {
	queue *Queue
	owner string
	held  bool
	begin chan struct{} // gets a value when the turn begins that was waited for
}

// Turn makes a Turn of an owner, which has not been taken.
func (q *Queue) Turn(owner string) *Turn {
	if q == nil {
		return nil
	}
	return &Turn{queue: q, owner: owner}
}

// Another is a Turn of the same owner for another goroutine.
func (t *Turn) Another() *Turn {
	if t == nil {
		return nil
	}
	return &Turn{queue: t.queue, owner: t.owner}
}

// SetOwner says whose the turns are that are taken from now on.
func (t *Turn) SetOwner(owner string) {
	if t != nil {
		t.owner = owner
	}
}

// Take waits for the turn, unless it was taken and not given back. An error is
// ctx's, and means that it was not taken.
func (t *Turn) Take(ctx context.Context) error {
	if t == nil || t.held {
		return nil
	}
	err := t.queue.take(ctx, t)
	t.held = err == nil
	return err
}

// Give gives the turn back, if it was taken.
func (t *Turn) Give() {
	if t != nil && t.held {
		t.held = false
		t.queue.give()
	}
}

type contextKey struct{}

// WithTurn is ctx with a turn in it.
func WithTurn(ctx context.Context, t *Turn) context.Context {
	return context.WithValue(ctx, contextKey{}, t)
}

// FromContext is the turn in ctx, or nil.
func FromContext(ctx context.Context) *Turn {
	t, _ := ctx.Value(contextKey{}).(*Turn)
	return t
}
