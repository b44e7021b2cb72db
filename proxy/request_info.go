package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"hash/maphash"
	"log/slog"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// requestInfo is what is known of a request on its way through the chain. Each
// link fills in what it finds out. It is the request's context as well, so that
// both are one allocation.
type requestInfo struct {
	context.Context                 // the client's, without its end
	client          context.Context // ends with the connection
	meter           meter
	turn            *fairqueue.Turn

	began time.Time
	id    string
	path  string // without a path key, which must not be logged
	access
	op   rewrite.Op
	code string // slug of the error answered, if any
	body []byte // if it was read

	sender string // the client's address, of a public read

	counted bool   // an Uncounted call has been counted, or what it asks for
	leave   func() // gives the place in the directory back, for what it asks for; nil = it asks for nothing

	onMoved func() // called instead of an answer if the directory is another host's now; nil = that is an error
	sentOn  bool   // another host answers, and counts
}

// strangers are the owners of the turns of requests without a key, and of those of which it
// is not known yet whose they are: one letter each, which is no tenant's id. The address
// decides which, so that one address does not keep all others waiting. They are few, so that
// many addresses do not keep the tenants waiting.
const strangers = "ABCDEFGHIJKLMNOP"

func (g *Gateway) stranger(r *http.Request) string {
	n := maphash.Comparable(g.seed, keylimit.Sender(r)) % uint64(len(strangers))
	return strangers[n : n+1]
}

// These begin the owner of the turns of what outsiders must not hold up. They begin no
// tenant's id.
const (
	probes     = "*probes" // of whether sqgate lives, and the status page
	management = "*management"
	watchdog   = "*watchdog"
)

type requestInfoKey struct{}

// Value finds the requestInfo itself.
func (i *requestInfo) Value(key any) any {
	if key == (requestInfoKey{}) {
		return i
	}
	return i.Context.Value(key)
}

// publicReaders are the group of datadir.Dir.Enter that has no key. It is no tenant's id.
const publicReaders = "*"

// group is that of datadir.Dir.Enter.
func (i *requestInfo) group() string {
	switch {
	case i.isPublic():
		return publicReaders
	case i.tenant.SharedDataDir, i.caller != i.tenant:
		return i.caller.ID
	}
	return ""
}

// recipient is as whom the answer counts. Without a key, that is the client's address, in
// all directories: few of them cannot keep the others out.
func (i *requestInfo) recipient() rewrite.Recipient {
	if i.caller == nil {
		return rewrite.Recipient{Group: i.group(), Caller: publicReaders + i.sender}
	}
	return rewrite.Recipient{Group: i.group(), Caller: i.caller.ID}
}

// owner is whose places the request takes on its way to another host. They are the caller's.
// Without one, they are those of all public reads of the tenant.
func (i *requestInfo) owner() string {
	if i.caller == nil {
		return publicReaders + i.tenant.ID
	}
	return i.caller.ID
}

// keyName is the key as the history has it: the id of a key of Tenant.Keys, or else the
// fingerprint.
func (i *requestInfo) keyName() string {
	if i.scoped != nil {
		return i.scoped.ID
	}
	return tenants.Fingerprint(i.key)
}

func infoOf(r *http.Request) *requestInfo { return r.Context().Value(requestInfoKey{}).(*requestInfo) }

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
		turn := fairqueue.FromContext(r.Context())
		turn.SetOwner(g.stranger(r))
		info := &requestInfo{Context: context.WithoutCancel(r.Context()), client: r.Context(), meter: meter{ResponseWriter: w, turn: turn}, turn: turn, began: g.now(), id: requestID(r), path: path}
		w.Header()["X-Request-Id"] = []string{info.id}
		defer func() { g.done(r, info, g.now().Sub(info.began)) }()
		next.ServeHTTP(&info.meter, r.WithContext(info))
	})
}

func (g *Gateway) done(r *http.Request, info *requestInfo, took time.Duration) {
	id := ""
	if info.tenant != nil {
		id = info.tenant.ID
	}
	if g.Observe != nil && !info.sentOn {
		g.Observe(id, string(info.op), info.meter.status, info.code, took)
	}
	if g.KeyRefused != nil && info.scoped != nil && info.code != "" {
		if t, ok := g.Tenants().ByID(id); ok && !t.Archived {
			g.KeyRefused(id, info.scoped, info.code)
		}
	}
	g.logInfo(r, info, took)
}

// RequestLine is the message of the line that each request leaves in the log.
const RequestLine = "request"

// mostAttrs is how many attributes a line of the access log has at most.
const mostAttrs = 11

func (g *Gateway) logInfo(r *http.Request, info *requestInfo, took time.Duration) {
	attrs := append(make([]slog.Attr, 0, mostAttrs),
		slog.String(logkey.Request, info.id),
		slog.String(logkey.Remote, keylimit.RemoteHost(r)),
		slog.String(logkey.Method, knownMethod(r.Method)),
		slog.Int(logkey.Status, info.meter.status),
		slog.Int64(logkey.Bytes, info.meter.bytes),
		slog.Duration(logkey.Duration, took),
	)
	if info.tenant != nil {
		attrs = append(attrs, slog.String(logkey.Tenant, info.tenant.ID))
	}
	if info.caller != nil && info.caller != info.tenant {
		attrs = append(attrs, slog.String(logkey.Caller, info.caller.ID))
	}
	if info.scoped != nil {
		attrs = append(attrs, slog.String(logkey.Key, info.scoped.ID))
	}
	if info.isPublic() {
		attrs = append(attrs, slog.Bool(logkey.Public, true))
	}
	if info.op != "" {
		attrs = append(attrs, slog.String(logkey.Op, string(info.op)))
	}
	if info.code != "" {
		attrs = append(attrs, slog.String(logkey.Code, info.code))
	}
	level := slog.LevelInfo
	if info.isProbe() {
		level = slog.LevelDebug // every few seconds, of systemd's watchdog among others
	}
	g.logRequest(r.Context(), level, info.began.Add(took), attrs)
}

// isProbe says whether somebody asked only whether sqgate lives, and it does.
func (i *requestInfo) isProbe() bool {
	op, _ := rewrite.Keyless(i.path)
	return op == rewrite.Health && i.meter.status == http.StatusOK
}

// logRequest is Logger.LogAttrs without its look for the source line, which is
// the same for all requests.
func (g *Gateway) logRequest(ctx context.Context, level slog.Level, at time.Time, attrs []slog.Attr) {
	h := g.Logger.Handler()
	if !h.Enabled(ctx, level) {
		return
	}
	line := slog.NewRecord(at, level, RequestLine, 0)
	line.AddAttrs(attrs...)
	_ = h.Handle(ctx, line) // as Logger does: a log that cannot be written has nobody to tell
}

type receivedIDKey struct{}

// withReceivedID has a request keep the id that another host has given it.
func withReceivedID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, receivedIDKey{}, id)
}

func requestID(r *http.Request) string {
	if id, ok := r.Context().Value(receivedIDKey{}).(string); ok {
		return id
	}
	return NewRequestID()
}

// NewRequestID is an X-Request-Id: 16 hexadecimal digits.
func NewRequestID() string {
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

// meter counts what a handler answers, and has it answer in its turn.
type meter struct {
	http.ResponseWriter
	turn   *fairqueue.Turn
	status int
	bytes  int64
}

func (m *meter) WriteHeader(status int) {
	m.takeTurn()
	if m.status == 0 {
		m.status = status
	}
	m.ResponseWriter.WriteHeader(status)
}

func (m *meter) Write(b []byte) (int, error) {
	m.takeTurn()
	if m.status == 0 {
		m.status = http.StatusOK
	}
	n, err := m.ResponseWriter.Write(b)
	m.bytes += int64(n)
	return n, err
}

// takeTurn waits only for what others compute and send in their turns.
func (m *meter) takeTurn() { _ = m.turn.Take(context.Background()) }

// Unwrap lets http.ResponseController reach the connection's deadlines.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }
