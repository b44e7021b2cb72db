package quota

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

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
