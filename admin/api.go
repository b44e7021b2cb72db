// Package admin is what the operator talks to: the management API, the audit
// log, the metrics and the status page.
//
// It changes tenants only by editing the tenants file, and shows a key only in
// the answer to the call that made it. It never serves a tenant's request, and
// never touches a tenant's files while a request or an SQ process could use them.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/cluster"
	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/nearest"
	"mirrorborn.us/sqgate/storage/archive"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	hosts "mirrorborn.us/sqgate/storage/host"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
	"mirrorborn.us/sqgate/webhooks"
)

// Config is what an API is made of. All fields are needed but MetricsKey.
type Config struct {
	Key        string // the management key
	MetricsKey string // reads the metrics and nothing else; "" = only Key does
	KeyLimit   *keylimit.Limiter
	Store      *tenants.Store
	Ledger     *quota.Ledger
	Calls      *quota.Calls
	Dirs       *datadir.Dirs
	History    *history.Service
	Webhooks   *webhooks.Service
	Children   *supervisor.Supervisor
	Leaving    func(dataDir string) bool // whether what was written there by a tenant that has lost it is not all on the disk
	Metrics    http.Handler              // answers GET /api/v2/metrics
	DataRoot   string                    // where the directories of added tenants are made
	ArchiveDir string                    // where the archives of deleted tenants are kept
	// ArchiveMark is the file that notes which directory that is.
	ArchiveMark string
	Links       fsutil.Links // the symbolic links that are followed in data directories; nil = none
	AuditFile   string
	JournalDir  string   // whose size the status page shows
	Counts      *Metrics // has the last minutes
	// BucketStatus is nil without a bucket, and BucketSizes lists all of it. InitBucket
	// puts what is served without one into a bucket.
	BucketStatus func() *BucketStatus
	BucketSizes  func(context.Context) ([]BucketSize, error)
	InitBucket   func(ctx context.Context, to BucketPlace, report func(hosts.Progress)) error
	// Hosts sends calls to other hosts, and Directories hands directories over to them. Both
	// are nil if this host is alone. Draining is told whether this host is to be left alone.
	Hosts       *cluster.Forwarder
	Directories *hosts.Directories
	Draining    func(bool)
	// MayPurge says why a tenant may not be purged now; nil = all may.
	MayPurge func(*tenants.Tenant) error
	Logger   *slog.Logger
}

// API answers the management calls. It is an http.Handler.
type API struct {
	Config
	key       [sha256.Size]byte // checksum of the management key
	metrics   [sha256.Size]byte // checksum of the metrics key
	archives  *archive.Store
	deletions deletions
	audit     *auditLog
	mux       *http.ServeMux
	now       func() time.Time

	listeners *semaphore.Weighted // of streams of events
	ending    chan struct{}       // closed when streams are to end
	endOnce   sync.Once
	storage   storageCache
	filling   sync.Mutex // held while a bucket is filled
}

// New makes an API and opens the audit log.
func New(c Config) (*API, error) {
	audit, err := openAudit(c.AuditFile)
	if err != nil {
		return nil, err
	}
	a := &API{Config: c, key: sha256.Sum256([]byte(c.Key)), metrics: sha256.Sum256([]byte(c.MetricsKey)), audit: audit, now: time.Now, mux: http.NewServeMux(),
		listeners: semaphore.NewWeighted(mostListeners), ending: make(chan struct{})}
	a.archives = archive.New(c.ArchiveDir, a.now)
	a.archives.Links, a.archives.Mark = c.Links, c.ArchiveMark
	a.routes()
	return a, nil
}

// Close closes the audit log.
func (a *API) Close() error { return a.audit.close() }

func (a *API) routes() {
	const tenants = "/api/v2/admin/tenants"
	for pattern, h := range map[string]handler{
		"POST " + tenants + "/add":                a.addTenant,
		"GET " + tenants:                          a.listTenants,
		"GET " + tenants + "/{id}":                a.atOwner(a.showTenant),
		"GET " + tenants + "/{id}/stats":          a.atOwner(a.showTenant),
		"GET " + tenants + "/{id}/logs":           a.atOwner(a.showLogs),
		"PATCH " + tenants + "/{id}":              a.changeTenant,
		"POST " + tenants + "/{id}/rotate-key":    a.rotateKey,
		"DELETE " + tenants + "/{id}":             a.atOwner(a.deleteTenant),
		"POST " + tenants + "/{id}/restore":       a.atOwner(a.restore),
		"POST " + tenants + "/{id}/purge":         a.atOwner(a.purgeTenant),
		"GET " + tenants + "/{id}/keys":           a.listKeys,
		"POST " + tenants + "/{id}/keys":          a.addKey,
		"DELETE " + tenants + "/{id}/keys/{key}":  a.revokeKey,
		"GET " + tenants + "/{id}/history":        a.atOwner(a.showHistory),
		"GET " + tenants + "/{id}/backup":         a.atOwner(a.backup),
		"POST " + tenants + "/{id}/move":          a.atOwner(a.moveTenant),
		"POST /api/v2/admin/reload":               a.reload,
		"GET /api/v2/admin/events":                a.sendEvents,
		"GET /api/v2/admin/bucket":                a.showBucket,
		"POST /api/v2/admin/bucket/init":          a.initBucket,
		"GET /api/v2/admin/hosts":                 a.listHosts,
		"POST /api/v2/admin/hosts/{name}/drain":   a.drain(true),
		"POST /api/v2/admin/hosts/{name}/undrain": a.drain(false),

		"GET " + tenants + "/{id}/webhooks":              a.atOwner(a.listWebhooks),
		"POST " + tenants + "/{id}/webhooks":             a.addWebhook,
		"DELETE " + tenants + "/{id}/webhooks/{webhook}": a.removeWebhook,
	} {
		if strings.Contains(pattern, tenants) || strings.HasSuffix(pattern, "/bucket/init") {
			h = a.inForce(h)
		}
		a.mux.Handle(pattern, a.answer(withParameters(map[string][]string{
			"GET " + tenants:                    {"status", "idle_since"},
			"GET " + tenants + "/{id}/history":  {"phext", "coordinate", "after", "limit"},
			"POST " + tenants + "/{id}/restore": {"dry_run", "phext", "from"},
			"GET /api/v2/admin/events":          {"once"},
			"GET /api/v2/admin/bucket":          {"sizes"},
		}[pattern], h)))
	}
	a.mux.Handle("GET "+metricsPath, a.Metrics)
}

const metricsPath = "/api/v2/metrics"

var errNoCall = apierror.New(apierror.NotFound, "there is no such management call: GET /api/v2/openapi.json describes those that there are")

// handler answers one call, or returns an error and has answered nothing.
type handler func(w http.ResponseWriter, r *http.Request) error

func (a *API) answer(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.fail(w, err)
		}
	})
}

// withParameters refuses parameters that a call does not have, or has twice: what was
// misspelt may be the one that keeps a call from changing anything.
func withParameters(known []string, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return badRequest("the query cannot be read: %v", err)
		}
		for name, values := range query {
			switch {
			case !slices.Contains(known, name):
				return badRequest("there is no parameter %.80q here%s", name, nearest.DidYouMean(name, "", known))
			case len(values) > 1:
				return badRequest("parameter %q is given %d times: give it once", name, len(values))
			}
		}
		return h(w, r)
	}
}

// inForce refuses calls about tenants while it is not known which there are, and says
// all that is wrong.
func (a *API) inForce(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if refusal := a.Store.Current().Refusal(); refusal != nil {
			return apierror.RetryIn(refusal.RetryAfter, refusal.Kind, "no tenant is served until the tenants file is mended, which takes effect by itself: %v", a.Store.Status().Err)
		}
		return h(w, r)
	}
}

// ServeHTTP checks the management key first: without it, not even a 404 says which
// calls there are. Only a path that is not clean is 404 before that, because it
// is no management path at all. The ServeMux would redirect it.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != path.Clean(r.URL.Path) {
		a.fail(w, errNoCall)
		return
	}
	if r.URL.Path == pagePath {
		a.servePage(w)
		return
	}
	if err := a.authenticate(r); err != nil {
		a.fail(w, err)
		return
	}
	if _, pattern := a.mux.Handler(r); pattern == "" || a.isAdd(r) {
		a.fail(w, a.noRoute(r))
		return
	}
	a.mux.ServeHTTP(w, r)
}

func (a *API) authenticate(r *http.Request) error {
	key := keyOf(r.Header)
	switch a.WhoseKey(key) {
	case ofManagement:
		return nil
	case ofMetrics:
		if r.URL.Path == metricsPath {
			return nil
		}
		return apierror.New(apierror.Forbidden, "this is the %s: the management API takes the management key", ofMetrics)
	}
	_, own := a.Store.Current().ByKey(key, a.now())
	if _, _, further := a.Store.Current().ByScopedKey(key); own || further {
		return apierror.New(apierror.Forbidden, "this is a tenant's API key: the management API takes the management key")
	}
	if wait := a.KeyLimit.Count(r); wait > 0 {
		return apierror.RetryIn(wait, apierror.RateLimited, "too many wrong keys from this address: try again later, with the right one")
	}
	return apierror.New(apierror.Unauthorized, "the management key is missing or wrong: send it as 'Authorization: Bearer ADMINKEY'")
}

// What the operator's keys are called, and are for.
const (
	ofManagement = "management key, which is for the calls below /api/v2/admin/"
	ofMetrics    = "metrics key, which reads " + metricsPath + " and nothing else"
)

// WhoseKey says what a key of the operator's is and is for, or "" if it is none.
func (a *API) WhoseKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	switch {
	case subtle.ConstantTimeCompare(sum[:], a.key[:]) == 1:
		return ofManagement
	case a.MetricsKey != "" && subtle.ConstantTimeCompare(sum[:], a.metrics[:]) == 1:
		return ofMetrics
	}
	return ""
}

// keyOf reads the key from Authorization, with or without Bearer, or from
// X-Admin-API-Key.
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

// keyFingerprint names the caller in the audit log and in the history.
func (a *API) keyFingerprint() string { return hex.EncodeToString(a.key[:4]) }

const addPath = "/api/v2/admin/tenants/add"

// isAdd says whether a call is meant to add a tenant, with a method that would look for
// one named add.
func (a *API) isAdd(r *http.Request) bool {
	_, named := a.Store.Current().ByID("add")
	return r.URL.Path == addPath && r.Method != http.MethodPost && !named
}

// noRoute tells a wrong path from a wrong method.
func (a *API) noRoute(r *http.Request) error {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := a.mux.Handler(other); pattern != "" && !a.isAdd(other) {
			allow = append(allow, method)
		}
	}
	if allow == nil {
		return errNoCall
	}
	hint := ""
	if r.Method == http.MethodPost && r.URL.Path+"/add" == addPath {
		hint = ": POST " + addPath + " adds a tenant"
	}
	e := apierror.New(apierror.WrongMethod, "this management call takes %s%s", strings.Join(allow, ", "), hint)
	e.Allow = allow
	return e
}

func (a *API) reload(w http.ResponseWriter, r *http.Request) error {
	if err := a.Store.Reload(); err != nil {
		return apierror.New(apierror.Conflict, "%s", err)
	}
	n := a.Store.Current().Len()
	a.record(r, "reload", "", nil, n)
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"status": "reloaded", "tenants": n})
	return nil
}
