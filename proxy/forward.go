package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/supervisor"
)

// passage is one call on its way to a child and back.
type passage struct {
	gateway *Gateway
	client  http.ResponseWriter
	call    *rewrite.Call
	dir     *dir
	reload  bool              // SQ must read the file again first
	sent    bool              // a child may have seen the call
	finish  func() error      // is told that SQ answered 200; its error makes that a failure
	failed  func()            // is told that it did not; may be nil
	lease   *supervisor.Lease // of the present attempt
	err     error             // why the present attempt failed
}

type passageKey struct{}

func passageOf(r *http.Request) *passage { return r.Context().Value(passageKey{}).(*passage) }

// errUnreached is a child that could not be connected to: it has seen nothing
// of the call, so that the call may be tried on the next child.
var errUnreached = errors.New("the child did not accept a connection")

// forward sends a call to the child of its directory. One that has reached a
// child is never sent again: insert appends, and SQ may have done it.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, p *passage) error {
	p.gateway, p.client = g, w
	err := g.attempt(r.Context(), p)
	if errors.Is(err, errUnreached) {
		err = g.attempt(r.Context(), p)
	}
	if err != nil {
		if p.failed != nil {
			p.failed()
		}
		g.logFailure(r, p, err)
	}
	return err
}

func (g *Gateway) logFailure(r *http.Request, p *passage, err error) {
	v := visitOf(r)
	g.log.LogAttrs(r.Context(), slog.LevelWarn, "the database did not answer",
		slog.String(keyRequest, v.id), slog.String(keyTenant, v.tenant.ID),
		slog.String(keyOp, string(p.call.Op)), slog.String(keyDataDir, p.dir.path), slog.Any(keyError, err))
}

func (g *Gateway) attempt(ctx context.Context, p *passage) error {
	ctx, cancel := context.WithTimeout(ctx, g.config.BackendTimeout)
	defer cancel()
	lease, err := g.config.Children.Lease(ctx, p.dir.path)
	if err != nil {
		return err
	}
	p.lease, p.err = lease, nil
	ctx = context.WithValue(ctx, passageKey{}, p)
	if p.reload {
		if err := g.loadFirst(ctx, p); err != nil {
			return p.ended(err)
		}
	}
	p.sent = true
	g.reverse.ServeHTTP(p.client, blankRequest(ctx))
	p.sent = !errors.Is(p.err, errUnreached)
	return p.err
}

// blankRequest is what the reverse proxy is given in place of the client's
// request, so that nothing of that one can get through.
func blankRequest(ctx context.Context) *http.Request {
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{}, Body: http.NoBody}
	return r.WithContext(ctx)
}

// loadFirst has SQ read a phext that somebody else may have changed: SQ would
// answer from memory, and write that memory over the change (LEGACY.md).
func (g *Gateway) loadFirst(ctx context.Context, p *passage) error {
	resp, err := g.reverse.Transport.RoundTrip(p.call.BuildLoad(p.lease.Addr(), p.lease.Key()).WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return refusedBySQ(resp.StatusCode)
	}
	return nil
}

// newReverseProxy makes the one proxy that every call goes through.
func newReverseProxy(patience time.Duration) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: newTransport(patience),
		Rewrite: func(pr *httputil.ProxyRequest) {
			p := passageOf(pr.In)
			pr.Out = p.call.Build(p.lease.Addr(), p.lease.Key()).WithContext(pr.Out.Context())
		},
		ModifyResponse: func(resp *http.Response) error { return passageOf(resp.Request).arrived(resp) },
		ErrorHandler:   func(_ http.ResponseWriter, r *http.Request, err error) { p := passageOf(r); p.err = p.ended(err) },
	}
}

// newTransport is for a backend that closes every connection without saying
// so: a pooled connection would be dead, and the default transport repeats a
// GET on it, which for SQ may be a second insert (LEGACY.md).
func newTransport(patience time.Duration) http.RoundTripper { return newWire(patience) }

// ended ends the present attempt. The child is suspect, unless it was sqgate
// that had no room for the answer, or a read that was merely slow.
func (p *passage) ended(err error) error {
	var dial *net.OpError
	switch {
	case errors.Is(err, errBusy), isTimeout(err) && !p.call.Op.Mutates(), isRefusal(err):
		p.lease.Release()
	case errors.As(err, &dial) && dial.Op == "dial":
		p.lease.Retire("it accepts no connections")
		err = errUnreached
	default:
		p.lease.Retire("an exchange with it failed")
	}
	p.lease = nil
	return err
}

// refusedBySQ is an answer other than 200, by its status.
type refusedBySQ int

func (e refusedBySQ) Error() string { return "SQ answered " + strconv.Itoa(int(e)) }

// isRefusal says whether SQ is well and merely did not want the call. A 401 is
// none: that was not our child, or not our key.
func isRefusal(err error) bool {
	var status refusedBySQ
	return errors.As(err, &status) && status >= 400 && status < 500 && status != http.StatusUnauthorized
}

// arrived takes SQ's answer whole, so that a client that is slow to read does
// not keep the child or the directory's turn, and makes it sqgate's own.
func (p *passage) arrived(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return refusedBySQ(resp.StatusCode)
	}
	held := &share{of: []*budget{p.gateway.answers}}
	body, err := readAnswer(resp, held)
	if err != nil {
		held.release()
		return err
	}
	if err := p.finish(); err != nil {
		held.release()
		return err
	}
	p.lease.Release()
	p.lease = nil
	p.gateway.paceAnswer(p.client, len(body))
	p.dress(resp, p.call.Answer(body), held)
	return nil
}

func readAnswer(resp *http.Response, held *share) ([]byte, error) {
	if resp.ContentLength < 0 {
		return nil, errors.New("SQ's answer has no Content-Length")
	}
	if !held.grow(resp.ContentLength) {
		return nil, errBusy
	}
	body := make([]byte, resp.ContentLength)
	_, err := io.ReadFull(resp.Body, body)
	return body, err
}

// dress replaces SQ's headers, all of them, by none: the chain has set what a client gets.
func (p *passage) dress(resp *http.Response, body []byte, held *share) {
	_ = resp.Body.Close() // it was read to its end
	resp.Header = http.Header{"Content-Length": {strconv.Itoa(len(body))}}
	resp.ContentLength = int64(len(body))
	resp.Body = &heldBody{Reader: bytes.NewReader(body), held: held}
}

// heldBody gives its memory back when the client has it.
type heldBody struct {
	*bytes.Reader
	held *share
}

func (b *heldBody) Close() error { b.held.release(); return nil }
