package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// wire is an http.RoundTripper for a backend that answers one request on a
// connection and then closes it without saying so (LEGACY.md). It does what
// such an exchange needs and no more: no pool, no goroutines, one write, and
// most often one read. A request is never repeated: for SQ that may be a second
// insert, or a write that was thought to have failed.
type wire struct {
	patience time.Duration // longest wait for the head of an answer, from the end of the request; 0 = as long as the context
	busy     atomic.Int32  // see socket
}

func newWire(patience time.Duration) *wire { return &wire{patience: patience} }

// RoundTrip sends r, of which the URL's host must be an IP address and a port,
// and reads the head of the answer. The body follows as it is read, up to the
// Content-Length, and ends with r's context. An error of dialling is a
// *net.OpError with Op "dial": the backend has seen nothing then.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	return w.roundTrip(r.Context(), r)
}

// roundTrip is RoundTrip with another context than r's, without a copy of r.
func (w *wire) roundTrip(ctx context.Context, r *http.Request) (*http.Response, error) {
	how := way{}
	if r.Method == http.MethodPost {
		how = w.mutation()
	}
	sent, err := w.send(ctx, r, how)
	if err != nil {
		return nil, err
	}
	return w.answer(sent)
}

// sending is a request that was sent, or as much of it as the backend took.
type sending struct {
	exchange *exchange
	request  *http.Request
	cut      error // it hung up before the end
}

// way is how a request is sent. The zero value is that of a read.
type way struct {
	// busy counts those that wait in a system call: see socket.
	busy *atomic.Int32
	// held is without the last byte, which release sends: until then the request
	// is not complete, and an end of the connection has SQ forget it.
	held bool
	// turn is held while the request is sent and need not wait, if there is one.
	// SQ takes up connections one by one: two threads in the kernel for it at a
	// time leave it without a processor, and cost 4 % on two of them.
	turn *sync.Mutex
}

func (w *wire) mutation() way { return way{busy: &w.busy} }

func (w *wire) heldMutation() way { return way{busy: &w.busy, held: true} }

// send is the first half of roundTrip; answer has to follow, and end.
func (w *wire) send(ctx context.Context, r *http.Request, how way) (*sending, error) {
	defer closeBody(r)
	if err := sendable(r); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := dial(ctx, r.URL.Host, how)
	if err != nil {
		return nil, err
	}
	x := newExchange(ctx, conn)
	x.holds = how.held
	cut := send(x, r)
	conn.endTurn()
	if cut != nil && !hungUp(cut) {
		x.end()
		return nil, x.explain(cut)
	}
	return &sending{x, r, cut}, nil
}

// release sends what send held back.
func (s *sending) release() error {
	x := s.exchange
	_, err := x.conn.Write(x.last[:])
	if err != nil && hungUp(err) && s.cut == nil {
		s.cut, err = err, nil // it may have answered before that
	}
	if err != nil {
		return x.explain(err)
	}
	return nil
}

// end gives back all that an exchange has; it may be called again.
func (s *sending) end() { s.exchange.end() }

// answer is the second half of roundTrip.
func (w *wire) answer(s *sending) (*http.Response, error) {
	resp, err := w.receive(s)
	if err != nil {
		s.exchange.end()
		return nil, s.exchange.explain(err)
	}
	return resp, nil
}

// closeBody is owed to whoever sends a request, also if nothing of it was read.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // what was read of it is known to be right by its length
	}
}

// receive reads an answer. SQ may answer and close before it has read all, when
// it is full or the request is too large; such an answer is believed if it is
// an error.
func (w *wire) receive(s *sending) (*http.Response, error) {
	x := s.exchange
	limited := x.limit(w.patience)
	a, err := x.readAnswer()
	switch {
	case s.cut != nil && (err != nil || a.status < http.StatusBadRequest):
		return nil, s.cut
	case err != nil:
		return nil, err
	}
	if limited {
		x.limit(0)
	}
	return a.response(s.request, x), nil
}

// exchange is one connection, for as long as it lasts.
type exchange struct {
	ctx  context.Context
	conn *socket

	holds bool    // the last byte of the request is for release to send
	last  [1]byte // which is this one

	mu    sync.Mutex
	head  *[]byte // pooled; nil when it was given back
	rest  []byte  // the part of head that belongs to the body
	ended bool
}

func newExchange(ctx context.Context, conn *socket) *exchange {
	return &exchange{ctx: ctx, conn: conn, head: heads.Get().(*[]byte)}
}

// limit bounds the reads that follow; 0 leaves them to the context. It says
// whether there was anything to do: not if the context ends earlier.
func (x *exchange) limit(patience time.Duration) bool {
	var until time.Time
	if patience > 0 {
		until = time.Now().Add(patience)
		if by, ok := x.ctx.Deadline(); ok && !by.After(until) {
			return false
		}
	}
	x.conn.limit(until)
	return true
}

// end closes the connection and gives the buffer back; it may be called again.
// dial has seen to it that it closes with a reset. After an exchange that was cut, SQ must see an error:
// it would take the end of the stream for the end of the body, and store what
// came. After one that is complete, a reset leaves no socket in TIME_WAIT on
// either side.
func (x *exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return
	}
	x.ended = true
	x.giveBack()
	_ = x.conn.Close() // everything that was wanted from it has been read
}

// explain says that it was the context that cut an exchange, if it was.
func (x *exchange) explain(err error) error {
	if cause := x.ctx.Err(); cause != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("an exchange with SQ was given up: %w", cause)
	}
	if errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}
