package quota

import (
	"context"
	"log/slog"
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
