package proxy

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"mirrorborn.us/sqgate/cluster"
	"mirrorborn.us/sqgate/internal/jwtauth"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/mcp"
	"mirrorborn.us/sqgate/storage/changes"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/storage/reader"
	"mirrorborn.us/sqgate/storage/writer"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// Config is what a Gateway is made of.
type Config struct {
	Tenants     func() *tenants.Snapshot // the tenants in force now
	Dirs        *datadir.Dirs
	Reader      *reader.Reader
	Writer      *writer.Writer
	Changes     *changes.Service
	History     *history.Service
	Ledger      *quota.Ledger // of what tenants use
	Calls       *quota.Calls
	KeyLimit    *keylimit.Limiter       // of wrong keys
	Tokens      *jwtauth.Verifier       // nil = there are none
	PublicLimit *keylimit.Limiter       // of public reads
	Admin       http.Handler            // answers /api/v2/admin/, /api/v2/metrics and /status; nil = nothing does
	OperatorKey func(key string) string // what a key of the operator's is, "" = none; nil = there are none
	// Hosts sends requests to the hosts that own their directories; nil = this one owns
	// all. HostAdmin is Admin for calls that another host has admitted, and RefreshTenants
	// looks for tenants and keys that other hosts have changed.
	Hosts          *cluster.Forwarder
	HostAdmin      http.Handler
	RefreshTenants func(context.Context)
	// Leased says whether this host has its lease in the bucket, without which it serves
	// nothing of its own; nil = there is no bucket.
	Leased func() bool
	// Observe is told of every request when it is done: tenant and operation as
	// far as they were found out, the status, the code of an error, and how long
	// it took.
	Observe func(tenant, op string, status int, code string, took time.Duration)
	// KeyRefused is told of each request of a tenant's further key that was answered with
	// an error, and of the error's code; nil = nobody is.
	KeyRefused func(tenant string, key *tenants.Key, code string)
	// Headers is what large headers may take, by caller, in bytes; nil = it is not limited.
	Headers        *memlimit.Shares
	BackendVersion string // of SQ, for the X-SQ-Backend header; may be empty
	Logger         *slog.Logger
}

// Gateway serves the tenant API.
type Gateway struct {
	Config
	draining atomic.Bool
	refusals refusals
	seed     maphash.Seed // of the choice among strangers
	now      func() time.Time
	began    time.Time
	streams  *streams
	mcp      *mcp.Handler
}

// New makes a Gateway; it starts nothing.
func New(c Config) *Gateway {
	return &Gateway{Config: c, refusals: refusals{lines: rate.NewLimiter(refusedLines, refusedBurst)}, seed: maphash.MakeSeed(), now: time.Now, began: time.Now(), streams: newStreams(), mcp: mcp.New(ServiceVersion)}
}

// Handler is the chain that a client's request walks.
func (g *Gateway) Handler() http.Handler { return g.chain(false) }

// chain is what a request walks, outermost last.
func (g *Gateway) chain(fromHost bool) http.Handler {
	admin := g.Admin
	if fromHost {
		admin = g.HostAdmin
	}
	h := http.Handler(http.HandlerFunc(g.serveCall))
	h = g.withCallLimits(h)
	h = g.withOwner(fromHost, h)
	h = g.withAuthentication(fromHost, h)
	h = g.withoutKey(h)
	h = withCORS(h)
	h = g.withAdmin(admin, h)
	h = withHeaders(commonHeaders, h)
	h = g.withAccessLog(h)
	return h
}

// SetDraining makes /health answer 503, so that a load balancer looks elsewhere, or ends
// that. Requests are served all the same.
func (g *Gateway) SetDraining(draining bool) { g.draining.Store(draining) }
