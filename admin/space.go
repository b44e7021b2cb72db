package admin

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// storageEvery is how often directories are looked through while somebody listens.
const storageEvery = 30 * time.Second

// storageView is the journal and the file systems that sqgate writes to, in bytes.
type storageView struct {
	Journal int64      `json:"journal_bytes"`
	Disks   []diskView `json:"disks"`
}

type diskView struct {
	Path  string   `json:"path"` // one on it
	Holds []string `json:"holds"`
	Free  uint64   `json:"free_bytes"`
	Size  uint64   `json:"size_bytes"`
}

// storageCache has a storageView, so that all streams share one look.
type storageCache struct {
	mu   sync.Mutex
	at   time.Time
	view storageView
}

func (a *API) storageNow() storageView {
	c := &a.storage
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := a.now(); c.at.IsZero() || now.Sub(c.at) >= storageEvery {
		c.at, c.view = now, storageView{Journal: sizeOf(a.JournalDir), Disks: a.disks()}
	}
	return c.view
}

// sizeOf is the bytes of all files below dir. Files that go away meanwhile do not count.
func sizeOf(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

// disks are the file systems that sqgate writes to, each once.
func (a *API) disks() []diskView {
	all, byDevice := []diskView{}, map[uint64]int{}
	look := func(dir, holds string) {
		info, err := os.Stat(dir)
		if err != nil {
			return // it is made when it is needed, or the log says what is wrong with it
		}
		device := info.Sys().(*syscall.Stat_t).Dev
		i, known := byDevice[device]
		if !known {
			var st unix.Statfs_t
			if unix.Statfs(dir, &st) != nil {
				return
			}
			i = len(all)
			byDevice[device] = i
			all = append(all, diskView{Path: dir, Free: st.Bavail * uint64(st.Bsize), Size: st.Blocks * uint64(st.Bsize)})
		}
		if !slices.Contains(all[i].Holds, holds) {
			all[i].Holds = append(all[i].Holds, holds)
		}
	}
	look(a.DataRoot, "data")
	for _, t := range a.Store.Current().All() {
		look(t.DataDir, "data")
	}
	look(filepath.Dir(a.AuditFile), "journal")
	look(a.ArchiveDir, "archives")
	return all
}

// tail is the end of the audit log's file, or nothing if it cannot be read.
func (l *auditLog) tail() []byte {
	f, err := fsutil.Open(l.path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > auditTail {
		if _, err := f.Seek(-auditTail, io.SeekEnd); err != nil {
			return nil
		}
	}
	text, _ := io.ReadAll(io.LimitReader(f, 2*auditTail)) // what could be read
	return text
}
