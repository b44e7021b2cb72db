package proxy

import (
	"io"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/storage/datadir"
)

// The pace below which a body is given up: a step of bodyStep bytes in
// bodyPatience. It is far below any link that a person would call working.
const (
	bodyStep     = 64 << 10
	bodyPatience = 30 * time.Second
)

// readBody reads the whole body before SQ sees a byte of it: legacy SQ stores
// a short body as it is and chunked framing as text (LEGACY.md). The memory is
// reserved in held, which the caller releases.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request, held *memlimit.Reservation) ([]byte, error) {
	if r.ContentLength > g.Dirs.MaxBody {
		return nil, errBodyTooLarge(g.Dirs.MaxBody)
	}
	pace := pacer{clock: http.NewResponseController(w), now: g.now}
	defer pace.stop()
	buf := make([]byte, 0, firstSize(r.ContentLength))
	for {
		// A small body is not counted: large ones must not keep it out, and
		// there are no more of them than requests.
		if cap(buf) > bodyStep && !held.Grow(int64(cap(buf))) {
			return nil, datadir.ErrBusy
		}
		pace.at(len(buf))
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > g.Dirs.MaxBody:
			return nil, errBodyTooLarge(g.Dirs.MaxBody)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, errBodyCutShort(err)
		}
		buf = roomFor(buf, g.Dirs.MaxBody)
	}
}

// pacer moves a connection's read deadline on, a step at a time.
type pacer struct {
	clock *http.ResponseController
	now   func() time.Time
	next  int
}

// at is told how much has come; each further step buys more time.
func (p *pacer) at(n int) {
	if n < p.next {
		return
	}
	p.next = n + bodyStep
	_ = p.clock.SetReadDeadline(p.now().Add(bodyPatience)) // a test's recorder has no deadlines; a server's connection has
}

// stop clears the deadline. It must not outlive the body: net/http goes on
// reading behind it to notice a client that leaves.
func (p *pacer) stop() { _ = p.clock.SetReadDeadline(time.Time{}) }

// firstSize is the first allocation: what is announced, but no more than one
// step, since announcing costs a client nothing.
func firstSize(announced int64) int {
	if announced < 0 || announced >= bodyStep {
		return bodyStep
	}
	return int(announced) + 1 // one more, so that the end is seen without growing
}

// roomFor doubles a full buffer, up to one byte more than the largest body.
func roomFor(buf []byte, largest int64) []byte {
	if len(buf) < cap(buf) {
		return buf
	}
	bigger := make([]byte, len(buf), min(2*int64(cap(buf)), largest+1))
	copy(bigger, buf)
	return bigger
}
