package http1

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/pace"
)

// writer is the http.ResponseWriter of one answer. The answer is sent in one
// write when the handler returns. A large one of known length is sent as the
// handler writes it, and one that is flushed in chunks.
type writer struct {
	c       *conn
	header  http.Header
	status  int
	out     []byte // head, or head and body, not sent yet
	began   bool   // the head is in out, or was sent
	chunked bool   // the body is sent in chunks
	length  int    // of the body, as announced; -1 = not announced
	have    int    // bytes of the body so far
	until   time.Time
	timed   bool // the connection has a write deadline
	failed  error

	attempt func(fd uintptr) bool
	sent    int
	sendErr error
}

// headRoom is more than the heads of most answers take, in bytes.
const headRoom = 1 << 10

// smallAnswer is the largest body, in bytes, that is copied behind its head.
const smallAnswer = 16 << 10

// writers are used again for other answers.
var writers = sync.Pool{New: func() any {
	w := &writer{header: make(http.Header, 16)}
	w.attempt = func(fd uintptr) bool {
		w.sent, w.sendErr = unix.Write(int(fd), w.out)
		return true
	}
	return w
}}

func newWriter(c *conn) *writer {
	w := writers.Get().(*writer)
	w.c, w.length = c, -1
	return w
}

// free lets another answer use the writer. The handler has returned.
func (w *writer) free() {
	clear(w.header)
	if cap(w.out) > 2*smallAnswer {
		w.out = nil
	}
	*w = writer{header: w.header, out: w.out[:0], attempt: w.attempt}
	writers.Put(w)
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

func (w *writer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if !w.bodied() {
		return 0, http.ErrBodyNotAllowed
	}
	w.have += len(b)
	switch {
	case w.chunked:
		w.out = appendChunk(w.out, b)
		return len(b), nil
	case !w.announced():
		w.out = append(w.out, b...)
		return len(b), nil
	}
	if w.have > w.length {
		return 0, http.ErrContentLength
	}
	return w.send(b)
}

// SetWriteDeadline sets when the client must have taken the answer.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.until = t
	return nil
}

// bodied says whether the answer may have a body (RFC 9110, 6.4.1).
func (w *writer) bodied() bool {
	return w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

// announced puts the head into out if the handler set a Content-Length.
func (w *writer) announced() bool {
	if w.began {
		return w.length >= 0
	}
	value := w.header["Content-Length"]
	if len(value) != 1 {
		return false
	}
	n, err := strconv.Atoi(value[0])
	if err != nil || n < 0 {
		return false
	}
	w.length, w.began = n, true
	w.out = w.appendHead(w.out[:0])
	return true
}

// send sends a part of the body, or leaves it to end if it is small.
func (w *writer) send(b []byte) (int, error) {
	if len(w.out)+len(b) <= smallAnswer {
		w.out = append(w.out, b...)
		return len(b), nil
	}
	if w.failed != nil {
		return 0, w.failed
	}
	head := len(w.out)
	w.setDeadline()
	n, err := w.sendAll(w.out, b)
	w.failed, w.out = err, w.out[:0]
	return max(0, n-head), err
}

func (w *writer) sendAll(a, b []byte) (int, error) {
	ctx, cancel := context.WithDeadline(context.Background(), w.until)
	defer cancel()
	s := sender{w.c.raw, w.c.turn}
	return s.send(ctx, a, b)
}

func (w *writer) setDeadline() {
	if w.until.IsZero() {
		w.until = time.Now().Add(pace.AnswerTime(max(w.length, len(w.out))))
	}
	w.timed = true
	_ = w.c.tcp.SetWriteDeadline(w.until) // fails only on a closed connection, on which the write fails as well
}

// endDeadline ends the deadline, which is of what was sent and must not hit what comes next.
func (w *writer) endDeadline() {
	if w.timed {
		_ = w.c.tcp.SetWriteDeadline(time.Time{}) // as above
	}
	w.timed, w.until = false, time.Time{}
}

// end sends what is left, and returns false if the connection must end.
func (w *writer) end() bool {
	w.WriteHeader(http.StatusOK)
	switch {
	case !w.began:
		w.finishUnannounced()
	case w.chunked:
		w.out = append(w.out, "0\r\n\r\n"...)
	}
	if w.failed == nil && len(w.out) > 0 {
		w.failed = w.flush()
	}
	w.endDeadline()
	return w.failed == nil && (w.length < 0 || w.have == w.length || !w.bodied()) && !w.closes()
}

// finishUnannounced puts the head in front of the complete body.
func (w *writer) finishUnannounced() {
	body := w.out
	if w.bodied() {
		w.header["Content-Length"] = []string{strconv.Itoa(len(body))}
	} else {
		delete(w.header, "Content-Length")
	}
	w.out = append(w.appendHead(make([]byte, 0, headRoom+len(body))), body...)
}

// flush sends out. The system mostly takes it at once. Only if it does not, a
// deadline is needed.
func (w *writer) flush() error {
	w.sent = 0
	if err := w.c.raw.Write(w.attempt); err != nil {
		return err
	}
	rest := w.out[max(0, w.sent):]
	switch {
	case w.sendErr != nil && w.sendErr != unix.EAGAIN && w.sendErr != unix.EINTR:
		return w.sendErr
	case len(rest) == 0:
		return nil
	}
	w.setDeadline()
	_, err := w.sendAll(rest, nil)
	return err
}

// closes says whether the answer is the last one on its connection.
func (w *writer) closes() bool {
	v := w.header["Connection"]
	return len(v) > 0 && strings.EqualFold(v[0], "close")
}
