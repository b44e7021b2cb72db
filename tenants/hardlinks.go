package tenants

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// hardLinks finds files in data directories that are other names of files which must
// not be served: of the tenants file and those beside it, of files in or at a private
// path, and of other tenants' files. Nothing says which name came first, so that a file
// in the directories of two tenants is served to neither. Names elsewhere do no harm,
// such as those in a snapshot that was made of hard links.
//
// Only files with several names are asked for. One that may be served is not looked for
// again until its state changes, as with every new name, or the tenants do, or one of their
// directories is another one than before, as when its disk comes back: within a second. A
// directory is listed again only when it has changed.
type hardLinks struct {
	current func() *Snapshot
	config  string
	private []string

	mu       sync.Mutex
	of       *Snapshot              // the tenants that dataDirs and harmless are for
	dataDirs map[string]bool        // resolved; whether tenants share it
	places   map[string]fsutil.Node // which directories these were
	moved    bool                   // one was another one while a file was looked for
	looked   time.Time              // when it was looked last whether they still are
	harmless *simplelru.LRU[linkState, struct{}]
	listings map[string]listing // by path
}

// linkState is a state of a file under one of its names.
type linkState struct {
	path string
	id   fsutil.FileID
}

// mostHarmless is how many files that may be served are remembered.
const mostHarmless = 1 << 14

func newHardLinks(current func() *Snapshot, config string, private []string) *hardLinks {
	harmless, err := simplelru.NewLRU[linkState, struct{}](mostHarmless, nil)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return &hardLinks{current: current, config: config, private: private, harmless: harmless, listings: map[string]listing{}}
}

// mayServe says whether the file at path, which is in the state id, may be served.
func (h *hardLinks) mayServe(path string, id fsutil.FileID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := h.current(); now != h.of {
		h.of, h.dataDirs, h.places = now, map[string]bool{}, map[string]fsutil.Node{}
		for _, t := range now.all {
			h.dataDirs[fsutil.Resolve(t.DataDir)] = t.SharedDataDir
		}
		h.harmless.Purge()
		clear(h.listings)
		h.looked = time.Time{}
	}
	if now := time.Now(); now.Sub(h.looked) >= settled {
		h.looked = now
		for dir := range h.dataDirs {
			if here := fsutil.NodeOf(dir); here != h.places[dir] {
				h.places[dir] = here
				h.harmless.Purge()
			}
		}
	}
	state := linkState{path, id}
	if h.harmless.Contains(state) {
		return true
	}
	h.moved = false
	if h.isSecretLocked(path, id) {
		return false
	}
	if !h.moved { // else it may be back before it is looked again
		h.harmless.Add(state, struct{}{})
	}
	return true
}

// isSecretLocked says whether the file has a name where no tenant, or only another one,
// may look. It is true if that cannot be found out.
func (h *hardLinks) isSecretLocked(path string, id fsutil.FileID) bool {
	own := linkState{filepath.Join(fsutil.Resolve(filepath.Dir(path)), filepath.Base(path)), id}
	config := fsutil.Resolve(h.config)
	if h.hasLocked(config, own, false) || h.hasLocked(filepath.Dir(config), own, false) { // sqgate may be unable to list the directory
		return true
	}
	for _, p := range h.private {
		if p != "" && h.hasLocked(fsutil.Resolve(p), own, true) {
			return true
		}
	}
	for dir, shared := range h.dataDirs {
		if (shared || dir != filepath.Dir(own.path)) && h.hasLocked(dir, own, false) {
			return true
		}
	}
	return false
}

// hasLocked says whether a file has a name in dir, or is dir itself. Phexts of its own
// tenant do not count. deep looks into the directories in dir, too, except data
// directories. It is true if dir cannot be read, but not if sqgate has no right to.
func (h *hardLinks) hasLocked(dir string, file linkState, deep bool) bool {
	if dir == filepath.Dir(file.path) {
		return isOthers(file, h.dataDirs[dir])
	}
	l, err := h.listLocked(dir)
	if was, isData := h.places[dir]; isData && was != (fsutil.Node{Device: l.dev, Inode: l.ino}) {
		h.moved = true
	}
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
	}
	if l.dev == file.id.Dev && slices.Contains(l.files, file.id.Ino) {
		return true
	}
	return deep && slices.ContainsFunc(l.dirs, func(sub string) bool {
		_, data := h.dataDirs[sub]
		return !data && h.hasLocked(sub, file, true)
	})
}

// isOthers says whether a file has another name in its directory that is not that of a
// phext of the same tenant. In a shared directory, these begin with the same id.
func isOthers(file linkState, shared bool) bool {
	dir, name := filepath.Split(file.path)
	id, _, _ := strings.Cut(name, ".")
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() == name || strings.HasSuffix(e.Name(), phext.Extension) && (!shared || strings.HasPrefix(e.Name(), id+".")) {
			continue
		}
		if there, err := fsutil.Identify(filepath.Join(dir, e.Name())); err == nil && there.Dev == file.id.Dev && there.Ino == file.id.Ino {
			return true
		}
	}
	return err != nil
}

// listing is the files directly in a directory, by inode number, and the directories.
// That of a file has the file alone.
type listing struct {
	dev      uint64
	ino      uint64
	modified time.Time
	files    []uint64
	dirs     []string // paths
}

// settled is for how long a directory must not have changed before its listing is kept:
// file systems do not tell changes apart that follow each other too closely.
const settled = time.Second

func (h *hardLinks) listLocked(dir string) (listing, error) {
	info, err := os.Stat(dir)
	if err != nil {
		delete(h.listings, dir)
		return listing{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	l := listing{dev: uint64(st.Dev), ino: st.Ino, modified: info.ModTime()}
	if !info.IsDir() {
		l.files = []uint64{st.Ino}
		return l, nil
	}
	if known, ok := h.listings[dir]; ok && known.dev == l.dev && known.ino == l.ino && known.modified.Equal(l.modified) {
		return known, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return l, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			l.dirs = append(l.dirs, path)
		} else if id, err := fsutil.Identify(path); err == nil && id.Exists() {
			l.files = append(l.files, id.Ino)
		}
	}
	delete(h.listings, dir)
	if time.Since(l.modified) > settled {
		h.listings[dir] = l
	}
	return l, nil
}
