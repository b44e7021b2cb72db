package datadir

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/rewrite"
)

// After a take-over, the files here may be others than the log in the bucket says, or may
// not be here at all. Each is looked at in the background, and fetched if it is not what
// it is to be. One that somebody asks for comes first, and nobody sees a file, or waits
// for another one, before that. SQ is asked only about files that are here.

const (
	fetchWorkers = 8 // files of one directory that are looked at or fetched at a time
	fetchAgain   = 10 * time.Second
	logFetching  = 10 * time.Second
)

// Fetch has the files of a directory that may not be what the log says yet.
type Fetch struct {
	// Get looks at a file, and fetches it if need be, under another name. asked says that
	// somebody waits for it. Nobody has the directory locked.
	get func(ctx context.Context, file string, asked bool) (Fetched, error)

	replica *Replica
	ctx     context.Context // ends with the ownership
	end     context.CancelFunc
	begun   time.Time
	done    atomic.Bool  // all files are what the log says
	whole   func() error // notes that on the disk
	noted   atomic.Bool  // it has
	running *sync.WaitGroup

	mu       sync.Mutex
	left     map[string]*attempt // nil = it is not under way
	sizes    map[string]int64    // of files that are to exist
	progress Progress
	logged   time.Time
}

// Fetched is a file that was looked at. One of the two functions must be called.
type Fetched struct {
	// Place makes the file what the log says. The directory is locked.
	Place func() (known KnownFile, fetched bool, err error)
	// Discard leaves the file as it is.
	Discard func()
}

type attempt struct {
	ended chan struct{}
	err   error
}

// Progress is how much of a directory, or of several, is what the log says.
type Progress struct {
	Files, OfFiles int   // phexts, and how many there are in all
	Bytes, OfBytes int64 // of them
	Fetched        int   // phexts that were not here, or were another version
	FetchedBytes   int64
}

func (p Progress) plus(q Progress) Progress {
	return Progress{p.Files + q.Files, p.OfFiles + q.OfFiles, p.Bytes + q.Bytes, p.OfBytes + q.OfBytes, p.Fetched + q.Fetched, p.FetchedBytes + q.FetchedBytes}
}

// NewFetch makes a Fetch of some files, by name, with their sizes. One that is not to
// exist has size -1. ctx ends with the lease, and running is done soon after that. whole is
// called when all files are what the log says; without files, that is known already.
func NewFetch(ctx context.Context, running *sync.WaitGroup, files map[string]int64, get func(ctx context.Context, file string, asked bool) (Fetched, error), whole func() error) *Fetch {
	ctx, end := context.WithCancel(ctx)
	f := &Fetch{get: get, whole: whole, ctx: ctx, end: end, running: running, begun: time.Now(), left: map[string]*attempt{}, sizes: map[string]int64{}}
	f.logged = f.begun
	f.done.Store(len(files) == 0)
	f.noted.Store(len(files) == 0)
	for name, size := range files {
		f.left[name] = nil
		if size >= 0 {
			f.sizes[name] = size
			f.progress.OfFiles++
			f.progress.OfBytes += size
		}
	}
	return f
}

// Done says that all files are what the log says.
func (f *Fetch) Done() bool { return f.done.Load() }

// End ends what is under way.
func (f *Fetch) End() {
	f.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.get = nil // with what it knows of the log: whoever counts what is left keeps f for a while
}

// start begins to fetch in the background.
func (f *Fetch) start() {
	if f.done.Load() {
		return
	}
	f.running.Go(func() {
		for !f.done.Load() && f.ctx.Err() == nil {
			f.round()
			select {
			case <-f.ctx.Done():
			case <-f.again():
			}
		}
	})
}

// again ends when another round is to begin: at once if nothing is left.
func (f *Fetch) again() <-chan time.Time {
	if f.done.Load() {
		return time.After(0)
	}
	return time.After(fetchAgain)
}

// round tries all files that are left once, except those that are under way.
func (f *Fetch) round() {
	f.mu.Lock()
	names := slices.Sorted(maps.Keys(f.left))
	f.mu.Unlock()
	next := make(chan string, len(names))
	for _, name := range names {
		next <- name
	}
	close(next)
	var workers sync.WaitGroup
	defer workers.Wait()
	for range fetchWorkers {
		workers.Go(func() {
			for name := range next {
				if f.ctx.Err() != nil {
					return
				}
				if a := f.claim(name); a != nil {
					f.try(name, a, false)
				}
			}
		})
	}
}

// claim is nil if the file is here, or under way.
func (f *Fetch) claim(name string) *attempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, left := f.left[name]; !left || a != nil {
		return nil
	}
	a := &attempt{ended: make(chan struct{})}
	f.left[name] = a
	return a
}

// await returns when a file is what the log says, and has it fetched at once.
func (f *Fetch) await(ctx context.Context, name string) error {
	for !f.done.Load() {
		if a := f.claim(name); a != nil {
			f.running.Go(func() { f.try(name, a, true) })
		}
		f.mu.Lock()
		a, left := f.left[name]
		f.mu.Unlock()
		switch {
		case !left:
			return nil
		case a == nil:
			continue // it has failed just now
		}
		select {
		case <-a.ended:
			return a.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// awaitAll returns when all files are what the log says.
func (f *Fetch) awaitAll(ctx context.Context) error {
	f.mu.Lock()
	names := slices.Sorted(maps.Keys(f.left))
	f.mu.Unlock()
	for _, name := range names {
		if err := f.await(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fetch) try(name string, a *attempt, asked bool) {
	fetched, err := f.fetch(name, asked)
	log := f.replica.dir.dirs.Logger.With(slog.String(logkey.DataDir, f.replica.dir.Path))
	switch {
	case err == nil:
	case f.ctx.Err() != nil || !f.replica.current():
		err = ErrMoved
	default:
		log.Error("a phext could not be fetched from the bucket, and is tried again", slog.String("file", name), slog.Any(logkey.Error, err))
		err = errNotFetched
	}
	f.mu.Lock()
	if a.err = err; err != nil {
		f.left[name] = nil
	} else {
		f.noteLocked(name, fetched, log)
	}
	last := len(f.left) == 0
	f.mu.Unlock()
	close(a.ended)
	if !last {
		return
	}
	if err := f.whole(); err != nil {
		log.Warn("it could not be noted that a directory is what the bucket has: its writes wait for the bucket", slog.Any(logkey.Error, err))
		return
	}
	f.noted.Store(true)
}

func (f *Fetch) noteLocked(name string, fetched bool, log *slog.Logger) {
	delete(f.left, name)
	if size, ok := f.sizes[name]; ok {
		delete(f.sizes, name)
		f.progress.Files++
		f.progress.Bytes += size
		if fetched {
			f.progress.Fetched++
			f.progress.FetchedBytes += size
		}
	}
	p := f.progress
	said := ""
	if len(f.left) == 0 {
		f.done.Store(true)
		f.get = nil // with what it knows of the log
		said = "a directory is what the bucket has"
	} else if time.Since(f.logged) >= logFetching {
		said = "fetching a directory from the bucket"
	}
	if said == "" {
		return
	}
	f.logged = time.Now()
	log.Info(said, slog.Int("phexts", p.Files), slog.Int("of_phexts", p.OfFiles), slog.Int64("bytes", p.Bytes), slog.Int64("of_bytes", p.OfBytes),
		slog.Int("fetched", p.Fetched), slog.Int64("fetched_bytes", p.FetchedBytes), slog.Duration("took", f.logged.Sub(f.begun).Round(time.Millisecond)))
}

func (f *Fetch) fetch(name string, asked bool) (fetched bool, err error) {
	f.mu.Lock()
	get := f.get
	f.mu.Unlock()
	if get == nil {
		return false, ErrMoved
	}
	got, err := get(f.ctx, name, asked)
	if err != nil {
		return false, err
	}
	r := f.replica
	unlock, err := r.dir.lockForWrite(f.ctx)
	for errors.Is(err, errQueueFull) { // somebody has it locked for long
		unlock, err = r.dir.lockForWrite(f.ctx)
	}
	if err != nil {
		got.Discard()
		return false, err
	}
	defer unlock()
	if !r.current() {
		got.Discard()
		return false, ErrMoved
	}
	known, fetched, err := got.Place()
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Known[name] = known
	}
	return fetched, err
}

// coming is a tenant's phexts that are not here yet.
func (f *Fetch) coming(call *rewrite.Call) (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for file := range f.sizes {
		if name, ok := call.PhextOf(file); ok && !strings.HasSuffix(name, rewrite.NamesSuffix) {
			names = append(names, name)
		}
	}
	return names
}

// kept is names without those that are to be removed.
func (f *Fetch) kept(names []string, call *rewrite.Call) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(names, func(name string) bool {
		file := call.Elsewhere(name).FileName()
		_, left := f.left[file]
		_, exists := f.sizes[file]
		return left && !exists
	})
}

// Left is what is not here yet, or not what it is to be: the sizes of files in bytes, by
// name. One that is to be removed has size -1.
func (f *Fetch) Left() map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := make(map[string]int64, len(f.left))
	for name := range f.left {
		size, exists := f.sizes[name]
		if !exists {
			size = -1
		}
		left[name] = size
	}
	return left
}

// Lacks says whether a file is not here yet, or not what it is to be.
func (f *Fetch) Lacks(file string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, left := f.left[file]
	return left
}

// Coming is what is on its way to the directory; nil = nothing is.
func (d *Dir) Coming() *Fetch { return d.fetching() }

// fetching is nil if all files are what the log says, or if there is no bucket.
func (d *Dir) fetching() *Fetch {
	r := d.replica.Load()
	if r == nil || r.Fetch == nil || r.Fetch.done.Load() {
		return nil
	}
	return r.Fetch
}

// awaitFiles returns when the phext of a call is here, and the names in it.
func (d *Dir) awaitFiles(ctx context.Context, call *rewrite.Call) error {
	f := d.fetching()
	if f == nil || call == nil {
		return nil
	}
	if err := f.await(ctx, call.FileName()); err != nil {
		return err
	}
	return f.await(ctx, call.NamesFileName())
}

// has says whether the phext of a call is here.
func (d *Dir) has(call *rewrite.Call) bool {
	f := d.fetching()
	if f == nil || call == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, phext := f.left[call.FileName()]
	_, names := f.left[call.NamesFileName()]
	return !phext && !names
}

// Fetching says how far a directory is that was taken over: which part of its phexts is
// here, and is what the bucket has. It is false when all are, or if there is no bucket.
func (d *Dir) Fetching() (Progress, bool) {
	f := d.fetching()
	if f == nil {
		return Progress{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progress, true
}

// Fetching is the sum of all directories whose phexts are not all here, and how many
// they are.
func (ds *Dirs) Fetching() (sum Progress, dirs int) {
	for _, d := range ds.all() {
		if p, ok := d.Fetching(); ok {
			sum, dirs = sum.plus(p), dirs+1
		}
	}
	return sum, dirs
}
