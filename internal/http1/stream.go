package http1

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

var chunked = []string{"chunked"}

// FlushError sends what the handler has written so far. If the answer has no announced
// length, it goes on in chunks, and keeps no buffer between them.
func (w *writer) FlushError() error {
	w.WriteHeader(http.StatusOK)
	if !w.announced() && !w.began && w.bodied() {
		body := w.out
		w.header["Transfer-Encoding"] = chunked
		w.began, w.chunked = true, true
		w.out = appendChunk(w.appendHead(make([]byte, 0, headRoom+len(body))), body)
	}
	if w.failed == nil && w.began && len(w.out) > 0 {
		w.failed = w.flush()
		w.out = nil
	}
	w.endDeadline()
	return w.failed
}

// appendChunk appends a part of a body. An empty one would end it.
func appendChunk(out, part []byte) []byte {
	if len(part) == 0 {
		return out
	}
	out = slices.Grow(out, len(part)+20)
	out = append(strconv.AppendInt(out, int64(len(part)), 16), "\r\n"...)
	return append(append(out, part...), "\r\n"...)
}

// watch calls left if the client closes its side, until stop is called. Once the client has
// sent more, it is not watched any more. Nobody reads from the connection meanwhile.
func (c *conn) watch(left func()) (stop func()) {
	_ = c.tcp.SetReadDeadline(time.Time{}) // fails only on a closed connection, on which the read fails as well
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sent := 0
		err := c.raw.Read(func(fd uintptr) bool {
			var err error
			sent, _, err = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return err != unix.EAGAIN && err != unix.EINTR
		})
		if err != nil || sent <= 0 {
			left() // or stop was called, and nobody minds
		}
	}()
	return func() {
		_ = c.tcp.SetReadDeadline(time.Unix(1, 0)) // as above
		<-ended
		c.until = time.Unix(1, 0) // so that the next request gets its own
	}
}
