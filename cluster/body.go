package cluster

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

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

// Kept is how many bytes of the body of a request are read before it is sent on: a small one.
func Kept(r *http.Request) int64 {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength < 0 || r.ContentLength > pace.Step {
		return 0
	}
	return r.ContentLength
}

// readBody reads a small body.
func readBody(r *http.Request) (*body, error) {
	size := Kept(r)
	switch {
	case size > 0:
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		return &body{whole: true}, nil
	default:
		return &body{rest: r.Body}, nil
	}
	kept := make([]byte, size)
	if _, err := io.ReadFull(r.Body, kept); err != nil {
		return nil, errBodyCutShort(err)
	}
	return &body{kept: kept, whole: true}, nil
}

// repeatable says whether it can be sent now.
func (b *body) repeatable() bool { return b.whole || !b.asked.Load() }

// set makes it the body of an outgoing request. A large one waits until the other host
// has said that it wants it.
func (u *upload) set(out *http.Request, length int64) {
	out.ContentLength, out.Body, out.GetBody = length, http.NoBody, nil
	switch {
	case !u.whole:
		out.Body = io.NopCloser(u)
		out.Header.Set("Expect", "100-continue")
	case len(u.kept) > 0:
		out.ContentLength = int64(len(u.kept))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(u.kept)), nil }
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
	return b.rest.Read(p)
}

// upload is a large body in one attempt to send it. http.Transport reads it in a goroutine of
// its own, and goes on when the answer has begun. The client's connection and its turn are the
// handler's again by then: so nothing is read after stop.
type upload struct {
	*body
	client  *http.ResponseController
	reading sync.Mutex // held while the client is waited for
	ended   error      // from the last Read
	stopped atomic.Bool
	over    chan struct{} // closed when the attempt is
}

var errStopped = errors.New("the answer came before the whole body was sent")

func (b *body) upload(w http.ResponseWriter) *upload {
	return &upload{body: b, client: http.NewResponseController(w), over: make(chan struct{})}
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.read(p)
	if u.stopped.Load() && (n > 0 || err != io.EOF) {
		<-u.over // to fail, or to send more, could end the connection on which the answer comes
		return 0, errStopped
	}
	return n, err
}

func (u *upload) read(p []byte) (n int, err error) {
	u.reading.Lock()
	defer u.reading.Unlock()
	if u.ended == nil && !u.stopped.Load() {
		n, u.ended = u.body.Read(p)
	}
	if err = u.ended; err != nil && err != io.EOF && !u.stopped.Load() {
		u.cut.Store(&err)
	}
	return n, err
}

// stop returns when nothing is read any more. If the client is waited for, that is not for
// long.
func (u *upload) stop() {
	u.stopped.Store(true)
	if !u.reading.TryLock() {
		_ = u.client.SetReadDeadline(time.Now().Add(pace.LeftoverTime)) // a test's recorder has none
		u.reading.Lock()
		if u.ended == io.EOF {
			_ = u.client.SetReadDeadline(time.Time{}) // net/http reads on, to notice a client that leaves
		}
	}
	u.reading.Unlock()
}

// end is stop when the attempt is over.
func (u *upload) end() {
	u.stop()
	close(u.over)
}
