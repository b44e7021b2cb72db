// Package quota holds tenants to their limits: the bytes and phexts that they
// may store, the space that is left on the disk, and the calls that they may
// make. It counts what they use.
//
// It never changes a tenant's files, and it does not know what is in them.
package quota

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/tenants"
)

// Write is a change of one phext that SQ has not made yet.
type Write struct {
	File    string // base name of the file of the phext, or of its names
	Size    int64  // of the file now, in bytes; -1 if there is none
	After   int64  // size after the write, in bytes
	Removes bool   // a delete, which is always allowed: it is the way out of a full quota
}

func (w Write) grows() bool { return !w.Removes && w.After > max(0, w.Size) }

// Reservation is a write that was allowed.
type Reservation struct {
	ledger *Ledger
	tenant *tenants.Tenant
	file   string
	disk   *diskReservation
}

// Reserve allows a write, or refuses it with an *ExceededError or a *DiskError.
// A write that does not make its file larger is never refused for its size. The
// caller must have the tenant's directory to itself until Release.
func (l *Ledger) Reserve(t *tenants.Tenant, w Write) (*Reservation, error) {
	a, err := l.countedAccount(t)
	if err != nil {
		return nil, err
	}
	if err := a.checkQuota(t, w); err != nil {
		return nil, err
	}
	r := &Reservation{ledger: l, tenant: t, file: w.File}
	if w.grows() {
		if r.disk, err = l.disks.reserve(t.DataDir, w.After); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	a.writing = true
	a.mu.Unlock()
	return r, nil
}

func (a *account) checkQuota(t *tenants.Tenant, w Write) error {
	a.mu.Lock()
	use, isNew := a.use, w.Size < 0 && a.isNewLocked(w.File)
	a.mu.Unlock()
	if !w.Removes && isNew && use.Phexts >= t.MaxPhexts {
		return &ExceededError{Phexts: use.Phexts, MaxPhexts: t.MaxPhexts}
	}
	needed := use.Bytes - max(0, w.Size) + w.After
	if w.grows() && t.QuotaBytes > 0 && needed > t.QuotaBytes {
		return &ExceededError{Used: use.Bytes, Quota: t.QuotaBytes, Needed: needed}
	}
	return nil
}

// Release ends the reservation and counts the file as it is now, whether it was
// written or not. It returns the used part of the quota, which is 0 without a
// quota and can be more than 1.
func (r *Reservation) Release() float64 {
	r.ledger.disks.release(r.disk)
	a := r.ledger.account(r.tenant)
	size := r.ledger.sizeOf(filepath.Join(r.tenant.DataDir, r.file))
	a.mu.Lock()
	a.writing = false
	if a.use.Phexts == 0 && size >= 0 {
		r.ledger.Refresh() // SQ may have made the directory, which is not watched then
	}
	a.setSizeLocked(r.file, size)
	use := a.use
	part := usedPart(use, r.tenant)
	warn := a.shouldWarnLocked(part)
	a.mu.Unlock()
	if warn {
		r.ledger.log.Warn("a tenant's quota is nearly used up", keyTenant, r.tenant.ID, "used_bytes", use.Bytes, "quota_bytes", r.tenant.QuotaBytes)
	}
	return part
}

func usedPart(use Use, t *tenants.Tenant) float64 {
	if t.QuotaBytes == 0 {
		return 0
	}
	return float64(use.Bytes) / float64(t.QuotaBytes)
}

// A warning is logged when the used part of a quota reaches warnAbove. It can be
// logged again once the part has been below rearmBelow.
const (
	warnAbove  = 0.90
	rearmBelow = 0.85
)

func (a *account) shouldWarnLocked(part float64) bool {
	switch {
	case part < rearmBelow:
		a.warned = false
	case part >= warnAbove && !a.warned:
		a.warned = true
		return true
	}
	return false
}

// diskMargin is left free in addition to what writes have reserved, in bytes:
// for directories, journals and the files of others.
const diskMargin = 1 << 20

// disks reserves space so that writes cannot fill a file system. SQ truncates a
// phext before it writes it and does not check the result: on a full disk it
// would answer 200 and keep only a part (LEGACY.md).
//
// A write reserves the size of its whole file, because while the file is
// truncated its space is free for anybody.
type disks struct {
	mu       sync.Mutex
	reserved map[uint64]int64 // bytes, by device
	free     func(dir string) (int64, error)
}

type diskReservation struct {
	device uint64
	bytes  int64
}

func newDisks() *disks { return &disks{reserved: map[uint64]int64{}, free: freeBytes} }

// reserve refuses a size for which there is no space with a *DiskError.
func (d *disks) reserve(dir string, size int64) (*diskReservation, error) {
	dir = existingParent(dir)
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
	left := free - d.reserved[device] - diskMargin
	if size > left {
		return nil, &DiskError{Free: left, Needed: size}
	}
	d.reserved[device] += size
	return &diskReservation{device, size}, nil
}

// release gives the space back. A nil reservation has none.
func (d *disks) release(r *diskReservation) {
	if r == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reserved[r.device] -= r.bytes
}

// existingParent is dir or, if it does not exist, the nearest directory above
// it that does.
func existingParent(dir string) string {
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
	return int64(st.Bavail) * int64(st.Bsize), nil // Bsize has 32 bits on 32-bit machines
}
