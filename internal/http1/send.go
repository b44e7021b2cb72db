package http1

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fairqueue"
)

// largestChunk is how much is sent in one turn, in bytes. It takes about a tenth
// of a millisecond.
const largestChunk = 256 << 10

// sender sends on a connection. It takes a turn for each chunk, so that a large
// answer does not keep the others waiting, and gives it back while it waits for
// the client.
type sender struct {
	raw  syscall.RawConn
	turn *fairqueue.Turn
}

// send sends a and then b, and returns how much of both the system has taken. It
// ends at the connection's write deadline. ctx ends the wait for a turn.
func (s *sender) send(ctx context.Context, a, b []byte) (n int, err error) {
	defer s.turn.Give() // the first chunk has the turn that the handler took
	var failed error
	attempt := func(fd uintptr) (done bool) {
		if failed = s.turn.Take(ctx); failed != nil {
			return true
		}
		defer s.turn.Give()
		sent, err := sendChunk(int(fd), a, b)
		if err == unix.EAGAIN {
			return false
		}
		if failed = err; err == nil {
			n += sent
			a, b = cut(a, b, sent)
		}
		return true
	}
	for len(a)+len(b) > 0 {
		if err := s.raw.Write(attempt); err != nil {
			return n, err
		}
		if failed != nil {
			return n, failed
		}
	}
	return n, nil
}

// sendChunk sends what the system takes of a chunk.
func sendChunk(fd int, a, b []byte) (n int, err error) {
	a = a[:min(len(a), largestChunk)]
	b = b[:min(len(b), largestChunk-len(a))]
	for {
		switch {
		case len(b) == 0:
			n, err = unix.Write(fd, a)
		case len(a) == 0:
			n, err = unix.Write(fd, b)
		default:
			n, err = unix.Writev(fd, [][]byte{a, b})
		}
		if err != unix.EINTR {
			return n, err
		}
	}
}

// cut is what is left of a and b after the first n bytes of both.
func cut(a, b []byte, n int) (restA, restB []byte) {
	ofA := min(n, len(a))
	return a[ofA:], b[n-ofA:]
}

// senderOn is nil for a connection that is not one of the system's.
func senderOn(c net.Conn, turn *fairqueue.Turn) *sender {
	sys, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil
	}
	return &sender{raw, turn}
}
