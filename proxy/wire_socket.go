package proxy

import (
	"context"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a connection to SQ, for one exchange. An answer to a mutation, for
// which a whole directory waits, most often comes within a moment, and it is
// waited for in a system call: that costs less than to have the runtime watch a
// connection that lives for one answer, and to be woken by it. What takes
// longer the runtime does watch, and the reads, of which many wait at a time.
type socket struct {
	ctx  context.Context
	busy *atomic.Int32 // how many wait in a system call; nil = this one never does
	turn *sync.Mutex   // held until the request is sent, or has to wait; nil = not any more. Only for who sends

	mu   sync.Mutex
	fd   int
	file *os.File    // has fd, once the runtime watches it
	stop func() bool // ends the watch of ctx, if there is one
	last time.Time   // read deadline; zero = none but ctx's
	done bool        // it is closed
}

const (
	// shortWait is how long an answer is waited for in a system call.
	shortWait = 5 * time.Millisecond
	// mostBusy is how many may wait so at a time: each has a thread to itself meanwhile.
	mostBusy = 2
)

var longAgo = time.Unix(1, 0)

// Read ends with ctx, and at the read deadline.
func (s *socket) Read(b []byte) (int, error) {
	n, err := s.soon(func() (int, error) { return unix.Read(s.fd, b) }, unix.POLLIN)
	if err != unix.EAGAIN {
		if n == 0 && err == nil && len(b) > 0 {
			err = io.EOF
		}
		return max(0, n), err
	}
	f, err := s.watched()
	if err != nil {
		return 0, err
	}
	return f.Read(b)
}

// Write ends with ctx.
func (s *socket) Write(b []byte) (int, error) {
	n, err := s.soon(func() (int, error) { return unix.Write(s.fd, b) }, unix.POLLOUT)
	n = max(0, n)
	if err != unix.EAGAIN && (err != nil || n == len(b)) {
		return n, os.NewSyscallError("write", err)
	}
	f, err := s.watched()
	if err != nil {
		return n, err
	}
	rest, err := f.Write(b[n:])
	return n + rest, err
}

// soon does what can be done at once or in a moment; EAGAIN is that nothing can.
func (s *socket) soon(do func() (int, error), ready int16) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.done:
		return 0, os.ErrClosed
	case s.file != nil, s.busy == nil && ready == unix.POLLIN:
		return 0, unix.EAGAIN
	}
	n, err := uninterrupted(do)
	if err == unix.EAGAIN && s.await(ready) {
		n, err = uninterrupted(do)
	}
	return n, err
}

func uninterrupted(do func() (int, error)) (n int, err error) {
	for {
		if n, err = do(); err != unix.EINTR {
			return n, err
		}
	}
}

// await says whether the socket is ready within a moment.
func (s *socket) await(ready int16) bool {
	if s.busy == nil {
		return false
	}
	defer s.busy.Add(-1)
	if s.busy.Add(1) > mostBusy || s.ctx.Err() != nil {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: ready}}, int(shortWait/time.Millisecond))
	return n > 0 && err == nil // an interrupted wait goes on where the runtime watches
}

// beginTurn waits until nobody else sends, if there are others.
func (s *socket) beginTurn(turn *sync.Mutex) {
	if turn != nil {
		turn.Lock()
		s.turn = turn
	}
}

// endTurn lets the next one send.
func (s *socket) endTurn() {
	if s.turn != nil {
		s.turn.Unlock()
		s.turn = nil
	}
}

// watched has the runtime watch the socket from now on, and ctx end what it waits for.
func (s *socket) watched() (*os.File, error) {
	s.endTurn()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil, os.ErrClosed
	}
	if s.file == nil {
		f := os.NewFile(uintptr(s.fd), "SQ") // not blocking, so that its reads and writes have deadlines
		s.file = f
		_ = f.SetReadDeadline(s.last)                                            // fails only if it is closed
		s.stop = context.AfterFunc(s.ctx, func() { _ = f.SetDeadline(longAgo) }) // as above
	}
	return s.file, nil
}

// limit sets the deadline of the reads that follow; zero leaves them to ctx,
// which may end at any moment: its own deadline must not be undone.
func (s *socket) limit(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = until
	if s.file == nil || s.done {
		return
	}
	_ = s.file.SetReadDeadline(until) // fails only on a closed connection, on which the read fails as well
	if s.ctx.Err() != nil {
		_ = s.file.SetReadDeadline(longAgo) // as above
	}
}

// Close may be called at any time, and again.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.done:
		return nil
	case s.file != nil:
		s.done = true
		s.stop()
		return s.file.Close()
	}
	s.done = true
	return unix.Close(s.fd)
}

// noDelay has the end of a request go out although its beginning is not
// acknowledged yet. It costs a request that is one packet more than it gives.
func (s *socket) noDelay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // without it the request takes longer, no more
	}
}
