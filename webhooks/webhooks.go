// Package webhooks tells receivers of the changes of tenants, by HTTP requests with a
// signature. It reads changes as any listener does, at its own pace, so it never makes a
// write wait; and it connects only to addresses that the operator allows.
//
// Requests are as the Standard Webhooks specification has them (standardwebhooks.com).
package webhooks

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/changes"
	"mirrorborn.us/sqgate/tenants"
)

// Config is what a Service is made of.
type Config struct {
	Tenants func() *tenants.Snapshot // the tenants in force now
	Changes *changes.Service
	Turns   *fairqueue.Queue // for what is computed; nil = it does not wait for a turn
	// Here says whether this host is to serve a tenant now; nil = it always is.
	Here func(ctx context.Context, t *tenants.Tenant) (bool, error)
	// Dial connects to the address HOST:PORT of a receiver, if that is allowed. secure says
	// that TLS is to follow. nil = there are no webhooks.
	Dial func(ctx context.Context, address string, secure bool) (net.Conn, error)
	// StateDir has how far each webhook is. Its parent exists.
	StateDir string
	Count    func(tenant string, r Result) // is called with what became of a request, or a change
	Logger   *slog.Logger
}

// Result is what is counted.
type Result string

// All results. A change may fail many times, and is then delivered or dropped.
const (
	Delivered Result = "delivered" // a change was taken
	Failed    Result = "failed"    // a request was not answered with 2xx
	Dropped   Result = "dropped"   // a change was given up
)

// Limits of what all webhooks may do together, and of one tenant.
const (
	mostAtOnce          = 128 // requests at a time
	mostOfTenant        = 4   // of them
	mostASecond         = 500 // requests begun
	mostOfTenantASecond = 100
	openingAtOnce       = 4  // journals that are opened for the first time: a directory may have to be recovered
	readingPart         = 30 // all together read changes for one in so many parts of the processors
)

// Service delivers the changes of all tenants to their webhooks.
type Service struct {
	Config
	open      func(context.Context, *tenants.Tenant, *tenants.Webhook, string) (feed, error) // another one in tests
	transport http.RoundTripper
	opening   *semaphore.Weighted
	atOnce    *semaphore.Weighted
	pace      *rate.Limiter
	busy      atomic.Int64 // webhooks that do not wait for a change

	mu      sync.Mutex
	ctx     context.Context   // of Run; nil = it does not run
	end     func()            // ends that
	hooks   map[string]*hook  // the last one of each key, which may have ended
	shares  map[string]*share // by Tenant.UniqueID
	swept   bool              // the state directory has nothing of webhooks that are gone
	running sync.WaitGroup
}

// feed is a changes.Feed, or another one in tests.
type feed interface {
	Next(ctx context.Context, turn *fairqueue.Turn, visit func(changes.Change)) (more bool, worked time.Duration, err error)
	News() <-chan struct{}
	Cursor() string
	Moved() bool
}

// share is what one tenant may do.
type share struct {
	atOnce *semaphore.Weighted
	pace   *rate.Limiter
}

// New makes a Service; it starts nothing.
func New(c Config) *Service {
	s := &Service{Config: c, hooks: map[string]*hook{}, shares: map[string]*share{},
		opening: semaphore.NewWeighted(openingAtOnce), atOnce: semaphore.NewWeighted(mostAtOnce), pace: rate.NewLimiter(mostASecond, mostAtOnce)}
	s.open = s.openFeed
	s.transport = newTransport(c.Dial)
	return s
}

// Off says whether the operator wants no webhooks.
func (s *Service) Off() bool { return s.Dial == nil }

// Run delivers changes until ctx ends, or End is called.
func (s *Service) Run(ctx context.Context) {
	if s.Off() {
		return
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	s.mu.Lock()
	s.ctx, s.end = ctx, end
	s.updateLocked()
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.ctx = nil // no webhook begins any more
	s.mu.Unlock()
	s.running.Wait()
}

// End ends all deliveries: this host is about to give its directories away, and must not
// take one over again.
func (s *Service) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		s.end()
	}
}

// Changed is called when other tenants are in force. Whatever is not to be told any more
// is not told from then on, not even if it is on its way.
func (s *Service) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx != nil {
		s.updateLocked()
	}
}

func (s *Service) updateLocked() {
	now := s.Tenants()
	if now.Refusal() != nil {
		return // it is not known which tenants there are
	}
	known, wanted := map[string]bool{}, map[string]*hook{}
	for _, t := range now.All() {
		for _, w := range t.Webhooks() {
			key := keyOf(t, w)
			known[key] = true
			if t.Enabled {
				wanted[key] = &hook{service: s, tenant: t, Webhook: w, key: key}
			}
		}
	}
	for key, h := range s.hooks {
		if w := wanted[key]; w == nil || !w.sameAs(h) {
			h.stopLocked(!known[key])
		}
		if wanted[key] == nil && h.hasEnded() {
			delete(s.hooks, key)
		}
	}
	shares := map[string]*share{}
	for key, h := range wanted {
		id := h.tenant.UniqueID()
		shares[id] = cmp.Or(shares[id], s.shares[id])
		if shares[id] == nil {
			shares[id] = &share{semaphore.NewWeighted(mostOfTenant), rate.NewLimiter(mostOfTenantASecond, mostOfTenant)}
		}
		if before := s.hooks[key]; before == nil || before.stopped {
			h.share = shares[id]
			s.hooks[key] = h
			h.start(s.ctx, before)
		}
	}
	s.shares = shares
	if !s.swept {
		s.swept = true
		s.sweep(known)
	}
}

// openFeed begins to listen behind a cursor, or from now on.
func (s *Service) openFeed(ctx context.Context, t *tenants.Tenant, w *tenants.Webhook, since string) (feed, error) {
	call, err := rewrite.CallOf(rewrite.Changes, rewrite.Tenant{ID: t.ID, SharedDataDir: t.SharedDataDir}, nil, nil)
	if err == nil {
		err = (&rewrite.Scope{Access: rewrite.ReadAccess, Phexts: w.Phexts}).Authorize(call)
	}
	if err != nil {
		return nil, err
	}
	return s.Changes.Open(ctx, t, changes.Selection{Call: call, Since: since, FromNow: true}, s.Turns.Turn(t.ID))
}

// Status is how a webhook does.
type Status struct {
	State         State
	LastDelivered time.Time // since this sqgate began; zero = never
	FailingSince  time.Time // zero = it does not fail
	Error         string    // of the last request, if it fails
}

// State is what a webhook does.
type State string

// All states.
const (
	Active  State = "active"
	Failing State = "failing" // the last request was not taken, and is made again
	Gone    State = "gone"    // the receiver has answered 410, and gets nothing more
	Stopped State = "stopped" // its tenant is not enabled, or webhooks are off
)

// Status is that of a webhook on this host.
func (s *Service) Status(t *tenants.Tenant, w *tenants.Webhook) Status {
	s.mu.Lock()
	h := s.hooks[keyOf(t, w)]
	stopped := h == nil || h.stopped
	s.mu.Unlock()
	if stopped {
		return Status{State: Stopped}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
}

// Lag is, for each tenant with a webhook that runs here, how old the oldest change is that
// a receiver was told of and did not take.
func (s *Service) Lag() map[string]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]time.Duration{}
	for _, h := range s.hooks {
		if h.stopped {
			continue
		}
		h.mu.Lock()
		lag := all[h.tenant.ID]
		if !h.pending.IsZero() {
			lag = max(lag, time.Since(h.pending))
		}
		h.mu.Unlock()
		all[h.tenant.ID] = lag
	}
	return all
}

// sameAs says whether h does what before does.
func (h *hook) sameAs(before *hook) bool {
	t, u := h.tenant, before.tenant
	return reflect.DeepEqual(h.Webhook, before.Webhook) && t.DataDir == u.DataDir && t.SharedDataDir == u.SharedDataDir
}
