package proxy

import (
	"io"
	"net/http"
	"unsafe"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/internal/pace"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/datadir"
)

// readBody reads the whole body before SQ sees a byte of it: legacy SQ stores
// a short body as it is and chunked framing as text (LEGACY.md). The memory is
// reserved in held, which the caller releases. largest is in bytes.
func (g *Gateway) readBody(r *http.Request, held *memlimit.Reservation, largest int64) ([]byte, error) {
	if r.ContentLength > largest {
		return nil, errBodyTooLarge(largest)
	}
	announced := r.ContentLength
	buf := make([]byte, 0, firstSize(announced))
	for came := pace.Came(r); ; {
		// What came with the header is not counted: others must not keep it out, and
		// there is no more of it than internal/http1 reads of a request.
		if cap(buf) > uncounted && !came && !held.Grow(int64(cap(buf))) {
			return nil, datadir.ErrBusy
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > largest:
			return nil, errBodyTooLarge(largest)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, errBodyCutShort(err)
		}
		buf = roomFor(buf, announced, largest, fairqueue.FromContext(r.Context()).Pace())
	}
}

// uncounted is the memory for a body, in bytes, up to which it is not counted. It is no more
// than net/http has for each connection.
const uncounted = 4 << 10

// firstSize is the first allocation: what is announced, but no more than one
// step, since announcing costs a client nothing.
func firstSize(announced int64) int {
	switch {
	case announced < 0:
		return uncounted
	case announced >= pace.Step:
		return pace.Step
	}
	return int(announced) + 1 // one more, so that the end is seen without growing
}

// believed is which part of a body must have come before the rest that is announced gets
// its memory at once. Then little is copied, and nobody gets far more than was sent.
const believed = 16

// roomFor doubles a full buffer, up to one byte more than the largest body. One byte more
// than is announced is enough.
func roomFor(buf []byte, announced, largest int64, pace phext.Pace) []byte {
	if len(buf) < cap(buf) {
		return buf
	}
	size := min(2*int64(cap(buf)), largest+1)
	if announced <= believed*int64(len(buf)) && announced >= int64(len(buf)) {
		size = announced + 1
	}
	return grown(buf, size, pace)
}

// grown is buf with room for so many bytes. A strings.Builder does not fill it with
// zeros, which would be one long step.
func grown(buf []byte, size int64, pace phext.Pace) []byte {
	bigger := phext.Builder{Pace: pace}
	bigger.Grow(int(size))
	_, _ = bigger.WriteString(unsafe.String(unsafe.SliceData(buf), len(buf))) // which never fails
	return unsafe.Slice(unsafe.StringData(bigger.String()), bigger.Cap())[:len(buf)]
}
