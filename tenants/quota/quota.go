package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

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

// diskMargin is left free beyond what the writes in flight could need, in
// bytes: for directories, journals and others' files.
const diskMargin = 1 << 20

// disks keeps writes from running a file system out of space. SQ truncates a
// phext before it writes it again and does not look at the result, so that on a
// full disk it would answer 200 and keep a part (LEGACY.md).
//
// What is claimed is the whole of each file being written: while it is
// truncated, its room counts as free, and somebody else could take it.
type disks struct {
	mu      sync.Mutex
	claimed map[uint64]int64 // by device
	free    func(dir string) (int64, error)
}

// diskClaim is one write's part.
type diskClaim struct {
	device uint64
	bytes  int64
}

func newDisks() *disks { return &disks{claimed: map[uint64]int64{}, free: freeBytes} }

func (d *disks) claim(dir string, size int64) (*diskClaim, error) {
	dir = existing(dir)
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	device := info.Sys().(*syscall.Stat_t).Dev
	d.mu.Lock()
	defer d.mu.Unlock()
	free, err := d.free(dir)
	if err != nil {
		return nil, err
	}
	left := free - d.claimed[device] - diskMargin
	if size > left {
		return nil, &DiskError{Free: left, Needed: size}
	}
	d.claimed[device] += size
	return &diskClaim{device, size}, nil
}

func (d *disks) release(c *diskClaim) {
	if c == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claimed[c.device] -= c.bytes
}

// existing is dir, or the nearest directory above it that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
