package sqclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
)

// Reads is an http.RoundTripper that has the child of one directory answer
// reads. Address and key of a request are the child's, whatever stands in it.
// An answer is in memory as a whole when RoundTrip returns, so that a client
// that is slow to take it keeps nobody waiting; its memory is given back when
// the body is closed. An answer other than 200 is a StatusError.
type Reads struct {
	Client *Client
	Dir    string
	Reload *rewrite.Call // SQ has to read the phext of this call again first; nil = not
}

// RoundTrip sends r. A child that accepts no connection has seen nothing, so
// the next one is tried, once.
func (t *Reads) RoundTrip(r *http.Request) (*http.Response, error) {
	out, err := outgoing(r)
	if err != nil {
		return nil, err
	}
	held := t.Client.Hold(t.Dir)
	body, err := t.read(r.Context(), out, held)
	if errors.Is(err, ErrUnreached) {
		body, err = t.read(r.Context(), out, held)
	}
	if err != nil {
		held.Release()
		return nil, err
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, ContentLength: int64(len(body)), Request: r,
		Body: &heldBody{bytes.NewReader(body), held},
	}, nil
}

// outgoing reads the whole body of r before SQ sees a byte of it.
func outgoing(r *http.Request) (rewrite.Outgoing, error) {
	out := rewrite.Outgoing{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery}
	if strings.ContainsAny(out.Query, " \r\n") {
		return out, errors.New("the query of a request to SQ has white space in it")
	}
	if r.Body == nil {
		return out, nil
	}
	body, err := io.ReadAll(r.Body)
	out.Body = body
	return out, errors.Join(err, r.Body.Close())
}

func (t *Reads) read(ctx context.Context, out rewrite.Outgoing, held *memlimit.Reservation) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	child, err := t.Client.Lease(ctx, t.Dir)
	if err != nil {
		return nil, err
	}
	if t.Reload != nil {
		err = child.Load(ctx, t.Reload)
	}
	if err == nil {
		body, err = child.Do(ctx, out, held)
	}
	if apierror.IsTimeout(err) && !errors.Is(err, ErrUnreached) {
		child.End(nil) // a read that is merely slow says nothing against the child
	} else {
		child.End(err)
	}
	return body, err
}

// heldBody gives the memory of an answer back when it is closed.
type heldBody struct {
	*bytes.Reader
	held *memlimit.Reservation
}

func (b *heldBody) Close() error {
	b.held.Release()
	return nil
}
