package sqclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
)

// Timeout is the longest that SQ is given for one use of a child. It is long
// because SQ is slow: a build with an old library takes 25 s to open a phext of
// 20,000 scrolls (LEGACY.md).
const Timeout = 5 * time.Minute

var (
	// ErrUnreached is a child that accepted no connection: it has seen nothing.
	ErrUnreached = errors.New("the child did not accept a connection")
	// errGarbled is an answer that SQ does not give.
	errGarbled = errors.New("the answer is not one of SQ's")
	// errNoMemory is an answer for which there is no memory now.
	errNoMemory = apierror.RetryIn(time.Second, apierror.Unavailable,
		"too much is being sent at once to hold it all in memory: try again in a moment")
)

// StatusError is an answer other than 200, by its status.
type StatusError int

func (e StatusError) Error() string { return "SQ answered " + strconv.Itoa(int(e)) }

// Conn is one connection to SQ, for one exchange.
type Conn struct {
	child *Child
	tcp   stream
	ctx   context.Context
	stop  func() bool // ends the watch of ctx
	last  [1]byte     // of the request
	cut   error       // SQ hung up before it had the whole request
}

// Dial connects to the child. Everything that is done on the connection ends
// with ctx. An error wraps ErrUnreached unless it is ctx's.
func (c *Child) Dial(ctx context.Context) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tcp, err := dial(ctx, c.lease.Addr())
	if err != nil {
		if cause := ctx.Err(); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	x := &Conn{child: c, tcp: tcp, ctx: ctx}
	x.stop = context.AfterFunc(ctx, func() { _ = tcp.SetDeadline(time.Unix(1, 0)) }) // fails only on a closed connection
	return x, nil
}

// Close ends the exchange.
func (x *Conn) Close() {
	x.stop()
	_ = x.tcp.Close() // everything that was wanted from it has been read
}

// heads keeps buffers for the heads of requests and the beginnings of bodies.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10+smallBody); return &b }}

// smallBody is how much of a body is copied behind its head, in bytes.
const smallBody = 4 << 10

// Send sends a request whole, or returns an error. If SQ hangs up meanwhile, it
// may have answered before that: then Receive says what became of the request.
func (x *Conn) Send(out rewrite.Outgoing) error { return x.send(out, 0) }

// SendHeld sends a request without its last byte, which is for SendRest. SQ
// does nothing before it has that, and forgets the request if it never comes.
func (x *Conn) SendHeld(out rewrite.Outgoing) error { return x.send(out, len(x.last)) }

// send sends a request without its last held bytes. Of a large body, only the
// beginning is copied, to go out with the head: a head that comes alone costs SQ
// another read.
func (x *Conn) send(out rewrite.Outgoing, held int) error {
	pooled := heads.Get().(*[]byte)
	defer heads.Put(pooled)
	head := x.appendHead((*pooled)[:0], out)
	*pooled = head[:0]
	n := min(len(out.Body), smallBody)
	first, rest := append(head, out.Body[:n]...), out.Body[n:]
	end := &first
	if len(rest) > 0 {
		end = &rest
	}
	copy(x.last[:], (*end)[len(*end)-len(x.last):])
	*end = (*end)[:len(*end)-held]
	_, err := x.tcp.Write(first)
	if err == nil && len(rest) > 0 {
		_, err = x.tcp.Write(rest)
	}
	return x.sendError(err)
}

// SendRest sends what SendHeld held back.
func (x *Conn) SendRest() error {
	if x.cut != nil {
		return nil // its answer says why, if there is one
	}
	_, err := x.tcp.Write(x.last[:])
	return x.sendError(err)
}

func (x *Conn) sendError(err error) error {
	if hungUp(err) {
		x.cut, err = err, nil // SQ may have answered before that
	}
	return x.explain(err)
}

func (x *Conn) appendHead(b []byte, out rewrite.Outgoing) []byte {
	b = append(b, out.Method...)
	b = append(b, ' ')
	b = append(b, out.Path...)
	b = append(b, '?')
	b = append(b, out.Query...)
	b = append(b, " HTTP/1.1\r\nHost: sq\r\nUser-Agent: sqgate\r\nConnection: close\r\nAuthorization: Bearer "...)
	b = append(b, x.child.lease.Key()...)
	if out.Method == http.MethodPost {
		b = append(b, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(out.Body)), 10)
	}
	return append(b, "\r\n\r\n"...)
}

// hungUp says whether a write failed because the other side had closed.
func hungUp(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// smallAnswer is the largest answer to a write, in bytes.
const smallAnswer = 4 << 10

// largestHead bounds the head of an answer, in bytes.
const largestHead = 64 << 10

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// Receive returns the body of a 200, whole; another status is a StatusError. Its
// memory is charged to held. An answer to a write is small and is not charged
// (nil): no memory for it would make a write fail that SQ has made.
// SQ may answer and close before it has read all, when it is full or the request
// is too large: such an answer is believed if it is an error.
func (x *Conn) Receive(held *memlimit.Reservation) ([]byte, error) {
	limited := &io.LimitedReader{R: x.tcp, N: largestHead}
	r := readers.Get().(*bufio.Reader)
	r.Reset(limited)
	defer readers.Put(r)
	body, err := x.receive(r, limited, held)
	var status StatusError
	if x.cut != nil && !errors.As(err, &status) {
		return nil, x.cut
	}
	return body, x.explain(err)
}

func (x *Conn) receive(r *bufio.Reader, limited *io.LimitedReader, held *memlimit.Reservation) ([]byte, error) {
	resp, err := http.ReadResponse(r, nil)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return nil, fmt.Errorf("SQ closed the connection before its answer was complete: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return nil, fmt.Errorf("reading SQ's answer: %w", err)
	case resp.ProtoMajor != 1 || resp.ProtoMinor != 1 || resp.StatusCode < 200:
		return nil, fmt.Errorf("%w: it begins with %s %d", errGarbled, resp.Proto, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, StatusError(resp.StatusCode)
	case resp.ContentLength < 0:
		return nil, fmt.Errorf("%w: it has no Content-Length", errGarbled)
	case held == nil && resp.ContentLength > smallAnswer:
		return nil, fmt.Errorf("%w: it has %d bytes", errGarbled, resp.ContentLength)
	case held != nil && !held.Grow(held.Size()+resp.ContentLength):
		return nil, errNoMemory
	}
	limited.N = resp.ContentLength
	body := make([]byte, resp.ContentLength)
	if n, err := io.ReadFull(resp.Body, body); err != nil {
		return nil, fmt.Errorf("SQ closed the connection after %d of %d bytes: %w", n, len(body), err)
	}
	return body, nil
}

// explain says that it was the context that ended an exchange, if it was.
func (x *Conn) explain(err error) error {
	var status StatusError
	if cause := x.ctx.Err(); cause != nil && err != nil && !errors.As(err, &status) && !errors.Is(err, errNoMemory) {
		return fmt.Errorf("an exchange with SQ was given up: %w", cause)
	}
	return err
}
