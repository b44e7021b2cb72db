package cluster

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/pace"
)

// What a host tells another one of a request. These headers are read on the connections
// between hosts alone, and never taken from a client's request.
const (
	headerID       = "X-Request-Id"
	headerClient   = "X-Forwarded-For"
	headerMethod   = "Sqgate-Method"
	headerUnframed = "Sqgate-Unframed" // the client sent no body, and did not say so
)

// describe tells another host of r what it cannot know. Whatever the client's method is,
// the request is a POST: http.Transport repeats a GET on its own if an answer is lost, and
// a GET can be a write here.
func describe(out, r *http.Request, id string) {
	for _, name := range []string{headerClient, headerMethod, headerUnframed} {
		out.Header.Del(name)
	}
	out.Header.Set(headerID, id)
	out.Header.Set(headerMethod, r.Method)
	out.Method = http.MethodPost
	if client := keylimit.Client(r); client.IsValid() {
		out.Header.Set(headerClient, client.String())
	}
	if r.ContentLength == 0 && len(r.TransferEncoding) == 0 && r.Header.Get("Content-Length") == "" {
		out.Header.Set(headerUnframed, "1")
	}
}

var isID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Received is a request that another host has sent here, as the client sent it there, and
// its id. ok is false if no host sends such a request.
func Received(r *http.Request) (as *http.Request, id string, ok bool) {
	id, method := r.Header.Get(headerID), r.Header.Get(headerMethod)
	if !isID.MatchString(id) || method == "" {
		return r, "", false
	}
	as = r.WithContext(r.Context())
	as.Header = r.Header.Clone()
	as.Method = method
	// All that has no address counts as one client, as on a Unix socket.
	if as.RemoteAddr = "@"; r.Header.Get(headerClient) != "" {
		if client, err := netip.ParseAddr(r.Header.Get(headerClient)); err == nil {
			as.RemoteAddr = net.JoinHostPort(client.String(), "0")
		}
	}
	if r.Header.Get(headerUnframed) != "" {
		as.ContentLength = 0
		as.TransferEncoding = nil
		as.Header.Del("Content-Length")
	}
	for _, name := range []string{headerID, headerClient, headerMethod, headerUnframed} {
		as.Header.Del(name)
	}
	return as, id, true
}

// Accepts says whether this host serves a request that another one has sent here.
func (f *Forwarder) Accepts(ctx context.Context, dir string) (bool, error) {
	return f.Hosts.Accepts(ctx, dir)
}

// RefuseNotOwner tells the host that has sent a request that this one does not own its
// directory, and that nothing was changed. No client ever gets this answer.
func RefuseNotOwner(w http.ResponseWriter) { w.WriteHeader(http.StatusMisdirectedRequest) }

// sending knows whether anything of a request may have been sent.
type sending struct{ begun atomic.Bool }

// trace has it know. A connection that http.Transport takes may turn out to be closed
// already; if nothing could be written to it, it takes another one.
func (s *sending) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { s.begun.Store(true) }})
}

// answerBody is the rest of an answer. Each piece of it has its time, and no turn is held
// while it comes.
type answerBody struct {
	io.ReadCloser
	attempt *attempt
	request *http.Request
}

func (b *answerBody) Read(p []byte) (int, error) {
	fairqueue.FromContext(b.request.Context()).Give()
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.attempt.failed = err
	}
	_ = http.NewResponseController(b.attempt.ResponseWriter).SetWriteDeadline(time.Now().Add(pace.AnswerTime(n))) // a test's recorder has none
	return n, err
}

// bufferPool keeps buffers of one size, one for each answer under way.
type bufferPool struct{ pool sync.Pool }

func newBufferPool(size int) httputil.BufferPool {
	return &bufferPool{sync.Pool{New: func() any { b := make([]byte, size); return &b }}}
}

// Buffers are those of all ReverseProxies, but for eventBuffers, which are held as long as
// somebody listens and get a few lines at a time.
var (
	Buffers      = newBufferPool(32 << 10)
	eventBuffers = newBufferPool(2 << 10)
)

func (c *Call) buffers() httputil.BufferPool {
	if c.Endless {
		return eventBuffers
	}
	return Buffers
}

func (p *bufferPool) Get() []byte  { return *p.pool.Get().(*[]byte) }
func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }
