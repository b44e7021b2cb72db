package phext

import (
	"errors"
	"io"
)

// comparison reads along with what it is told to expect.
type comparison struct {
	r    io.Reader
	buf  []byte
	rest []byte // read and not compared yet
	same bool
	err  error // of reading
}

func (c *comparison) expect(text string) {
	for len(text) > 0 && c.same && c.err == nil {
		if len(c.rest) == 0 && !c.fill() {
			c.same = false
			return
		}
		n := min(len(c.rest), len(text))
		c.same = string(c.rest[:n]) == text[:n]
		c.rest, text = c.rest[n:], text[n:]
	}
}

// fill reads on; false is the end, or an error.
func (c *comparison) fill() bool {
	for c.err == nil {
		n, err := c.r.Read(c.buf)
		c.rest = c.buf[:n]
		if errors.Is(err, io.EOF) {
			return n > 0
		}
		c.err = err
		if n > 0 {
			return true
		}
	}
	return false
}

func (c *comparison) ended() (bool, error) {
	return c.same && len(c.rest) == 0 && !c.fill() && c.err == nil, c.err
}
