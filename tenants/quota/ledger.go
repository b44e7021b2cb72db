package quota

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"mirrorborn.us/sqgate/tenants"
)

// Log keys.
const (
	keyFile   = "file"
	keyError  = "error"
	keyTenant = "tenant"
)

// recountEvery is how often every directory is read in the background, to find
// what the watcher did not tell.
const recountEvery = 5 * time.Minute

// Ledger knows what each tenant uses. A request never reads a directory: the
// account is kept up by settling each write, by watching for changes that
// others make, and by counting again now and then.
type Ledger struct {
	log    *slog.Logger
	now    func() *tenants.Snapshot
	disks  *disks
	mu     sync.RWMutex
	byID   map[string]*account
	forced chan struct{}
	byDir  map[string][]*tenants.Tenant // of Run's goroutine: who has files where
}

// NewLedger makes a ledger of the tenants that current returns.
func NewLedger(current func() *tenants.Snapshot, log *slog.Logger) *Ledger {
	return &Ledger{log: log, now: current, disks: newDisks(), byID: map[string]*account{}, forced: make(chan struct{}, 1)}
}

func (l *Ledger) account(t *tenants.Tenant) *account {
	key := t.ID + "\x00" + t.DataDir
	l.mu.RLock()
	a, ok := l.byID[key]
	l.mu.RUnlock()
	if ok {
		return a
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok = l.byID[key]; !ok {
		a = &account{sizes: map[string]int64{}}
		l.byID[key] = a
	}
	return a
}

// ready is the tenant's account, counted. The first to ask for an account
// waits for the count that the background has not come to yet.
func (l *Ledger) ready(t *tenants.Tenant) (*account, error) {
	a := l.account(t)
	for {
		if a.isCounted() {
			return a, nil
		}
		if _, err := a.count(t); err != nil {
			return nil, err
		}
	}
}

// Use is what the tenant uses now.
func (l *Ledger) Use(t *tenants.Tenant) (Use, error) {
	a, err := l.ready(t)
	if err != nil {
		return Use{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.use, nil
}

// Recount reads the tenant's directory now, for callers that changed it themselves.
func (l *Ledger) Recount(t *tenants.Tenant) error {
	_, err := l.account(t).count(t)
	return err
}

// Refresh tells the ledger that the tenants are others now.
func (l *Ledger) Refresh() {
	select {
	case l.forced <- struct{}{}:
	default:
	}
}

// Run keeps the accounts until ctx ends. One goroutine, this one, owns the
// watcher and the background counting.
func (l *Ledger) Run(ctx context.Context) error {
	w := l.newDirWatcher()
	defer w.close()
	again := time.NewTicker(recountEvery)
	defer again.Stop()
	l.follow(ctx, w, true)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.forced:
			l.follow(ctx, w, false)
		case <-again.C:
			l.follow(ctx, w, true)
		case e := <-w.events():
			l.noticed(e)
		case err := <-w.errors():
			l.log.Warn("watching data directories failed; they are counted now and then", keyError, err)
			l.follow(ctx, w, true)
		}
	}
}

// follow watches the directories of the tenants there are, counts those that
// were not counted yet, or all of them, and drops the accounts of tenants that
// are gone.
func (l *Ledger) follow(ctx context.Context, w *dirWatcher, all bool) {
	current := l.now()
	l.drop(current)
	w.begin()
	l.byDir = make(map[string][]*tenants.Tenant, current.Len())
	for _, t := range current.All() {
		if ctx.Err() != nil {
			return
		}
		l.byDir[t.DataDir] = append(l.byDir[t.DataDir], t)
		if fresh := w.want(t.DataDir); all || fresh || !l.account(t).isCounted() {
			l.count(t)
		}
	}
	w.end()
}

func (l *Ledger) count(t *tenants.Tenant) {
	if _, err := l.account(t).count(t); err != nil {
		l.log.Warn("a data directory could not be read", keyTenant, t.ID, keyError, err)
	}
}

func (l *Ledger) drop(current *tenants.Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keep := make(map[string]bool, current.Len())
	for _, t := range current.All() {
		keep[t.ID+"\x00"+t.DataDir] = true
	}
	for key := range l.byID {
		if !keep[key] {
			delete(l.byID, key)
		}
	}
}

// noticed looks at one file that somebody touched. SQ's own writes come here
// too, and say what Settle has said; while one is going on, nothing is noted.
func (l *Ledger) noticed(e fsnotify.Event) {
	dir, name := filepath.Split(e.Name)
	for _, t := range l.byDir[filepath.Clean(dir)] {
		if !t.OwnFile(name) {
			continue
		}
		a := l.account(t)
		a.mu.Lock()
		if a.counted && !a.writing {
			a.note(name, sizeOf(e.Name))
		}
		a.mu.Unlock()
	}
}

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

// dirWatcher watches the data directories that exist.
type dirWatcher struct {
	*fsnotify.Watcher
	watched, wanted map[string]bool
}

func (l *Ledger) newDirWatcher() *dirWatcher {
	w := &dirWatcher{watched: map[string]bool{}}
	inner, err := fsnotify.NewWatcher()
	if err != nil {
		l.log.Warn("data directories cannot be watched; they are counted now and then", keyError, err)
		return w
	}
	w.Watcher = inner
	return w
}

func (w *dirWatcher) begin() { w.wanted = map[string]bool{} }

// want watches a directory, and says whether it was not watched before: what
// happened in it until now has to be counted.
func (w *dirWatcher) want(dir string) (fresh bool) {
	w.wanted[dir] = true
	if w.Watcher == nil || w.watched[dir] || w.Add(dir) != nil {
		return false
	}
	w.watched[dir] = true
	return true
}

func (w *dirWatcher) end() {
	for dir := range w.watched {
		if !w.wanted[dir] {
			_ = w.Remove(dir) // it may be gone, and its watch with it
			delete(w.watched, dir)
		}
	}
}

func (w *dirWatcher) events() <-chan fsnotify.Event {
	if w.Watcher == nil {
		return nil
	}
	return w.Events
}

func (w *dirWatcher) errors() <-chan error {
	if w.Watcher == nil {
		return nil
	}
	return w.Errors
}

func (w *dirWatcher) close() {
	if w.Watcher != nil {
		_ = w.Close() // nothing is left to do about it
	}
}
