package quota

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/tenants"
)

// LimitError is a call past what the tenant may make.
type LimitError struct {
	Limit      int
	Per        string // "minute" or "day"
	RetryAfter time.Duration
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("this tenant may make %d calls a %s: try again in %v", e.Limit, e.Per, e.RetryAfter.Round(time.Second))
}

// CallStats is what a tenant's calls come to.
type CallStats struct {
	Today      int64     `json:"calls"` // since midnight UTC
	Day        string    `json:"day"`   // the day that Today is about
	LastActive time.Time `json:"last_active"`
}

// Calls counts authenticated calls and holds tenants to their limits. The
// counts survive a restart, and a kill up to the last few seconds.
type Calls struct {
	path string // of the file that keeps the counts; "" keeps none
	log  *slog.Logger
	mu   sync.RWMutex
	byID map[string]*counter
}

type counter struct {
	mu      sync.Mutex
	stats   CallStats
	limiter *rate.Limiter
	dirty   bool
	day     int64 // the day that stats.Day spells, in days since 1970; 0 if that was not looked at
}

// saveEvery bounds what a kill loses.
const saveEvery = 3 * time.Second

// OpenCalls reads the counts of the last run. A file that cannot be read is
// logged and begun anew: counts are no reason not to serve.
func OpenCalls(path string, log *slog.Logger) *Calls {
	c := &Calls{path: path, log: log, byID: map[string]*counter{}}
	text, err := os.ReadFile(path)
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
			_ = os.Remove(path) // a file of another user could not be replaced; saving logs it if it is still there
		}
		return c
	}
	for id, stats := range kept {
		c.byID[id] = &counter{stats: stats}
	}
	return c
}

func (c *Calls) of(id string) *counter {
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

// Admit counts a call, and refuses it with a *LimitError if it is one too
// many. A call that is refused has been made, and counts.
func (c *Calls) Admit(t *tenants.Tenant, now time.Time) error {
	n := c.of(t.ID)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.roll(now)
	n.stats.Today++
	n.stats.LastActive = now.UTC()
	n.dirty = true
	if t.CallsPerDay > 0 && n.stats.Today > int64(t.CallsPerDay) {
		return &LimitError{Limit: t.CallsPerDay, Per: "day", RetryAfter: untilMidnight(now)}
	}
	if wait := n.wait(t.RequestsPerMinute, now); wait > 0 {
		return &LimitError{Limit: t.RequestsPerMinute, Per: "minute", RetryAfter: wait}
	}
	return nil
}

// roll begins a new day at midnight UTC.
func (n *counter) roll(now time.Time) {
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

// wait is how long until the next call may be made, 0 if this one may.
func (n *counter) wait(perMinute int, now time.Time) time.Duration {
	if perMinute == 0 {
		n.limiter = nil
		return 0
	}
	if n.limiter == nil || n.limiter.Burst() != perMinute {
		n.limiter = rate.NewLimiter(rate.Limit(float64(perMinute)/60), perMinute)
	}
	r := n.limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now) // a refused call takes nothing from the next minute
	}
	return wait
}

// Of is what the tenant's calls come to now.
func (c *Calls) Of(id string, now time.Time) CallStats {
	n := c.of(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.roll(now)
	return n.stats
}

// Run saves the counts every few seconds, and once more when ctx ends.
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

// save writes the counts if there are new ones.
func (c *Calls) save() {
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
	c.mu.RLock()
	defer c.mu.RUnlock()
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
