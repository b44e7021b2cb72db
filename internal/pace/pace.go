// Package pace gives up request bodies that do not come: one that stalls must
// not hold its connection, and what was reserved for it, for ever.
//
// It reads no body itself, and says nothing of how large one may be.
package pace

import (
	"io"
	"net/http"
	"time"
)

// The pace below which a body is given up: Step bytes in Patience. It is far
// below any link that a person would call working.
const (
	Step     = 64 << 10
	Patience = 30 * time.Second
)

// Pacer moves a connection's read deadline on, a step at a time.
type Pacer struct {
	Clock *http.ResponseController
	Now   func() time.Time
	next  int64
}

// At is told how many bytes have come, before each read; each further step buys
// more time.
func (p *Pacer) At(n int64) {
	if n < p.next {
		return
	}
	p.next = n + Step
	_ = p.Clock.SetReadDeadline(p.Now().Add(Patience)) // a test's recorder has no deadlines; a server's connection has
}

// Stop clears the deadline. It must not outlive the body: net/http goes on
// reading behind it to notice a client that leaves.
func (p *Pacer) Stop() { _ = p.Clock.SetReadDeadline(time.Time{}) }

// Reader reads a body at the pace of p. The caller calls p.Stop afterwards.
func (p *Pacer) Reader(body io.Reader) io.Reader { return &reader{p, body, 0} }

type reader struct {
	pacer *Pacer
	body  io.Reader
	n     int64
}

func (r *reader) Read(b []byte) (int, error) {
	r.pacer.At(r.n)
	n, err := r.body.Read(b)
	r.n += int64(n)
	return n, err
}
