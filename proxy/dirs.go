package proxy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// readsAtOnce is how many reads may be at one child at a time. SQ answers one
// request at a time under one lock (LEGACY.md), but takes up to as many new
// connections meanwhile: 16 were answered 5 % faster than 8, and 4 slower. More
// would not be answered within the backend's time where each has SQ open
// another phext, which may take it 18 s.
const readsAtOnce = 16

// queuePatience is the longest wait for a turn at a data directory.
const queuePatience = time.Minute

// mostInside is how many requests of one data directory may be anywhere behind
// the door: sending a body, waiting for a turn, taking an answer. What a tenant
// sends beyond that is refused at once, so that no flood of its requests takes
// the memory and the file descriptors that others need.
const mostInside = 512

// dir is the queue of one data directory: one mutation, or a few reads. It is
// first come, first served, so that a stream of reads cannot keep a write out.
type dir struct {
	path  string // symbolic links resolved: two spellings are one directory
	turns *semaphore.Weighted
	held  *budget // this directory's part of the bodies in memory
	// inside counts requests, bounded by mostInside.
	inside *budget
	// settled says that the files are what the journal says.
	settled atomic.Bool
	lobby   lobby
	// sending has whoever sends a read to SQ, for as long as it need not wait.
	sending sync.Mutex
	// inSQ is what the child has in memory; nil where that is not known.
	inSQ atomic.Pointer[inSQ]
	// keepsFiles says that SQ did not make a file here that was removed for it.
	keepsFiles atomic.Bool
}

// enter lets a request in, or refuses it with errQueue.
func (d *dir) enter() (leave func(), err error) {
	if !d.inside.take(1) {
		return nil, errQueue
	}
	return func() { d.inside.give(1) }, nil
}

func (d *dir) read(ctx context.Context) (done func(), err error) { return d.take(ctx, 1) }

func (d *dir) write(ctx context.Context) (done func(), err error) { return d.take(ctx, readsAtOnce) }

// take does not make a context to wait with where there is nothing to wait for.
func (d *dir) take(ctx context.Context, n int64) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !d.turns.TryAcquire(n) {
		if err := d.await(ctx, n); err != nil {
			return nil, err
		}
	}
	return func() { d.turns.Release(n) }, nil
}

func (d *dir) await(ctx context.Context, n int64) error {
	waiting, cancel := context.WithTimeout(ctx, queuePatience)
	defer cancel()
	if err := d.turns.Acquire(waiting, n); err != nil {
		if ctx.Err() == nil {
			return errQueue
		}
		return ctx.Err()
	}
	return nil
}

// dirTable holds the queues. An entry stays for good: a directory whose queue
// was dropped while a request waited in it would have two. There are as many
// as the tenants file ever named.
type dirTable struct {
	mu     sync.RWMutex
	byPath map[string]*dir
	bySpec map[string]*dir
}

func newDirTable() dirTable {
	return dirTable{byPath: map[string]*dir{}, bySpec: map[string]*dir{}}
}

func (t *dirTable) of(spec string, held int64) *dir {
	t.mu.RLock()
	d, ok := t.bySpec[spec]
	t.mu.RUnlock()
	if ok {
		return d
	}
	path := resolve(spec)
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok = t.byPath[path]
	if !ok {
		d = &dir{path: path, turns: semaphore.NewWeighted(readsAtOnce), held: newBudget(held), inside: newBudget(mostInside)}
		t.byPath[path] = d
	}
	t.bySpec[spec] = d
	return d
}

// resolve follows symbolic links as far as the path exists.
func resolve(path string) string {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		return resolved
	}
	parent := filepath.Dir(path)
	if !errors.Is(err, os.ErrNotExist) || parent == path {
		return path
	}
	return filepath.Join(resolve(parent), filepath.Base(path))
}

// Resolve is the path under which the gateway leases the child of a data directory.
func Resolve(dataDir string) string { return resolve(dataDir) }
