package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/storage/archive"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// Config is what an API is made of.
type Config struct {
	Key        string // the management key
	Store      *tenants.Store
	Ledger     *quota.Ledger
	Calls      *quota.Calls
	Children   *supervisor.Supervisor
	Metrics    http.Handler
	DataRoot   string // where added tenants get their directories
	ArchiveDir string // where archives of deleted tenants go
	AuditFile  string
	Logger     *slog.Logger
	Dirs       *datadir.Dirs
	History    *history.Service
	KeyLimit   *keylimit.Limiter // counts wrong management keys
}

// API answers the management calls.
type API struct {
	Config
	key      [sha256.Size]byte
	archives *archive.Store
	audit    *auditLog
	mux      *http.ServeMux
	now      func() time.Time
}

// New makes the API; it opens the audit log.
func New(c Config) (*API, error) {
	audit, err := openAudit(c.AuditFile)
	if err != nil {
		return nil, err
	}
	a := &API{Config: c, key: sha256.Sum256([]byte(c.Key)), audit: audit, now: time.Now, mux: http.NewServeMux()}
	a.archives = archive.New(c.ArchiveDir, a.now)
	a.routes()
	return a, nil
}

// Close closes the audit log.
func (a *API) Close() error { return a.audit.close() }

// handler answers one call, or returns what is wrong with it.
type handler func(w http.ResponseWriter, r *http.Request) error

func (a *API) routes() {
	const tenants = "/api/v2/admin/tenants"
	for pattern, h := range map[string]handler{
		"POST " + tenants + "/add":             a.addTenant,
		"GET " + tenants:                       a.listTenants,
		"GET " + tenants + "/{id}":             a.showTenant,
		"GET " + tenants + "/{id}/stats":       a.showTenant,
		"GET " + tenants + "/{id}/logs":        a.showLogs,
		"PATCH " + tenants + "/{id}":           a.changeTenant,
		"POST " + tenants + "/{id}/rotate-key": a.rotateKey,
		"DELETE " + tenants + "/{id}":          a.deleteTenant,
		"POST " + tenants + "/{id}/restore":    a.restore,
		"GET " + tenants + "/{id}/history":     a.showHistory,
		"GET " + tenants + "/{id}/backup":      a.backup,
		"POST /api/v2/admin/reload":            a.reload,
	} {
		a.mux.Handle(pattern, a.answering(h))
	}
	if a.Metrics != nil {
		a.mux.Handle("GET /api/v2/metrics", a.Metrics)
	}
}

func (a *API) answering(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.refuse(w, err)
		}
	})
}

// ServeHTTP lets nobody pass without the management key, not even to a 404.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := a.authenticate(r); err != nil {
		a.refuse(w, err)
		return
	}
	if _, pattern := a.mux.Handler(r); pattern == "" {
		a.refuse(w, a.unrouted(r))
		return
	}
	a.mux.ServeHTTP(w, r)
}

func (a *API) authenticate(r *http.Request) error {
	key := keyOf(r.Header)
	sum := sha256.Sum256([]byte(key))
	if subtle.ConstantTimeCompare(sum[:], a.key[:]) == 1 {
		return nil
	}
	if _, ok := a.Store.Current().ByKey(key, a.now()); ok {
		return &problem{status: http.StatusForbidden, code: "forbidden", message: "this is a tenant's API key: the management API takes the management key"}
	}
	if wait := a.KeyLimit.Failed(r); wait > 0 {
		return &problem{status: http.StatusTooManyRequests, code: "rate_limited", retryAfter: wait, message: "too many wrong keys from this address: try again later, with the right one"}
	}
	return &problem{status: http.StatusUnauthorized, code: "unauthorized", message: "the management key is missing or wrong: send it as 'Authorization: Bearer ADMINKEY'"}
}

// keyOf takes the key from Authorization, with or without Bearer, or from X-Admin-API-Key.
func keyOf(h http.Header) string {
	value := strings.TrimSpace(h.Get("Authorization"))
	if value == "" {
		return strings.TrimSpace(h.Get("X-Admin-API-Key"))
	}
	if scheme, key, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(key)
	}
	return value
}

// unrouted tells a wrong path from a wrong method.
func (a *API) unrouted(r *http.Request) error {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := a.mux.Handler(other); pattern != "" {
			allow = append(allow, method)
		}
	}
	if allow == nil {
		return &problem{status: http.StatusNotFound, code: "not_found", message: "there is no such management call"}
	}
	return &problem{status: http.StatusMethodNotAllowed, code: "method_not_allowed", allow: allow, message: "this management call takes " + strings.Join(allow, ", ")}
}

// who is the caller in the audit log: a fingerprint of the key.
func (a *API) who() string { return hex.EncodeToString(a.key[:4]) }

func (a *API) reload(w http.ResponseWriter, r *http.Request) error {
	if err := a.Store.Reload(); err != nil {
		return &problem{status: http.StatusConflict, code: "conflict", message: err.Error()}
	}
	n := a.Store.Current().Len()
	a.record(r, "reload", "", nil, n)
	writeJSON(w, http.StatusOK, map[string]any{"status": "reloaded", "tenants": n})
	return nil
}
