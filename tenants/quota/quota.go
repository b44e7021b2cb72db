package quota

import (
	"fmt"
	"path/filepath"

	"mirrorborn.us/sqgate/tenants"
)

// ExceededError is a write that would take a tenant past what it may have.
type ExceededError struct {
	Used, Quota, Needed int64 // bytes; Needed is the use after the write
	Phexts, MaxPhexts   int   // set if it is the number of phexts
}

func (e *ExceededError) Error() string {
	if e.MaxPhexts > 0 {
		return fmt.Sprintf("the tenant has %d phexts, and %d is the most it may have: delete one, or ask the operator for more", e.Phexts, e.MaxPhexts)
	}
	return fmt.Sprintf("the quota is %d bytes, %d are used, and this write would make it %d: delete something, or ask the operator for more", e.Quota, e.Used, e.Needed)
}

// DiskError is a write that could run the file system out of space.
type DiskError struct {
	Free, Needed int64 // bytes
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("the disk has %d bytes left for this, and SQ could need %d to write the phext: nothing was changed; the operator has to make room", max(0, e.Free), e.Needed)
}

// Write is a mutation of one phext before SQ has seen it.
type Write struct {
	File  string // base name of the phext's file
	Size  int64  // of the file now, in bytes; -1 if there is none
	After int64  // size of the file after the write, in bytes
	// Removes is a delete: it always passes, for it is the way back from a full quota.
	Removes bool
}

// Reservation is a write that has been let through.
type Reservation struct {
	ledger *Ledger
	tenant *tenants.Tenant
	file   string
	disk   *diskClaim
}

// Reserve lets a write through, or refuses it with a *ExceededError or a
// *DiskError, before anything is written. The caller has the tenant's
// directory to itself until it has called Settle.
func (l *Ledger) Reserve(t *tenants.Tenant, w Write) (*Reservation, error) {
	a, err := l.ready(t)
	if err != nil {
		return nil, err
	}
	if err := a.admit(t, w); err != nil {
		return nil, err
	}
	r := &Reservation{ledger: l, tenant: t, file: w.File}
	if r.disk, err = l.claim(t, w); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.writing = true
	a.mu.Unlock()
	return r, nil
}

// grows says whether the write makes the file larger.
func (w Write) grows() bool { return !w.Removes && w.After > max(0, w.Size) }

// claim finds room on the disk for a file that grows. A write that shrinks the
// file always passes.
func (l *Ledger) claim(t *tenants.Tenant, w Write) (*diskClaim, error) {
	if !w.grows() {
		return nil, nil
	}
	return l.disks.claim(t.DataDir, w.After)
}

// admit refuses a write that the tenant's quota has no room for.
func (a *account) admit(t *tenants.Tenant, w Write) error {
	a.mu.Lock()
	use := a.use
	a.mu.Unlock()
	if !w.Removes && w.Size < 0 && use.Phexts >= t.MaxPhexts {
		return &ExceededError{Phexts: use.Phexts, MaxPhexts: t.MaxPhexts}
	}
	needed := use.Bytes - max(0, w.Size) + w.After
	if w.grows() && t.QuotaBytes > 0 && needed > t.QuotaBytes {
		return &ExceededError{Used: use.Bytes, Quota: t.QuotaBytes, Needed: needed}
	}
	return nil
}

// Release takes the file as it is now into account and returns the part of the
// quota that is used, 0 if there is none.
func (r *Reservation) Release() float64 {
	r.ledger.disks.release(r.disk)
	a := r.ledger.account(r.tenant)
	size := sizeOf(filepath.Join(r.tenant.DataDir, r.file))
	a.mu.Lock()
	a.writing = false
	if a.use.Phexts == 0 && size >= 0 {
		r.ledger.Refresh() // the directory may be new, and not watched yet
	}
	a.note(r.file, size)
	use := a.use
	part := fraction(use, r.tenant)
	cross := a.crossing(part)
	a.mu.Unlock()
	if cross {
		r.ledger.log.Warn("a tenant's quota is nearly used up", keyTenant, r.tenant.ID, "used_bytes", use.Bytes, "quota_bytes", r.tenant.QuotaBytes)
	}
	return part
}

func fraction(use Use, t *tenants.Tenant) float64 {
	if t.QuotaBytes == 0 {
		return 0
	}
	return float64(use.Bytes) / float64(t.QuotaBytes)
}

// The part of a quota at which one warning is logged, and the one below which
// the next may be.
const (
	warnAbove  = 0.90
	rearmBelow = 0.85
)

// crossing says whether it is time to warn, once for each crossing.
func (a *account) crossing(part float64) bool {
	switch {
	case part < rearmBelow:
		a.warned = false
	case part >= warnAbove && !a.warned:
		a.warned = true
		return true
	}
	return false
}
