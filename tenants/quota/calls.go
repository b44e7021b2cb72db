package quota

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/tenants"
)

// CallStats counts a tenant's calls.
type CallStats struct {
	Today      int64     `json:"calls"` // since midnight UTC
	Day        string    `json:"day"`   // the day of Today, as in 2026-01-31
	LastActive time.Time `json:"last_active"`
}

// Calls counts authenticated calls and enforces the limits on them. Counts
// survive a restart; a kill loses those of the last few seconds.
type Calls struct {
	path   string // file with the counts; "" = they are not kept
	log    *slog.Logger
	mu     sync.RWMutex        // guards byID
	saving sync.Mutex          // held while the file is written; locked before mu
	forgot bool                // a counter was dropped, which is not saved
	byID   map[string]*counter // by Tenant.UniqueID
}

type counter struct {
	mu       sync.Mutex
	stats    CallStats
	limiters [classes]*rate.Limiter // nil = no limit yet
	dirty    bool                   // stats are not saved
	day      int64                  // stats.Day in days since 1970; 0 if it is not known yet
}

// saveEvery bounds how many counts a kill loses.
const saveEvery = 3 * time.Second

// OpenCalls reads the counts of the last run. If that fails it logs the error and
// starts from zero, because counts are no reason not to serve.
func OpenCalls(path string, log *slog.Logger) *Calls {
	c := &Calls{path: path, log: log, byID: map[string]*counter{}}
	text, err := fsutil.ReadFile(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return c
	}
	var kept map[string]CallStats
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		log.Warn("the counts of calls could not be read, and begin anew", keyFile, path, keyError, err)
		if errors.Is(err, fs.ErrPermission) {
			_ = os.Remove(path) // another user's file could not be replaced; if it stays, saving fails and is logged
		}
		return c
	}
	for id, stats := range kept {
		c.byID[id] = &counter{stats: stats}
	}
	return c
}

func (c *Calls) counter(id string) *counter {
	c.mu.RLock()
	n, ok := c.byID[id]
	c.mu.RUnlock()
	if ok {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok = c.byID[id]; !ok {
		n = &counter{}
		c.byID[id] = n
	}
	return n
}

// Class is a kind of calls that has a limit a minute of its own.
type Class int

const (
	Reads Class = iota // that are not Lists
	Writes
	Lists   // list and search, which look through a whole phext
	NoClass // a call of no operation

	allCalls // of every class
	classes
)

// Uncounted is the class of what makes calls of its own, which are admitted instead. It is
// none for Admit.
const Uncounted Class = -1

// perMinute is the limit of a class, or 0, and what its calls are called.
func (class Class) perMinute(t *tenants.Tenant) (limit int, of string) {
	switch class {
	case Reads:
		return t.ReadsPerMinute, "reads"
	case Writes:
		return t.WritesPerMinute, "writes"
	case Lists:
		return t.ListsPerMinute, "lists and searches"
	}
	return 0, ""
}

// Admit counts a call and refuses it with a *LimitError if it is one too many.
// Refused calls count for the day, and do not use up the next minute.
func (c *Calls) Admit(t *tenants.Tenant, class Class, now time.Time) error {
	n := c.counter(t.UniqueID())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rollLocked(now)
	n.stats.Today++
	n.stats.LastActive = now.UTC()
	n.dirty = true
	if t.CallsPerDay > 0 && n.stats.Today > int64(t.CallsPerDay) {
		return &LimitError{Limit: t.CallsPerDay, Of: "calls", Per: "day", RetryAfter: untilMidnight(now)}
	}
	limit, of := class.perMinute(t)
	all, waitAll := n.reserveLocked(allCalls, t.RequestsPerMinute, now)
	one, waitOne := n.reserveLocked(class, limit, now)
	if waitAll == 0 && waitOne == 0 {
		return nil
	}
	one.CancelAt(now)
	all.CancelAt(now)
	if waitAll >= waitOne {
		return &LimitError{Limit: t.RequestsPerMinute, Of: "calls", Per: "minute", RetryAfter: waitAll}
	}
	return &LimitError{Limit: limit, Of: of, Per: "minute", RetryAfter: waitOne}
}

// rollLocked starts a new count at midnight UTC.
func (n *counter) rollLocked(now time.Time) {
	day := now.Unix() / (24 * 60 * 60)
	if day == n.day && day != 0 {
		return
	}
	n.day = day
	if day := now.UTC().Format(time.DateOnly); day != n.stats.Day {
		n.stats.Day, n.stats.Today = day, 0
	}
}

func untilMidnight(now time.Time) time.Duration {
	now = now.UTC()
	return time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, time.UTC).Sub(now)
}

// reserveLocked takes a place in the limit of a class, and is how long it is until then.
// 0 is no limit, of which there is nothing to cancel.
func (n *counter) reserveLocked(class Class, perMinute int, now time.Time) (r rate.Reservation, wait time.Duration) {
	if perMinute == 0 {
		n.limiters[class] = nil
		return rate.Reservation{}, 0
	}
	if l := n.limiters[class]; l == nil || l.Burst() != perMinute {
		n.limiters[class] = rate.NewLimiter(rate.Limit(float64(perMinute)/60), perMinute)
	}
	r = *n.limiters[class].ReserveN(now, 1)
	return r, r.DelayFrom(now)
}

// Of returns the tenant's counts now.
func (c *Calls) Of(t *tenants.Tenant, now time.Time) CallStats {
	n := c.counter(t.UniqueID())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rollLocked(now)
	return n.stats
}

// Left is how many calls a tenant may make now: at once, of all kinds and of each, and
// today. What has no limit is 0.
type Left struct{ Requests, Reads, Writes, Lists, Today int }

// Left returns what is left of the tenant's limits.
func (c *Calls) Left(t *tenants.Tenant, now time.Time) Left {
	n := c.counter(t.UniqueID())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rollLocked(now)
	return Left{
		Requests: n.leftLocked(allCalls, t.RequestsPerMinute, now),
		Reads:    n.leftLocked(Reads, t.ReadsPerMinute, now),
		Writes:   n.leftLocked(Writes, t.WritesPerMinute, now),
		Lists:    n.leftLocked(Lists, t.ListsPerMinute, now),
		Today:    int(max(0, int64(t.CallsPerDay)-n.stats.Today)),
	}
}

func (n *counter) leftLocked(class Class, perMinute int, now time.Time) int {
	if l := n.limiters[class]; l != nil && l.Burst() == perMinute {
		return max(0, int(l.TokensAt(now)))
	}
	return perMinute // nothing was asked for yet
}

// Continue has the tenant's counts go on from those of another host, unless they are
// those of an earlier day or lower than the ones here.
func (c *Calls) Continue(t *tenants.Tenant, before CallStats, now time.Time) {
	n := c.counter(t.UniqueID())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rollLocked(now)
	if before.Day == n.stats.Day && before.Today > n.stats.Today {
		n.stats.Today, n.dirty = before.Today, true
	}
	if before.LastActive.After(n.stats.LastActive) {
		n.stats.LastActive, n.dirty = before.LastActive.UTC(), true
	}
}

// Run saves the counts every few seconds and when ctx ends, whose error it
// returns.
func (c *Calls) Run(ctx context.Context) error {
	every := time.NewTicker(saveEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			c.save()
			return ctx.Err()
		case <-every.C:
			c.save()
		}
	}
}

// Forget drops the counts of a tenant for good.
func (c *Calls) Forget(t *tenants.Tenant) { c.ForgetID(t.UniqueID()) }

// ForgetID is Forget for a tenant by its UniqueID.
func (c *Calls) ForgetID(of string) {
	c.mu.Lock()
	delete(c.byID, of)
	c.forgot = true
	c.mu.Unlock()
	c.save()
}

// save writes the counts if they have changed.
func (c *Calls) save() {
	c.saving.Lock()
	defer c.saving.Unlock()
	all, dirty := c.snapshot()
	if !dirty || c.path == "" {
		return
	}
	text, err := json.Marshal(all)
	if err == nil {
		err = fsutil.Replace(c.path, string(text), 0o600, true)
	}
	if err != nil {
		c.log.Warn("the counts of calls could not be saved", keyFile, c.path, keyError, err)
	}
}

func (c *Calls) snapshot() (all map[string]CallStats, dirty bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirty, c.forgot = c.forgot, false
	all = make(map[string]CallStats, len(c.byID))
	for id, n := range c.byID {
		n.mu.Lock()
		dirty = dirty || n.dirty
		n.dirty = false
		all[id] = n.stats
		n.mu.Unlock()
	}
	return all, dirty
}
