package http1

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/pace"
)

// bufferSize is the most of a request, head and body, that is served here.
const bufferSize = 16 << 10

// buffers are held only while a request is read or answered. An idle connection
// has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// restTimeout is the longest wait for the rest of a request. A slower one is
// handed to net/http.
const restTimeout = 500 * time.Millisecond

// briefly is the wait where there is no room for the buffer meanwhile. The rest of an ordinary
// request is on its way already.
const briefly = 100 * time.Millisecond

// coarseness is the fraction of a timeout by which its deadline may be early:
// to move the deadline for each request costs more than it is worth.
const coarseness = 16

// setReadDeadline moves the read deadline, unless the present one will do.
func (c *conn) setReadDeadline(timeout time.Duration) {
	until := time.Now().Add(timeout)
	if d := until.Sub(c.until); d >= 0 && d < timeout/coarseness {
		return
	}
	c.until = until
	_ = c.tcp.SetReadDeadline(until) // fails only on a closed connection, on which the read fails as well
}

// fill waits for more bytes and reads them.
func (c *conn) fill() error {
	c.readErr, c.waited = nil, false
	if err := c.raw.Read(c.ready); err != nil {
		return err
	}
	return c.readErr
}

// readReady reads what has arrived, or returns false to wait for more. It takes
// a buffer only now, so that a waiting connection has none. This is why it is a
// callback of syscall.RawConn: net.Conn's Read would hold one.
//
// To read is work, too. Nobody can know yet who asks now, so it is done in a turn of whoever
// has asked on this connection until now or, if that is nobody or several, as where a proxy
// is in front, in one of the connection's own. What has come at once needs none.
func (c *conn) readReady(fd uintptr) bool {
	if c.waited {
		_ = c.turn.Take(context.Background()) // waits only for what others do in their turns
	}
	if c.buf == nil {
		c.buf, c.n = buffers.Get().(*[bufferSize]byte), 0
	}
	n, err := unix.Read(int(fd), c.buf[c.n:])
	for err == unix.EINTR {
		n, err = unix.Read(int(fd), c.buf[c.n:])
	}
	switch {
	case err == unix.EAGAIN:
		if c.n == 0 {
			c.dropBuffer()
		}
		c.turn.Give()
		c.waited = true
		return false
	case err != nil:
		c.readErr = err
	case n == 0:
		c.readErr = io.EOF
	default:
		c.n += n
	}
	return true
}

// discard reads what the client still sends. While it waits, there is no buffer.
func (c *conn) discard() {
	for left := pace.LeftoverBytes; left > 0; left -= c.n {
		c.dropBuffer()
		err := c.fill()
		if c.turn.Give(); err != nil {
			return
		}
	}
}

func (c *conn) dropBuffer() {
	if c.buf != nil {
		buffers.Put(c.buf)
		c.buf, c.n = nil, 0
	}
}
