package proxy

import (
	"fmt"
	"io"
)

// wireBody is the body of an answer: what came with the head, then the rest of
// the connection, as far as the Content-Length goes.
type wireBody struct {
	*exchange
	left int64
}

// Read ends with io.ErrUnexpectedEOF if the connection does before the body,
// and with the context's error if that was what ended it.
func (b *wireBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.end()
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.left)]
	n := b.takeRest(p)
	if n > 0 || len(p) == 0 {
		b.left -= int64(n)
		return n, nil
	}
	n, err := b.conn.Read(p)
	b.left -= int64(n)
	if err == io.EOF {
		err = fmt.Errorf("SQ closed the connection %d bytes before the end of an answer: %w", b.left, io.ErrUnexpectedEOF)
	}
	return n, b.explain(err)
}

// Close ends the exchange, whether or not the body was read.
func (b *wireBody) Close() error {
	b.end()
	return nil
}

// takeRest copies what came with the head, and gives the buffer back after the
// last of it. Close may be called meanwhile.
func (x *exchange) takeRest(p []byte) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := copy(p, x.rest)
	x.rest = x.rest[n:]
	if len(x.rest) == 0 {
		x.giveBack()
	}
	return n
}

// giveBack returns the buffer to the pool, once, unless it has grown.
func (x *exchange) giveBack() {
	if x.head != nil && cap(*x.head) == headSize {
		heads.Put(x.head)
	}
	x.head, x.rest = nil, nil
}
