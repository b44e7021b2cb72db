package http1

import (
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize is the most of a request, head and body, that is served here.
const bufferSize = 16 << 10

// buffers are held only while something is read or answered: a connection that
// is idle has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// morePatience is how long the rest of a request is waited for. One that takes
// longer is slow, and net/http's.
const morePatience = 500 * time.Millisecond

// coarse is by how much of itself a deadline may come early: moving it for
// each request costs more than it is worth.
const coarse = 16

// allow sets the read deadline, unless the one that is set does.
func (c *conn) allow(patience time.Duration) {
	until := time.Now().Add(patience)
	if d := until.Sub(c.until); d >= 0 && d < patience/coarse {
		return
	}
	c.until = until
	_ = c.tcp.SetReadDeadline(until) // fails only on a closed connection, on which the read fails as well
}

// fill waits for more bytes and reads them.
func (c *conn) fill() error {
	c.readErr = nil
	if err := c.raw.Read(c.ready); err != nil {
		return err
	}
	return c.readErr
}

// readReady reads what has come; false waits for more. The buffer is fetched
// only then, so that a connection that waits has none.
func (c *conn) readReady(fd uintptr) bool {
	if c.buf == nil {
		c.buf, c.n = buffers.Get().(*[bufferSize]byte), 0
	}
	n, err := rawRead(int(fd), c.buf[c.n:])
	for err == unix.EINTR {
		n, err = rawRead(int(fd), c.buf[c.n:])
	}
	switch {
	case err == unix.EAGAIN:
		if c.n == 0 {
			c.dropBuffer()
		}
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

func (c *conn) dropBuffer() {
	if c.buf != nil {
		buffers.Put(c.buf)
		c.buf, c.n = nil, 0
	}
}
