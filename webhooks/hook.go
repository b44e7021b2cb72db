package webhooks

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/changes"
	"mirrorborn.us/sqgate/tenants"
)

// hook is a webhook that is told of changes. A goroutine of its own does everything, and
// most of the time waits for a change.
type hook struct {
	service *Service
	tenant  *tenants.Tenant
	*tenants.Webhook
	key   string
	share *share

	// These are the Service's, under its lock.
	stopped bool
	removed bool // nothing is to be left of it
	cancel  context.CancelFunc
	done    chan struct{} // closed when it has ended

	// These are the goroutine's.
	state    state
	dirtyBy  time.Time // when the state has to be saved; zero = it is
	savedAt  time.Time
	saveFail bool // the last time

	mu      sync.Mutex // for these
	status  Status
	pending time.Time // when the change was made that a receiver is told of now; zero = there is none
}

// How long a webhook waits before it looks again.
const (
	lookFirst = time.Second // after its changes could not be read
	lookMost  = time.Minute
	lookAgain = 2 * time.Second  // whether this host is to serve the tenant
	stillHere = 30 * time.Second // whether it still is
)

var errElsewhere = errors.New("another host serves the tenant")

// start has h begin when before, the last one with its key, has ended.
func (h *hook) start(ctx context.Context, before *hook) {
	ctx, h.cancel = context.WithCancel(ctx)
	h.done, h.status.State = make(chan struct{}), Active
	h.service.running.Go(func() {
		if before != nil {
			<-before.done
		}
		h.run(ctx)
		h.service.mu.Lock()
		defer h.service.mu.Unlock()
		if h.removed {
			h.forget()
		}
		close(h.done)
	})
}

// stopLocked ends h, and does not wait. removed says that there is no such
// webhook any more.
func (h *hook) stopLocked(removed bool) {
	h.stopped, h.removed = true, h.removed || removed
	h.cancel()
	if removed && h.hasEnded() {
		h.forget()
	}
}

func (h *hook) hasEnded() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

func (h *hook) run(ctx context.Context) {
	h.state = h.load()
	if h.state.Gone {
		h.setStatus(func(s *Status) { s.State = Gone })
		return
	}
	for pause := lookFirst; ctx.Err() == nil; {
		opened, err := h.follow(ctx)
		switch {
		case errors.Is(err, errGone):
			return
		case errors.Is(err, errElsewhere):
			sleep(ctx, jitter(lookAgain))
			continue
		case opened:
			pause = lookFirst
		}
		if err != nil {
			h.service.Logger.DebugContext(ctx, "the changes for a webhook cannot be read now", h.attributes(slog.Any(logkey.Error, err))...)
			sleep(ctx, jitter(pause))
			pause = min(2*pause, lookMost)
		}
	}
}

// follow tells the receiver of one change after the other, until something is in the
// way. opened says that the changes could be read. Without an error, it goes on at once.
func (h *hook) follow(ctx context.Context) (opened bool, err error) {
	f, err := h.openFeed(ctx)
	if err != nil {
		return false, err
	}
	s := h.service
	s.busy.Add(1)
	defer s.busy.Add(-1)
	defer h.save()
	if !h.state.Resync.IsZero() {
		if _, err := h.deliver(ctx, f, resyncMessage(h.state)); err != nil {
			return true, err
		}
		h.state.Resync, h.dirtyBy = time.Time{}, time.Now()
		h.save()
	}
	turn := s.Turns.Turn(h.tenant.ID)
	for {
		news := f.News() // before the changes are read, so that none is missed
		var batch []changes.Change
		more, worked, err := f.Next(ctx, turn, func(c changes.Change) { batch = append(batch, c) })
		if isLost(err) {
			h.begin("")
			return true, nil
		}
		if err != nil {
			return true, err
		}
		for i := range batch {
			result, err := h.deliver(ctx, f, changeMessage(&batch[i]))
			if err != nil {
				return true, err
			}
			h.moveTo(batch[i].ID, saveEvery)
			if result == Dropped {
				h.begin(batch[i].ID)
			}
			if result == Dropped || result == Failed { // it has taken long: nothing is kept in memory meanwhile
				return true, nil
			}
		}
		h.moveTo(f.Cursor(), savePassed)
		busy := time.Duration(s.busy.Load())
		if worked > 0 && !sleep(ctx, min(lookMost, worked*readingPart*busy/time.Duration(runtime.GOMAXPROCS(0)))) {
			return true, ctx.Err()
		}
		if !more && !h.await(ctx, f, news) {
			return true, cmp.Or(ctx.Err(), errElsewhere)
		}
	}
}

// openFeed begins to read behind the cursor, or from now on if there is none any more.
func (h *hook) openFeed(ctx context.Context) (feed, error) {
	s := h.service
	if s.Here != nil {
		if here, err := s.Here(ctx, h.tenant); !here || err != nil {
			return nil, errElsewhere
		}
	}
	if err := s.opening.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.opening.Release(1)
	f, err := s.open(ctx, h.tenant, h.Webhook, h.state.Cursor)
	if isLost(err) {
		h.begin("")
		f, err = s.open(ctx, h.tenant, h.Webhook, "")
	}
	if err == nil && h.state.Cursor == "" {
		h.begin(f.Cursor())
		h.save()
	}
	return f, err
}

// isLost says whether changes cannot be read from a cursor, now or later.
func isLost(err error) bool {
	e := apierror.From(err)
	return e != nil && (e.Status == http.StatusGone || e.Status == http.StatusBadRequest)
}

// await waits for more changes. It returns false if there is nothing more to wait for.
func (h *hook) await(ctx context.Context, f feed, news <-chan struct{}) bool {
	h.service.busy.Add(-1)
	defer h.service.busy.Add(1)
	for {
		var save, look <-chan time.Time
		if !h.dirtyBy.IsZero() {
			save = time.After(time.Until(h.dirtyBy))
		}
		if h.service.Here != nil {
			look = time.After(stillHere)
		}
		select {
		case <-news:
			return true
		case <-save:
			h.save()
		case <-look:
			if f.Moved() {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}

func (h *hook) setStatus(set func(*Status)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set(&h.status)
}

func (h *hook) attributes(more ...any) []any {
	return append([]any{slog.String(logkey.Tenant, h.tenant.ID), slog.String(logkey.Webhook, h.ID)}, more...)
}

// sleep waits, and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter is d, or up to a quarter less: receivers of many webhooks come back at
// different times.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }
