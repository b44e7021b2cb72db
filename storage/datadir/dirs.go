package datadir

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// Config is what Dirs is made of.
type Config struct {
	Tenants func() *tenants.Snapshot // the tenants in force now
	Journal *journal.Set
	// StopChild returns when no SQ process serves the directory.
	StopChild func(ctx context.Context, dir, reason string) error
	// TakeOver makes this host the owner of a directory in the bucket, and begins to make its
	// files what the log there says. nil = there is no bucket. No child runs, the files are recovered,
	// and the caller has the directory locked. The error is ErrMoved if that may be possible
	// in a moment.
	TakeOver func(ctx context.Context, d *Dir) (*Replica, error)
	// Refuse says why a directory is not to be served for now; nil = none is refused.
	Refuse func(d *Dir) error
	// Leased says whether this host may take directories over now. It is set with TakeOver.
	Leased func() bool
	// Lag is how far the bucket may be behind what was acknowledged; 0 = not at all.
	Lag time.Duration
	// MarkDir remembers which directories had phexts; "" = it is not remembered.
	MarkDir    string
	Links      fsutil.Links     // the symbolic links that are followed in data directories; nil = none
	Turns      *fairqueue.Queue // for what is computed; nil = it does not wait for a turn
	ReadMemory int64            // bytes for parsed phexts; 0 = none is kept
	MaxBody    int64            // largest request body, in bytes
	Logger     *slog.Logger
}

// How many bodies of the largest size may be in memory at once, the fraction of them that
// those of one directory, and of one caller, may take, and that of all answers that those of
// one directory, and to one caller, may.
const (
	bodiesAtOnce = 8
	bodiesPart   = 4
	sendingPart  = 8
)

// leastBeside is the least memory, in bytes, that there is beside the largest phext.
const leastBeside = 64 << 20

// mostGarbage is how many bytes of Answers may be garbage beyond what it has room for.
const mostGarbage = 32 << 20

// Dirs is every data directory that was asked for. An entry stays for good: if
// one were dropped while a request waits for it, there would be two queues for
// one directory. There are as many as the tenants file ever named.
type Dirs struct {
	Config
	Cache   *cache.Cache     // the parsed phexts of all directories
	Bodies  *memlimit.Shares // request bodies of all directories, by caller
	Answers *memlimit.Budget // large bodies too, answers while they are made and sent, and files while they are read

	missing  *cache.Version
	identity func(path string) (id string, err error) // another one in tests
	syncDir  func(path string) error                  // the same

	onlyLooks  bool               // see Looking
	mostOfOne  int64              // bytes of Answers that one directory may take
	parts      singleflight.Group // see Dir.restrict
	recovering chan struct{}      // has a place for the one who recovers a large phext
	due        chan struct{}      // has one when an ownership was lost, or tenants have moved: see Run
	sending    *memlimit.SharedBy // what answers on their way keep in memory, by caller
	deposed    atomic.Int64       // how many were lost to another host
	sq         *sqMemory

	indexOnce sync.Once
	index     *markIndex // see Dirs.markIndex
	purging   sync.Mutex // see notePurged

	mu      sync.RWMutex
	byPath  map[string]*Dir
	callers map[string]*memlimit.Budget // of Bodies; as many as the tenants file ever named
	byNode  map[fsutil.Node][]string    // paths; see NotePlaces
}

// New makes a Dirs; it looks at no directory.
func New(c Config) *Dirs {
	// Answers has room for the largest phext and all of the cache, which lets go of what
	// it has when others need that. So both together never take more.
	largest, beside := max(c.MaxBody, cache.Largest), max(c.ReadMemory, leastBeside)
	ds := &Dirs{
		Config: c, Bodies: memlimit.NewShares(bodiesAtOnce*c.MaxBody, bodiesAtOnce*c.MaxBody/bodiesPart), Answers: memlimit.NewBudget(largest + beside),
		mostOfOne: largest + beside/2, recovering: make(chan struct{}, 1), due: make(chan struct{}, 1),
		missing: cache.Missing(), identity: fsutil.IdentityOf, syncDir: fsutil.SyncDir, sq: newSQMemory(), byPath: map[string]*Dir{}, callers: map[string]*memlimit.Budget{}, byNode: map[fsutil.Node][]string{},
	}
	sending := ds.Answers.Limit()
	ds.sending = memlimit.NewSharedBy(memlimit.NewShares(sending*3/4, sending/sendingPart))
	ds.Cache = cache.New(c.ReadMemory, func(path string) *memlimit.Reservation { return ds.Reserve(filepath.Dir(path)) })
	ds.Cache.Links, ds.Cache.Turns = c.Links, c.Turns
	ds.Cache.Check = func(path, at string, id fsutil.FileID) error {
		d := ds.Of(filepath.Dir(path))
		if err := d.checkOwn(at); err != nil {
			return err
		}
		return d.checkSeen(at, filepath.Base(path), id)
	}
	ds.Answers.OnShortage(ds.Cache.Collect)
	ds.Answers.CountGarbage(mostGarbage, func() int64 { return ds.Cache.Stats().Bytes })
	unshared := ds.Answers.Limit() - c.ReadMemory
	ds.Cache.Taken = func() int64 { return ds.Answers.Above(unshared) }
	ds.Answers.OnLevel(unshared, ds.Cache.Shrink)
	return ds
}

// Looking is for Absence, and nothing else, where another process may have the directories,
// or has not taken them into use yet. It changes nothing.
func Looking(c Config) *Dirs {
	ds := New(c)
	ds.onlyLooks = true
	return ds
}

// Deposed is how many times another host has taken a directory from this one, as far as this
// one has noticed.
func (ds *Dirs) Deposed() int64 { return ds.deposed.Load() }

// Of is the directory at a path without symbolic links, such as tenants.Tenant.DataDir.
func (ds *Dirs) Of(path string) *Dir {
	ds.mu.RLock()
	d, ok := ds.byPath[path]
	ds.mu.RUnlock()
	if ok {
		return d
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d, ok = ds.byPath[path]; !ok {
		d = &Dir{
			Path: path, pathsMark: ds.markPath(path), dirs: ds,
			memory:   ds.Answers.Part(ds.mostOfOne),
			Searches: memlimit.NewBudget(searchesAtOnce),
			queue:    semaphore.NewWeighted(ReadsAtOnce),
			inside:   memlimit.NewShares(mostInside, mostInside/2),
		}
		d.memory.OnShortage(ds.Cache.Collect)
		bodies, sending := ds.Bodies.Limit()/bodiesPart, ds.Answers.Limit()/sendingPart
		d.Bodies = memlimit.NewShares(bodies, bodies*3/4) // in which the largest body has room
		d.sending, d.sent = memlimit.NewSharedBy(memlimit.NewShares(sending, sending/2)), memlimit.NewShared(d.memory)
		d.alone = d.newGroup("")
		d.inUse, d.partsInUse = memlimit.NewSharedKept(d.memory), memlimit.NewShared(d.memory)
		ds.byPath[path] = d
	}
	return d
}

// bodiesOf is what a caller has of Bodies.
func (ds *Dirs) bodiesOf(caller string) *memlimit.Budget {
	ds.mu.RLock()
	share := ds.callers[caller]
	ds.mu.RUnlock()
	if share != nil {
		return share
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if share = ds.callers[caller]; share == nil {
		share = ds.Bodies.Of(caller)
		ds.callers[caller] = share
	}
	return share
}

// Sibling is the directory at another path.
func (d *Dir) Sibling(dataDir string) *Dir { return d.dirs.Of(dataDir) }

// JournalOf is the directory's journal.
func (ds *Dirs) JournalOf(d *Dir) (*journal.Journal, error) { return ds.Journal.Of(d.Path) }

// HasJournal says whether the journal is that of those who have the directory now, and not still that of
// the ones before.
func (d *Dir) HasJournal() (bool, error) {
	known := d.dirs.Tenants()
	j, err := d.dirs.JournalOf(d)
	if err != nil || known == nil {
		return err == nil, err
	}
	return j.IsOf(d.ownersAt(known))
}

// Sync returns when what SQ has written in a directory is on the disk. Until then, only its
// journal can bring that back after a power cut, and once the files are somewhere else, or
// somebody else's, no journal may.
func (ds *Dirs) Sync(ctx context.Context, path string) error {
	d := ds.Of(path)
	unlock, err := d.lockForWrite(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	j, err := ds.JournalOf(d)
	if err != nil {
		return err
	}
	if err = j.Suspend(); err == nil {
		return nil
	}
	if at, letGo, held := d.Hold(); held == nil && d.WriteUnsynced(ctx, at) == nil {
		err = j.Suspend()
		letGo()
	}
	return err
}

// LockExclusive keeps everybody out of a directory until release is called: no request
// is at its child, none begins, and all its files are there and recovered.
func (ds *Dirs) LockExclusive(ctx context.Context, dataDir string) (release func(), err error) {
	d := ds.Of(dataDir)
	for {
		unlock, err := d.lockForWrite(ctx)
		if err != nil {
			return nil, err
		}
		if err = d.CheckPresent(); err == nil { // a backup of a missing disk would be empty
			err = d.recoverLocked(ctx)
		}
		f := d.fetching()
		switch {
		case errors.Is(err, ErrUnnamed): // it is to be a new tenant's
			return unlock, nil
		case err == nil && f == nil:
			err = d.waitUploaded()
		}
		if err == nil && f == nil {
			return unlock, nil
		}
		unlock()
		if err == nil {
			err = f.awaitAll(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
}
