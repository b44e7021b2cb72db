package http1

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/pace"
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
	read    []byte
	turn    *fairqueue.Turn
	framing framing
	heads   *headMemory
	out     *sender                                // nil if the connection is not one of the system's
	until   time.Time                              // write deadline that a handler has set
	refused func(net.Addr, *apierror.Error) string // from Config.Refused
	closed  func()
	once    sync.Once
}

func newHanded(c net.Conn, read []byte, turn *fairqueue.Turn, heads *headMemory, refused func(net.Addr, *apierror.Error) string, closed func()) *handed {
	return &handed{Conn: c, read: read, turn: turn, heads: heads, out: senderOn(c, turn), refused: refused, closed: closed}
}

type handedKey struct{}

// withHanded lets the requests on a connection find it, and its turn.
func withHanded(ctx context.Context, c net.Conn) context.Context {
	h := c.(*handed)
	return context.WithValue(fairqueue.WithTurn(ctx, h.turn), handedKey{}, h)
}

func handedOf(r *http.Request) *handed { return r.Context().Value(handedKey{}).(*handed) }

// net/http parses headers and chunks without a turn. Each byte of them counts as so many bytes of
// work.
const parsedWork = 8

// noHost is added to a header without the field Host, as small devices send and SQ serves.
// net/http would answer 400.
const noHost = "Host:\r\n"

// Read is readPart, which adds noHost before the empty line. b has room for that but where
// net/http waits for the rest of a long line, which then comes byte by byte.
func (c *handed) Read(b []byte) (n int, err error) {
	if c.framing.body > 0 {
		return c.readPart(b)
	}
	n, err = c.readPart(b[:min(len(b), max(1, len(b)-len(noHost)-1))])
	if err == nil && n < len(b) && c.framing.ends() {
		var more int
		more, err = c.readPart(b[n : n+1])
		n += more
	}
	if ended := c.framing.head.size == 0; n == 0 || err != nil || !ended || c.framing.last.host || n+len(noHost) > len(b) {
		return n, err
	}
	from := n - 1
	if bytes.HasSuffix(b[:n], headEnd[:2]) {
		from--
	}
	copy(b[from+len(noHost):], b[from:n])
	copy(b[from:], noHost)
	return n + len(noHost), nil
}

// readPart reads at most to the end of a header or a body of known length. So net/http
// has nothing of the next request, but for one byte, before it has answered this one.
func (c *handed) readPart(b []byte) (int, error) {
	n, again, inHead := copy(b, c.read), len(c.read) > 0, c.framing.body == 0
	if !again {
		if left := c.framing.body; left > 0 {
			b = b[:min(int64(len(b)), left)]
		}
		var err error
		if n, err = c.Conn.Read(b); n == 0 {
			return 0, err
		}
	}
	part := c.framing.advance(b[:n])
	switch {
	case again:
		c.read = c.read[part:]
	case part < n:
		c.read = bytes.Clone(b[part:n])
	}
	if len(c.read) == 0 {
		c.read = nil
	}
	if c.framing.head.size > smallPart || c.framing.body == endless && len(b) > 1 { // with one byte, another goroutine looks whether the client leaves
		c.turn.Worked(parsedWork * part)
	}
	err := c.heads.take(c.framing.current(), inHead && c.framing.awaits(len(c.read)))
	if err == nil && c.framing.last.unclear {
		err = errUnclear
	}
	if err != nil {
		return 0, c.refuse(err)
	}
	return part, nil
}

// makeRoom makes room for the header of what was read. net/http sees nothing of it if there is
// none.
func (c *handed) makeRoom() *apierror.Error {
	var ahead framing
	n := ahead.advance(c.read)
	return c.heads.take(ahead.current(), ahead.awaits(len(c.read)-n))
}

// givingTurns gives back the turn that a handler has taken.
func givingTurns(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer fairqueue.FromContext(r.Context()).Give()
		next.ServeHTTP(w, r)
	})
}

// SetWriteDeadline is called by net/http: for a handler, and with no time after
// each request.
func (c *handed) SetWriteDeadline(t time.Time) error {
	c.until = t
	return c.Conn.SetWriteDeadline(t)
}

// Write sends a part of an answer. If the handler has set no deadline, the client
// has to take each part in time.
func (c *handed) Write(b []byte) (int, error) {
	if c.until.IsZero() {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(pace.AnswerTime(len(b)))); err != nil {
			return 0, err
		}
	}
	if c.out == nil {
		return c.writeOutside(b)
	}
	return c.out.send(context.Background(), b, nil)
}

// writeOutside writes to a connection that does not say when the client has to be waited
// for, such as one over TLS: it does so without a turn, and waits for one after each Piece.
func (c *handed) writeOutside(b []byte) (n int, err error) {
	c.turn.Give()
	for n < len(b) && err == nil {
		var sent int
		sent, err = c.Conn.Write(b[n:min(n+fairqueue.Piece, len(b))])
		n += sent
		c.turn.Worked(sent)
	}
	return n, err
}

func (c *handed) Close() error {
	defer c.once.Do(c.closed)
	defer c.heads.release(true)
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
