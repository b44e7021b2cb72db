package quota

import (
	"os"
	"path/filepath"
	"sync"

	"mirrorborn.us/sqgate/tenants"
)

// Use is what a tenant's phexts come to.
type Use struct {
	Bytes  int64
	Phexts int
}

// account is the use of one tenant, file by file, so that a file can be looked
// at again without walking the directory.
type account struct {
	mu      sync.Mutex
	sizes   map[string]int64
	use     Use
	counted bool // the directory was read since the account was opened
	writing bool // SQ is at one of its files: sizes on disk mean nothing now
	epoch   uint64
	warned  bool
}

// note sets what is known of one file; size < 0 is a file that is gone.
func (a *account) note(name string, size int64) {
	old, had := a.sizes[name]
	if had {
		a.use.Bytes -= old
		a.use.Phexts--
		delete(a.sizes, name)
	}
	if size >= 0 {
		a.sizes[name] = size
		a.use.Bytes += size
		a.use.Phexts++
	}
	a.epoch++
}

func (a *account) isCounted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counted
}

// count reads the directory. A change that comes meanwhile makes the reading
// void; it is told by the epoch, and the caller may read again.
func (a *account) count(t *tenants.Tenant) (ok bool, err error) {
	a.mu.Lock()
	epoch := a.epoch
	a.mu.Unlock()
	sizes, err := sizesIn(t)
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.epoch != epoch || a.writing {
		return false, nil
	}
	a.sizes, a.use = sizes, Use{Phexts: len(sizes)}
	for _, size := range sizes {
		a.use.Bytes += size
	}
	a.counted = true
	return true, nil
}

func sizesIn(t *tenants.Tenant) (map[string]int64, error) {
	names, err := t.OwnFiles()
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64, len(names))
	for _, name := range names {
		if size := sizeOf(filepath.Join(t.DataDir, name)); size >= 0 && t.OwnFile(name) {
			sizes[name] = size
		}
	}
	return sizes, nil
}

// sizeOf is the size of a file in bytes, or -1 if there is none.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	return info.Size()
}
