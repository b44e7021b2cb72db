package datadir

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"golang.org/x/sync/semaphore"

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
	// TakeOver makes this host the owner of a directory in the bucket, and its files what
	// the log there says. nil = there is no bucket. No child runs, the files are recovered,
	// and the caller has the directory locked. The error is ErrMoved if that may be possible
	// in a moment.
	TakeOver func(ctx context.Context, d *Dir) (*Replica, error)
	// Leased says whether this host may take directories over now. It is set with TakeOver.
	Leased func() bool
	// MarkDir remembers which directories had phexts; "" = it is not remembered.
	MarkDir    string
	Links      fsutil.Links     // the symbolic links that are followed in data directories; nil = none
	Turns      *fairqueue.Queue // for what is computed; nil = it does not wait for a turn
	ReadMemory int64            // bytes for parsed phexts; 0 = none is kept
	MaxBody    int64            // largest request body, in bytes
	Logger     *slog.Logger
}

// How many bodies, and answers, of the largest size may be in memory at once,
// and the fractions of them that those of one directory may take.
const (
	bodiesAtOnce  = 8
	bodiesPart    = 4
	answersAtOnce = 2
	answersPart   = 8
)

// Dirs is every data directory that was asked for. An entry stays for good: if
// one were dropped while a request waits for it, there would be two queues for
// one directory. There are as many as the tenants file ever named.
type Dirs struct {
	Config
	Cache   *cache.Cache     // the parsed phexts of all directories
	Bodies  *memlimit.Budget // request bodies of all directories
	Answers *memlimit.Budget // answers while they are made and sent, and files while they are read

	missing  *cache.Version
	identity func(path string) (id string, err error) // another one in tests
	sq       *sqMemory

	mu         sync.RWMutex
	byPath     map[string]*Dir
	bySpelling map[string]*Dir
}

// New makes a Dirs; it looks at no directory.
func New(c Config) *Dirs {
	ds := &Dirs{
		Config: c, Bodies: memlimit.NewBudget(bodiesAtOnce * c.MaxBody), Answers: memlimit.NewBudget(answersAtOnce * max(c.MaxBody, cache.Largest)),
		missing: cache.Missing(), identity: identityOf, sq: newSQMemory(), byPath: map[string]*Dir{}, bySpelling: map[string]*Dir{},
	}
	ds.Cache = cache.New(c.ReadMemory, ds.admitFile)
	ds.Cache.Links, ds.Cache.Turns = c.Links, c.Turns
	ds.Answers.OnShortage(ds.Cache.Collect)
	return ds
}

// Of is the directory at a path, whatever its spelling.
func (ds *Dirs) Of(dataDir string) *Dir {
	ds.mu.RLock()
	d, ok := ds.bySpelling[dataDir]
	ds.mu.RUnlock()
	if ok {
		return d
	}
	path := fsutil.Resolve(dataDir)
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d, ok = ds.byPath[path]
	if !ok {
		d = &Dir{
			Path: path, mark: ds.markPath(path), Bodies: memlimit.NewBudget(ds.Bodies.Limit() / bodiesPart), dirs: ds,
			Sending:  memlimit.NewShared(memlimit.NewBudget(ds.Answers.Limit()/answersPart), ds.Answers),
			Searches: memlimit.NewBudget(searchesAtOnce), PublicSearches: memlimit.NewBudget(searchesAtOnce / 2),
			queue: semaphore.NewWeighted(ReadsAtOnce), inside: memlimit.NewBudget(mostInside),
		}
		ds.byPath[path] = d
	}
	ds.bySpelling[dataDir] = d
	return d
}

// Is says whether the directory is the one at a path, whatever its spelling.
func (d *Dir) Is(dataDir string) bool { return d.dirs.Of(dataDir) == d }

// JournalOf is the directory's journal.
func (ds *Dirs) JournalOf(d *Dir) (*journal.Journal, error) { return ds.Journal.Of(d.Path) }

// LockExclusive keeps everybody out of a directory until release is called: no request
// is at its child, none begins, and its files are there and recovered.
func (ds *Dirs) LockExclusive(ctx context.Context, dataDir string) (release func(), err error) {
	d := ds.Of(dataDir)
	unlock, err := d.lockForWrite(ctx)
	if err != nil {
		return nil, err
	}
	if err = d.checkPresent(); err == nil { // a backup of a missing disk would be empty
		err = d.recoverLocked(ctx)
	}
	switch {
	case errors.Is(err, ErrUnnamed): // it is to be a new tenant's
		err = nil
	case err == nil:
		err = d.waitUploaded()
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}
