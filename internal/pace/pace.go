// Package pace bounds how long the body of a request may hold its connection,
// whoever answers the request, and however much of the body that reads. It also says
// how long an answer may take.
//
// It says nothing of how large a body may be.
package pace

import (
	"errors"
	"io"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
)

// The pace below which a body is given up: Step bytes in Patience. It is far
// below any link that a person would call working.
const (
	Step     = 64 << 10
	Patience = 30 * time.Second
)

// AnswerTime is how long a client may take to receive an answer of so many bytes, or
// a part of one: Patience, and a second more for each 16 KiB.
func AnswerTime(bytes int) time.Duration {
	return Patience + time.Duration(bytes/(16<<10))*time.Second
}

// What is read of a body that nobody wants. Most clients look at the answer only
// when they have sent everything, and never see it if the connection is reset
// before.
const (
	LeftoverBytes = 128 << 20
	LeftoverTime  = 5 * time.Second
)

// Bodies has next read bodies at their pace, and reads what next leaves of them
// before the answer is sent. A connection on which more is left ends with the answer.
func Bodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		b := &body{ReadCloser: r.Body, clock: http.NewResponseController(w), turn: fairqueue.FromContext(r.Context())}
		b.allow(Patience)
		a := &answer{ResponseWriter: w, request: r, body: b}
		paced := *r // net/http looks at the body of its own r
		paced.Body = b
		next.ServeHTTP(a, &paced)
		a.discardBody()
	})
}

// answer has the rest of the body read before anything is sent. Otherwise net/http
// would read it then, with the turn that the handler has for sending.
type answer struct {
	http.ResponseWriter
	request *http.Request
	body    *body
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	a.discardBody()
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.discardBody()
	return a.ResponseWriter.Write(p)
}

func (a *answer) discardBody() {
	if a.body.ended || !time.Now().Before(a.body.until) {
		return
	}
	fairqueue.FromContext(a.request.Context()).Give() // others must not wait for this client
	a.body.discard(a.request.Header.Get("Expect") == "" || a.body.n > 0)
	if !a.body.ended {
		a.Header().Set("Connection", "close")
	}
}

// body moves the read deadline of its connection on, a step at a time.
type body struct {
	io.ReadCloser
	clock *http.ResponseController
	turn  *fairqueue.Turn // lets others go first while much is read
	n     int64           // bytes that have come
	next  int64           // value of n that buys more time
	until time.Time
	ended bool
	came  bool // before the handler began
}

// Came says whether the whole body of a request that Bodies has passed on is in memory
// already, so that nobody waits for the client.
func Came(r *http.Request) bool {
	b, ok := r.Body.(*body)
	return ok && b.came
}

func (b *body) Read(p []byte) (int, error) {
	if b.n >= b.next {
		b.next = b.n + Step
		b.allow(Patience)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), fairqueue.Piece)])
	b.turn.Worked(n)
	b.n += int64(n)
	b.ended = err != nil
	if err == io.EOF {
		b.setDeadline(time.Time{}) // net/http reads on, to notice a client that leaves
	}
	return n, err
}

// discard reads what is left. If it is not all, the deadline has then passed, and
// net/http closes the connection instead of waiting. A body that the client keeps
// back until it is invited is not read, because that would invite it.
func (b *body) discard(invited bool) {
	if invited {
		b.allow(LeftoverTime)
		if _, err := io.CopyN(io.Discard, b.turn.Reader(b.ReadCloser), LeftoverBytes); err == io.EOF {
			b.ended = true
			b.setDeadline(time.Time{})
			return
		}
	}
	b.allow(-time.Second)
}

func (b *body) allow(d time.Duration) { b.setDeadline(time.Now().Add(d)) }

func (b *body) setDeadline(t time.Time) {
	b.until = t
	b.came = errors.Is(b.clock.SetReadDeadline(t), http.ErrNotSupported) // internal/http1 has read the body of its requests
}
