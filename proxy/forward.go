package proxy

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"

	"mirrorborn.us/sqgate/cluster"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/reader"
)

// forward has SQ answer a read. What SQ gets is the request that was built from
// the call, and of its answer the client gets the body alone.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, dir *datadir.Dir, call *rewrite.Call) error {
	var failed error
	proxy := httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { rebuild(p.Out, call.Outgoing()) },
		Transport:      &reader.Forward{Reader: g.Reader, Dir: dir, Tenant: infoOf(r).tenant, Call: call},
		ModifyResponse: func(resp *http.Response) error { return g.dress(w, resp, call) },
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
		ErrorLog:       slog.NewLogLogger(g.Logger.Handler(), slog.LevelDebug),
		BufferPool:     cluster.Buffers,
	}
	bare := *r // ReverseProxy looks at headers of the client's before Rewrite
	bare.Header = http.Header{}
	proxy.ServeHTTP(w, &bare)
	if failed != nil {
		info := infoOf(r)
		g.Logger.LogAttrs(r.Context(), slog.LevelWarn, "the database did not answer",
			slog.String(logkey.Request, info.id), slog.String(logkey.Tenant, info.tenant.ID),
			slog.String(logkey.Op, string(call.Op)), slog.String(logkey.DataDir, dir.Path), slog.Any(logkey.Error, failed))
	}
	return failed
}

// rebuild makes r the request that was built, and nothing of the client's.
func rebuild(r *http.Request, out rewrite.Outgoing) {
	r.Method, r.Header, r.Host = out.Method, http.Header{}, ""
	r.URL = &url.URL{Scheme: "http", Host: "sq", Path: out.Path, RawQuery: out.Query}
	r.Body, r.ContentLength = http.NoBody, int64(len(out.Body))
	if len(out.Body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(out.Body))
	}
}

// dress makes SQ's answer the one that the client gets.
func (g *Gateway) dress(w http.ResponseWriter, resp *http.Response, call *rewrite.Call) error {
	if call.Op == rewrite.Load || call.Op == rewrite.Status { // these are small; others go as they are
		held := resp.Body // its memory is given back when it is closed
		body, err := io.ReadAll(held)
		if err != nil {
			return err
		}
		body = call.Answer(body)
		resp.ContentLength = int64(len(body))
		resp.Body = struct {
			io.Reader
			io.Closer
		}{bytes.NewReader(body), held}
	}
	g.setWriteDeadline(w, int(resp.ContentLength))
	resp.Header = http.Header{"Content-Length": {strconv.FormatInt(resp.ContentLength, 10)}}
	return nil
}
