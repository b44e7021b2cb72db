package fairqueue

import (
	"context"
	"io"
)

// Turn takes turns for one owner at a time. It belongs to one goroutine. A nil
// Turn need not be waited for.
type Turn struct {
	queue *Queue
	owner string
	held  bool
	done  int           // work since others were let go first, see Worked
	pace  func(int)     // see Pace
	lane  *lane         // in which it waited last
	begin chan struct{} // gets a value when the turn begins that was waited for
}

// Piece is how much work, in bytes, is done in one turn if others wait: about half a
// millisecond of work that looks at each byte.
const Piece = 256 << 10

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

// Owner is whose the turns are.
func (t *Turn) Owner() string {
	if t == nil {
		return ""
	}
	return t.owner
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
		t.queue.give(false)
	}
}

// Do does work in a turn of the same owner, or in the one that is held.
func (t *Turn) Do(work func()) {
	if t != nil && !t.held {
		other := t.Another()
		other.retake()
		defer other.Give()
	}
	work()
}

// Worked counts work of so many bytes. After each Piece of it, it lets others go first:
// a turn that is held is given back and taken again. Without one, as in work that
// waits for the disk now and then, it only waits for its turn. So whoever calls it must
// hold no lock that others wait for in their turns.
func (t *Turn) Worked(bytes int) {
	if t == nil {
		return
	}
	if t.done += bytes; t.done < Piece {
		return
	}
	held := t.held
	t.done = 0
	t.Give()
	t.retake()
	if !held {
		t.held = false
		t.queue.give(true)
	}
}

// Pace is Worked for what knows no turns, or nil if nobody has to wait. It is made only
// once.
func (t *Turn) Pace() func(bytes int) {
	if t == nil {
		return nil
	}
	if t.pace == nil {
		t.pace = t.Worked
	}
	return t.pace
}

// retake waits only for what others do in their turns.
func (t *Turn) retake() { _ = t.Take(context.Background()) }

// Reader is r for whoever computes with what comes from it. While r is waited for, the
// turn is given back.
func (t *Turn) Reader(r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		return t.outside(func() (int, error) { return r.Read(b[:min(len(b), Piece)]) })
	})
}

// ReaderAt is Reader for an io.ReaderAt.
func (t *Turn) ReaderAt(r io.ReaderAt) io.ReaderAt {
	return readerAtFunc(func(b []byte, off int64) (int, error) {
		return t.outside(func() (int, error) { return r.ReadAt(b, off) })
	})
}

// Writer is w for whoever computes what is written to it. While w is waited for, the
// turn is given back.
func (t *Turn) Writer(w io.Writer) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		return t.outside(func() (int, error) { return w.Write(b) })
	})
}

// Suspend gives the turn back, if it is held, until resume is called: something is waited for.
func (t *Turn) Suspend() (resume func()) {
	if t == nil || !t.held {
		return func() {}
	}
	t.Give()
	return t.retake
}

// outside waits for move, without the turn. The bytes that it has moved are work if the
// turn is not held.
func (t *Turn) outside(move func() (int, error)) (n int, err error) {
	if t == nil || !t.held {
		n, err = move()
		t.Worked(n)
		return n, err
	}
	t.Give()
	defer t.retake()
	return move()
}

type (
	readerFunc   func([]byte) (int, error)
	readerAtFunc func([]byte, int64) (int, error)
	writerFunc   func([]byte) (int, error)
)

func (f readerFunc) Read(b []byte) (int, error)                { return f(b) }
func (f readerAtFunc) ReadAt(b []byte, off int64) (int, error) { return f(b, off) }
func (f writerFunc) Write(b []byte) (int, error)               { return f(b) }

// Operator is the owner of the turns of an operator's work, such as a backup. It is no
// tenant's id.
const Operator = "*operator"

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
