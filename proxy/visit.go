package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// visit is what is known of a request on its way through the chain, filled in
// as it is found out. It is the request's context at the same time, so that one
// request needs one.
type visit struct {
	context.Context // the client's, without its end
	meter           meter

	began  time.Time
	id     string
	path   string // without a path key, which must not be logged
	tenant *tenants.Tenant
	key    string // the one that was given; for its fingerprint alone
	op     rewrite.Op
	code   string // slug of the error answered, if any
}

type visitKey struct{}

// Value finds the visit itself.
func (v *visit) Value(key any) any {
	if key == (visitKey{}) {
		return v
	}
	return v.Context.Value(key)
}

func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) }

// Log keys.
const (
	keyRequest  = "request"
	keyRemote   = "remote"
	keyTenant   = "tenant"
	keyOp       = "op"
	keyMethod   = "method"
	keyStatus   = "status"
	keyCode     = "code"
	keyBytes    = "bytes"
	keyDuration = "duration"
	keyDataDir  = "data_dir"
	keyError    = "error"
)

// withAccessLog gives each request an id and writes one line when it is done.
// The line has no key, no scroll, no path and no query: all of those can hold
// secrets or data.
//
// From here on a request is not cancelled when its client closes its sending
// side, as firmware and `nc` do when they have said what they want: net/http
// cannot tell that from a client that has gone. Every wait behind this has a
// limit of its own.
func (g *Gateway) withAccessLog(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := rewrite.SplitPathKey(r.URL.Path)
		v := &visit{Context: context.WithoutCancel(r.Context()), meter: meter{ResponseWriter: w}, began: g.now(), id: newRequestID(), path: path}
		w.Header()["X-Request-Id"] = []string{v.id}
		defer func() { g.done(r, v, g.now().Sub(v.began)) }()
		next.ServeHTTP(&v.meter, r.WithContext(v))
	})
}

func (g *Gateway) done(r *http.Request, v *visit, took time.Duration) {
	id := ""
	if v.tenant != nil {
		id = v.tenant.ID
	}
	if g.config.Observer != nil {
		g.config.Observer.Served(id, string(v.op), v.meter.status, v.code, took)
	}
	g.logVisit(r, v, took)
}

// RequestLine is the message of the line that each request leaves in the log.
const RequestLine = "request"

// mostAttrs is how many attributes a line of the access log has at most.
const mostAttrs = 9

func (g *Gateway) logVisit(r *http.Request, v *visit, took time.Duration) {
	attrs := append(make([]slog.Attr, 0, mostAttrs),
		slog.String(keyRequest, v.id),
		slog.String(keyRemote, keylimit.RemoteHost(r)),
		slog.String(keyMethod, knownMethod(r.Method)),
		slog.Int(keyStatus, v.meter.status),
		slog.Int64(keyBytes, v.meter.bytes),
		slog.Duration(keyDuration, took),
	)
	if v.tenant != nil {
		attrs = append(attrs, slog.String(keyTenant, v.tenant.ID))
	}
	if v.op != "" {
		attrs = append(attrs, slog.String(keyOp, string(v.op)))
	}
	if v.code != "" {
		attrs = append(attrs, slog.String(keyCode, v.code))
	}
	g.logRequest(r.Context(), v.began.Add(took), attrs)
}

// logRequest is Logger.LogAttrs without its look for the source line, which is
// the same for all requests.
func (g *Gateway) logRequest(ctx context.Context, at time.Time, attrs []slog.Attr) {
	h := g.log.Handler()
	if !h.Enabled(ctx, slog.LevelInfo) {
		return
	}
	line := slog.NewRecord(at, slog.LevelInfo, RequestLine, 0)
	line.AddAttrs(attrs...)
	_ = h.Handle(ctx, line) // as Logger does: a log that cannot be written has nobody to tell
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails: it ends the process instead
	var text [2 * len(b)]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

// knownMethod keeps a client from writing its own words into the log.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return m
	}
	return "other"
}

// meter counts what a handler answers.
type meter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (m *meter) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
	}
	m.ResponseWriter.WriteHeader(status)
}

func (m *meter) Write(b []byte) (int, error) {
	if m.status == 0 {
		m.status = http.StatusOK
	}
	n, err := m.ResponseWriter.Write(b)
	m.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection's deadlines.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }
