package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// Directory finds tenants; it is a *tenants.Store in service.
type Directory interface {
	Current() *tenants.Snapshot
}

// Children lends the SQ process of a data directory; it is a
// *supervisor.Supervisor in service.
type Children interface {
	Lease(ctx context.Context, dir string) (*supervisor.Lease, error)
	// Clear returns when no process serves the directory.
	Clear(ctx context.Context, dir, reason string) error
}

// Observer is told of every request when it is done, for metrics.
type Observer interface {
	// Served is told the tenant's id and the operation as far as they were
	// found out, the status, the slug of an error, and how long it took.
	Served(tenant, op string, status int, code string, took time.Duration)
}

// Config is what a Gateway is made of.
type Config struct {
	Tenants        Directory
	Children       Children
	Ledger         *quota.Ledger
	Calls          *quota.Calls
	Journal        *journal.Set
	ReadMemory     int64 // bytes for parsed phexts; 0 = SQ answers the reads that it gets right
	Observer       Observer
	KeyLimit       *keylimit.Limiter // counts wrong API keys
	Admin          http.Handler      // answers /api/v2/admin/ and /api/v2/metrics; nil = nothing does
	MaxBody        int64             // largest request body, in bytes
	BackendTimeout time.Duration     // longest wait for SQ's answer; 0 = 5 minutes
	BackendVersion string            // legacy version, for the X-SQ-Backend header; may be empty
	Logger         *slog.Logger
}

// defaultBackendTimeout is long because legacy SQ is: opening a phext of
// 20,000 scrolls takes it 18 s (LEGACY.md).
const defaultBackendTimeout = 5 * time.Minute

// How many bodies, and answers, of the largest size may be in memory at once.
const (
	bodiesAtOnce  = 8
	answersAtOnce = 4
	// tenantsPart is the part of all bodies that those of one data directory may take.
	tenantsPart = 4
)

// Gateway serves the tenant API.
type Gateway struct {
	config   Config
	log      *slog.Logger
	dirs     dirTable
	files    files
	pages    *cache.Cache
	nothing  *cache.Version
	bodies   *budget // request bodies being held
	answers  *budget // answers of SQ being held
	outgoing *outgoing
	wire     *wire
	draining atomic.Bool
	now      func() time.Time
}

// New makes a Gateway; it starts nothing.
func New(c Config) *Gateway {
	if c.BackendTimeout == 0 {
		c.BackendTimeout = defaultBackendTimeout
	}
	g := &Gateway{
		config:  c,
		log:     c.Logger,
		dirs:    newDirTable(),
		files:   newFiles(),
		nothing: cache.Missing(),
		bodies:  newBudget(bodiesAtOnce * c.MaxBody),
		answers: newBudget(answersAtOnce * max(c.MaxBody, cache.Largest)),
		now:     time.Now,
	}
	g.outgoing = newOutgoing(g.answers)
	g.pages = cache.New(c.ReadMemory, g.admitFile)
	g.wire = newWire(c.BackendTimeout)
	return g
}

// Handler is the whole chain a request walks, outermost last.
func (g *Gateway) Handler() http.Handler {
	h := http.Handler(http.HandlerFunc(g.serveCall))
	h = g.limited(h)
	h = g.authenticated(h)
	h = g.withAdmin(h)
	h = g.withHealth(h)
	h = withPreflight(h)
	h = withCommonHeaders(h)
	h = g.withAccessLog(h)
	return h
}

// Hold keeps everybody out of a data directory until release is called: no
// request is at its child, and none begins. Its files are in order.
func (g *Gateway) Hold(ctx context.Context, dataDir string) (release func(), err error) {
	d := g.dir(dataDir)
	release, err = d.write(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.settleHeld(ctx, d); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// Drain makes /health answer 503, so that a load balancer looks elsewhere
// while the requests in flight finish.
func (g *Gateway) Drain() { g.draining.Store(true) }
