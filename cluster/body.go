package cluster

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"

	"mirrorborn.us/sqgate/internal/pace"
)

// body is the body of a request that may have to be sent more than once. A small one is
// read first, and can be. A large one is sent while it comes, and can be sent again only
// if nothing of it was asked for.
type body struct {
	kept  []byte // all of it, if it was read
	whole bool   // kept is all of it
	rest  io.Reader
	asked atomic.Bool
	cut   atomic.Pointer[error] // with which the client's own connection ended
}

// readBody reads a small body.
func readBody(r *http.Request) (*body, error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		return &body{whole: true}, nil
	case r.ContentLength < 0 || r.ContentLength > pace.Step:
		return &body{rest: r.Body}, nil
	}
	kept := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, kept); err != nil {
		return nil, errBodyCutShort(err)
	}
	return &body{kept: kept, whole: true}, nil
}

// repeatable says whether it can be sent now.
func (b *body) repeatable() bool { return b.whole || !b.asked.Load() }

// set makes it the body of an outgoing request. A large one waits until the other host
// has said that it wants it.
func (b *body) set(out *http.Request, length int64) {
	out.ContentLength, out.Body, out.GetBody = length, http.NoBody, nil
	switch {
	case !b.whole:
		out.Body = io.NopCloser(b)
		out.Header.Set("Expect", "100-continue")
	case len(b.kept) > 0:
		out.ContentLength = int64(len(b.kept))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.kept)), nil }
		out.Body, _ = out.GetBody() // which never fails
	}
}

// reader is the body for a handler of this host.
func (b *body) reader() io.ReadCloser {
	if b.whole {
		return io.NopCloser(bytes.NewReader(b.kept))
	}
	return io.NopCloser(b)
}

// Read reads from a large body.
func (b *body) Read(p []byte) (int, error) {
	b.asked.Store(true)
	n, err := b.rest.Read(p)
	if err != nil && err != io.EOF {
		b.cut.Store(&err)
	}
	return n, err
}
