package quota

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/tenants"
)

// Log keys.
const (
	keyFile   = "file"
	keyError  = "error"
	keyTenant = "tenant"
)

// recountEvery is the interval at which Run reads every directory, to find
// changes that the watcher missed.
const recountEvery = 5 * time.Minute

// Use is what a tenant's phexts add up to. A phext and the names of its coordinates are
// one, though they are two files.
type Use struct {
	Bytes  int64
	Phexts int
}

// Ledger knows what each tenant uses, so that a request does not have to read a
// directory. It learns of sqgate's writes by their reservations and of others'
// changes by watching the directories, and it recounts now and then. Files that are
// still to come count as if they were here.
type Ledger struct {
	log      *slog.Logger
	current  func() *tenants.Snapshot
	disks    *disks
	mu       sync.RWMutex // guards accounts
	accounts map[accountKey]*account
	refresh  chan struct{}
	links    fsutil.Links
	coming   func(dataDir string) Coming
	byDir    map[string][]*tenants.Tenant // tenants by data directory; used by Run only
}

type accountKey struct{ id, dataDir string }

func keyOf(t *tenants.Tenant) accountKey { return accountKey{t.ID, t.DataDir} }

// FollowLinks has files counted that are symbolic links, where links follows
// them. It is called before the first use of the ledger.
func (l *Ledger) FollowLinks(links fsutil.Links) { l.links = links }

// Coming is what is on its way to a directory: files that are not here yet, or not yet what
// they are to be. Another fetch is another Coming, by ==.
type Coming interface {
	// Left are the files' sizes in bytes, by name. One that is to be removed has size -1.
	Left() map[string]int64
	// Lacks says whether a file is one of them.
	Lacks(file string) bool
}

// FollowFetches has files counted that are still to come: of says what is on its way to a
// directory, and nil if nothing is. It is called before the first use of the ledger.
func (l *Ledger) FollowFetches(of func(dataDir string) Coming) { l.coming = of }

// NewLedger makes a ledger of the tenants in the current snapshot. It counts no
// symbolic links, and nothing that is still to come.
func NewLedger(current func() *tenants.Snapshot, log *slog.Logger) *Ledger {
	return &Ledger{
		log: log, current: current, disks: newDisks(), accounts: map[accountKey]*account{}, refresh: make(chan struct{}, 1),
		coming: func(string) Coming { return nil },
	}
}

// Use returns what the tenant uses now. The error is that of reading its
// directory, which happens only if that was not done before.
func (l *Ledger) Use(t *tenants.Tenant) (Use, error) {
	a, err := l.countedAccount(t)
	if err != nil {
		return Use{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.use, nil
}

// UseOf is Use of those files alone that are wanted, by their names.
func (l *Ledger) UseOf(t *tenants.Tenant, wanted func(file string) bool) (use Use, err error) {
	a, err := l.countedAccount(t)
	if err != nil {
		return Use{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for file, size := range a.sizes {
		if wanted(file) {
			use.Phexts += a.phextsIn(file)
			use.Bytes += size
		}
	}
	return use, nil
}

// Recount reads the tenant's directory now. It is for callers that changed
// files without a reservation.
func (l *Ledger) Recount(t *tenants.Tenant) error { return l.count(l.account(t), t) }

// Refresh has Run look at the current snapshot again. It does not wait.
func (l *Ledger) Refresh() {
	select {
	case l.refresh <- struct{}{}:
	default: // Run will do so anyway
	}
}

// Run watches and recounts the directories until ctx ends, and returns the
// error of ctx.
func (l *Ledger) Run(ctx context.Context) error {
	w := l.newWatcher()
	defer w.close()
	recount := time.NewTicker(recountEvery)
	defer recount.Stop()
	l.update(ctx, w, true)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.refresh:
			l.update(ctx, w, false)
		case <-recount.C:
			l.update(ctx, w, true)
		case e := <-w.events:
			l.fileChanged(e.Name)
		case err := <-w.errors:
			l.log.Warn("watching data directories failed; they are counted now and then", keyError, err)
			l.update(ctx, w, true)
		}
	}
}

// update brings accounts and watches in line with the current snapshot. It
// counts the directories that are new, not counted or not watched until now,
// or all of them.
func (l *Ledger) update(ctx context.Context, w *watcher, all bool) {
	current := l.current()
	l.dropAccounts(current)
	l.byDir = make(map[string][]*tenants.Tenant, len(current.All()))
	for _, t := range current.All() {
		if ctx.Err() != nil {
			return
		}
		l.byDir[t.DataDir] = append(l.byDir[t.DataDir], t)
		a := l.account(t)
		if added := w.add(t.DataDir); !all && !added && a.isCounted(l.sourceOf(t)) {
			continue
		}
		if err := l.count(a, t); err != nil {
			l.log.Warn("a data directory could not be read", keyTenant, t.ID, keyError, err)
		}
	}
	w.removeAllBut(l.byDir)
}

// dropAccounts removes the accounts of tenants that are gone.
func (l *Ledger) dropAccounts(current *tenants.Snapshot) {
	keep := make(map[accountKey]bool, len(current.All()))
	for _, t := range current.All() {
		keep[keyOf(t)] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.accounts {
		if !keep[key] {
			delete(l.accounts, key)
		}
	}
}

// fileChanged takes the new size of a file into account. If SQ changed the file,
// Release does the same. One that is still to come counts as it is to be.
func (l *Ledger) fileChanged(path string) {
	dir, name := filepath.Split(path)
	for _, t := range l.byDir[filepath.Clean(dir)] {
		if !t.OwnFile(name) {
			continue
		}
		a, now := l.account(t), l.sourceOf(t)
		a.mu.Lock()
		// From another source, all of it is to be counted, and is not to begin again for this.
		if a.counted && !a.writing && a.source == now && (now.coming == nil || !now.coming.Lacks(name)) {
			a.setSizeLocked(name, l.sizeOf(path))
		}
		a.mu.Unlock()
	}
}

func (l *Ledger) account(t *tenants.Tenant) *account {
	key := keyOf(t)
	l.mu.RLock()
	a, ok := l.accounts[key]
	l.mu.RUnlock()
	if ok {
		return a
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok = l.accounts[key]; !ok {
		a = &account{sizes: map[string]int64{}}
		l.accounts[key] = a
	}
	return a
}

// countedAccount counts the tenant's account first if that was not done yet for the
// directory that is there now, and for what is on its way to it: another disk may have
// been mounted on it, or another host may have had it.
func (l *Ledger) countedAccount(t *tenants.Tenant) (*account, error) {
	a := l.account(t)
	for !a.isCounted(l.sourceOf(t)) {
		if err := l.count(a, t); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// account is what a tenant uses, by file, so that one file can be looked at
// without reading the directory.
type account struct {
	mu      sync.Mutex
	sizes   map[string]int64 // in bytes, by file name
	use     Use              // what all of them add up to
	counted bool             // the directory has been read
	source  source           // what was read
	writing bool             // SQ is writing a file, so that sizes on disk mean nothing
	changes uint64           // number of calls of setSizeLocked
	warned  bool             // the quota is nearly used up, and that was logged
}

// setSizeLocked sets the size of one file. A negative size removes it.
func (a *account) setSizeLocked(name string, size int64) {
	before := a.phextsIn(name, phext.NamesFile(name))
	if old, ok := a.sizes[name]; ok {
		a.use.Bytes -= old
		delete(a.sizes, name)
	}
	if size >= 0 {
		a.sizes[name] = size
		a.use.Bytes += size
	}
	a.use.Phexts += a.phextsIn(name, phext.NamesFile(name)) - before
	a.changes++
}

// phextsIn is how many phexts some files count as, which is 0 for those that do not exist.
// Names count as one while there is no phext of which they are.
func (a *account) phextsIn(files ...string) (n int) {
	for _, file := range files {
		_, exists := a.sizes[file]
		if of, isNames := phext.FileOfNames(file); isNames && exists {
			_, hasPhext := a.sizes[of]
			exists = !hasPhext
		}
		if exists {
			n++
		}
	}
	return n
}

// isNewLocked says whether there is one phext more with a file that does not exist yet.
func (a *account) isNewLocked(file string) bool {
	of, _ := phext.FileOfNames(file)
	return a.phextsIn(of, phext.NamesFile(of)) == 0
}

// isCounted says whether it was counted from what there is now. While SQ writes, that is
// what was read.
func (a *account) isCounted(now source) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counted && (a.source == now || a.writing)
}

// source is what an account is counted from: a directory, and what is on its way to it.
type source struct {
	dir    fsutil.Node
	coming Coming
}

func (l *Ledger) sourceOf(t *tenants.Tenant) source {
	return source{fsutil.NodeOf(t.DataDir), l.coming(t.DataDir)}
}

// count reads the directory, and what is on its way to it. It drops what it read if a file
// changed meanwhile or is being written, and leaves it to the caller to try again.
func (l *Ledger) count(a *account, t *tenants.Tenant) error {
	a.mu.Lock()
	before := a.changes
	a.mu.Unlock()
	now := l.sourceOf(t)
	sizes, err := l.sizesOf(t, now.coming)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changes != before || a.writing {
		return nil
	}
	if a.counted && a.source.dir != now.dir {
		l.Refresh() // the directory that is there now may not be watched
	}
	a.sizes, a.use, a.counted, a.source = sizes, Use{}, true, now
	for file, size := range sizes {
		a.use.Phexts += a.phextsIn(file)
		a.use.Bytes += size
	}
	return nil
}

// sizesOf are those of the files that are here, or are to be. What is on its way is looked
// at first: whatever comes meanwhile has the same size then.
func (l *Ledger) sizesOf(t *tenants.Tenant, coming Coming) (map[string]int64, error) {
	var left map[string]int64
	if coming != nil {
		left = coming.Left()
	}
	names, err := t.OwnFiles()
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64, len(names))
	for _, name := range names {
		if size := l.sizeOf(filepath.Join(t.DataDir, name)); size >= 0 && t.OwnFile(name) {
			sizes[name] = size
		}
	}
	for name, size := range left {
		switch {
		case !t.OwnFile(name):
		case size < 0:
			delete(sizes, name)
		default:
			sizes[name] = size
		}
	}
	return sizes, nil
}

// sizeOf is the size of a file in bytes, or -1 if there is none.
func (l *Ledger) sizeOf(path string) int64 {
	id, err := l.links.Identify(path)
	if err != nil || !id.Exists() {
		return -1
	}
	return id.Size
}

// watcher watches the data directories that exist. Without an fsnotify.Watcher
// its channels are nil, and it does nothing.
type watcher struct {
	inner   *fsnotify.Watcher
	events  <-chan fsnotify.Event
	errors  <-chan error
	watched map[string]bool
}

func (l *Ledger) newWatcher() *watcher {
	w := &watcher{watched: map[string]bool{}}
	inner, err := fsnotify.NewWatcher()
	if err != nil {
		l.log.Warn("data directories cannot be watched; they are counted now and then", keyError, err)
		return w
	}
	w.inner, w.events, w.errors = inner, inner.Events, inner.Errors
	return w
}

// add watches a directory and says whether it was not watched before.
func (w *watcher) add(dir string) (added bool) {
	if w.inner == nil || w.watched[dir] || w.inner.Add(dir) != nil {
		return false
	}
	w.watched[dir] = true
	return true
}

func (w *watcher) removeAllBut(keep map[string][]*tenants.Tenant) {
	for dir := range w.watched {
		if keep[dir] == nil {
			_ = w.inner.Remove(dir) // the directory may be gone, and the watch with it
			delete(w.watched, dir)
		}
	}
}

func (w *watcher) close() {
	if w.inner != nil {
		_ = w.inner.Close() // nothing can be done about an error
	}
}
