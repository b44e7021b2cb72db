package http1

import (
	"net"
	"sync"
)

// handover is the listener through which net/http gets its connections.
type handover struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), over: make(chan struct{})}
}

// give waits until net/http takes the connection. It returns false if net/http
// has stopped accepting.
func (h *handover) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.over:
		return false
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.over) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }

// handed is a connection from which something was already read.
type handed struct {
	net.Conn
	read   []byte
	closed func()
	once   sync.Once
}

func (c *handed) Read(b []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.read)
	if c.read = c.read[n:]; len(c.read) == 0 {
		c.read = nil
	}
	return n, nil
}

func (c *handed) Close() error {
	defer c.once.Do(c.closed)
	return c.Conn.Close()
}

// CloseWrite lets net/http close its side first, so that an answer that is sent
// before the whole request was read is not lost.
func (c *handed) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
