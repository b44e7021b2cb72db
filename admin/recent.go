package admin

import (
	"sync"
	"time"

	"mirrorborn.us/sqgate/tenants"
)

// recentSlots of slotTime each are the last minutes that the status page shows.
const (
	recentSlots = 60
	slotTime    = 10 * time.Second
)

// slots count something in the last minutes, oldest first. The last slot is not over.
type slots [recentSlots]uint32

// recent counts what was answered in the last minutes, by tenant.
type recent struct {
	mu       sync.RWMutex // guards byTenant
	byTenant map[string]*activity
}

type activity struct {
	mu     sync.Mutex
	newest int64 // number of the last slot since 1970
	calls  slots
	errors slots
}

func newRecent() *recent { return &recent{byTenant: map[string]*activity{}} }

// add counts an answer. The tenant is "" if it is not known.
func (r *recent) add(tenant string, call, failed bool) {
	r.mu.RLock()
	a := r.byTenant[tenant]
	r.mu.RUnlock()
	if a == nil {
		a = r.make(tenant)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moveLocked()
	if call {
		a.calls[recentSlots-1]++
	}
	if failed {
		a.errors[recentSlots-1]++
	}
}

func (r *recent) make(tenant string) *activity {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.byTenant[tenant]
	if a == nil {
		a = &activity{}
		r.byTenant[tenant] = a
	}
	return a
}

// moveLocked makes the last slot the one of now.
func (a *activity) moveLocked() {
	now := time.Now().Unix() / int64(slotTime/time.Second)
	by := min(max(now-a.newest, 0), recentSlots)
	if by == 0 {
		return
	}
	a.newest = now
	for _, s := range []*slots{&a.calls, &a.errors} {
		copy(s[:], s[by:])
		clear(s[recentSlots-by:])
	}
}

func (r *recent) of(tenant string) (calls, errors slots) {
	r.mu.RLock()
	a := r.byTenant[tenant]
	r.mu.RUnlock()
	if a == nil {
		return slots{}, slots{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moveLocked()
	return a.calls, a.errors
}

func (r *recent) forget(tenant string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byTenant, tenant)
}

// keep drops the counts of ids that are no tenant's any more.
func (r *recent) keep(current *tenants.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.byTenant {
		if _, ok := current.ByID(id); !ok && id != "" {
			delete(r.byTenant, id)
		}
	}
}

func (s *slots) add(other slots) {
	for i, n := range other {
		s[i] += n
	}
}
