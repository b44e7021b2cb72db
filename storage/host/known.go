package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/replica"
)

// directoriesAtOnce is how many directories are looked at, or put into the bucket, at a
// time.
const directoriesAtOnce = 8

// all are the directories of all tenants, each once.
func (ds *Directories) all(dirs *datadir.Dirs) (all []*datadir.Dir) {
	seen := map[*datadir.Dir]bool{}
	for _, t := range ds.Tenants().All() {
		if d := dirs.Of(t.DataDir); !seen[d] {
			seen[d] = true
			all = append(all, d)
		}
	}
	return all
}

// newTakeOver looks at the phexts of a directory. It does not ask who owns it.
func (ds *Directories) newTakeOver(d *datadir.Dir) (*takeOver, error) {
	name, of, err := ds.nameOf(d)
	if err != nil {
		return nil, err
	}
	t := &takeOver{Directories: ds, d: d, dir: &replica.Directory{Bucket: ds.Bucket, Name: name, Of: of, Host: ds.Name, Incarnation: ds.Incarnation, Memory: ds.fetching.bounds().logs}}
	t.there, err = phextsIn(d.Path)
	return t, err
}

// ErrNotAsked is returned by CheckKnown if the bucket could not be asked about all directories.
var ErrNotAsked = errors.New("it could not be found out whether the bucket has what is here, so it is not served before that is known")

// knownWithin is how long it may take to compare a directory with the bucket at the start, after
// it was found out who owns it. The rest has half of that when the first one has failed.
const knownWithin = 10 * time.Second

// CheckKnown looks for directories with phexts that the bucket does not know. They are logged,
// and not served. If it knows none at all, the error is ErrNotInBucket: it is an empty one,
// or another. A directory that cannot be read is logged, too: whoever asks for it is told.
//
// Directories that were in this bucket before cost no request, once one of them was asked for
// and it is this bucket. The error is ErrNotAsked if there are some that the bucket cannot be
// asked about now: whoever asks for one of them has it looked at again. While nothing of the
// bucket can be read, it waits until ctx ends.
func (ds *Directories) CheckKnown(ctx context.Context, dirs *datadir.Dirs) error {
	c := &check{Directories: ds}
	for _, d := range ds.all(dirs) {
		t, err := ds.newTakeOver(d)
		if err != nil {
			ds.Logger.Warn("it is not known whether the bucket has a directory", slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
			continue // whoever asks for it is told
		}
		mark, earlier, err := t.readMark()
		if err != nil {
			c.note(d, err)
			continue
		}
		if len(t.there) > 0 {
			c.todo = append(c.todo, expected{takeOver: t, mark: mark, earlier: earlier})
		}
	}
	for reached, said := true, false; ; {
		c.ask(ctx)
		switch {
		case len(c.todo) == 0 && !c.known:
			return c.first
		case len(c.todo) == 0:
			return nil
		case c.known:
			if said { // it has just come back
				c.ask(ctx)
			}
			return c.leaveRest()
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), c.notAsked)
		}
		before, err := reached, ds.reach(ctx)
		if reached = err == nil; before && reached {
			return c.leaveRest() // it is about these only
		}
		if !reached && !said {
			said = true
			ds.Logger.Warn("the bucket does not answer: sqgate waits until it can be asked whether it has what is here", slog.Int("directories", len(c.todo)), slog.Any(logkey.Error, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(catchUpEvery):
		}
	}
}

// reach says whether anything of the bucket can be read.
func (ds *Directories) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	_, _, err := ds.Bucket.List(ctx, hostKey(""), "", 1)
	return err
}

// check is a CheckKnown under way.
type check struct {
	*Directories
	todo []expected // that have not been compared with the bucket yet

	mu       sync.Mutex
	known    bool  // of at least one: it is this bucket
	first    error // of those that it does not know
	notAsked error // of those that are left in todo
}

// expected is a directory that the bucket ought to know.
type expected struct {
	*takeOver
	mark, earlier mark
}

// note notes how a look at a directory has ended.
func (c *check) note(d *datadir.Dir, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused.note(d.Path, err)
	if c.known = c.known || err == nil; err == nil {
		return
	}
	c.Logger.Error("a directory is not served, because it is not what the bucket has", slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
	// One that is damaged says nothing of the bucket, and keeps nobody else from being served.
	if c.first == nil && errors.Is(err, ErrNotInBucket) {
		c.first = fmt.Errorf("%s: %w", d.Path, err)
	}
}

func (c *check) isKnown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// ask looks at what is to do, and leaves there what the bucket could not be asked about.
func (c *check) ask(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(directoriesAtOnce)
	var left []expected
	var patience *time.Timer
	look := func(e expected) {
		marked := e.mark.Epoch > 0
		if marked && c.isKnown() {
			return // it is this bucket
		}
		err := e.look(ctx)
		if !bucket.ShouldRetry(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			c.note(e.d, err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.notAsked = err; patience == nil {
			patience = time.AfterFunc(knownWithin/2, cancel)
		}
		left = append(left, e)
	}
	anyMarked := false
	for _, e := range c.todo {
		if marked := e.mark.Epoch > 0; marked && !anyMarked {
			look(e)
			anyMarked = true
			continue
		}
		group.Go(func() error { look(e); return nil })
	}
	_ = group.Wait() // there are no errors
	if patience != nil {
		patience.Stop()
	}
	c.todo = left
}

// look is an error if the bucket does not know a directory.
func (e expected) look(ctx context.Context) error {
	owner, _, err := e.askOwner(ctx)
	if err != nil {
		return err
	}
	compared, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	return e.checkKnown(compared, e.mark.Epoch > 0 && owner.Epoch > 0 || e.earlier.isOld(owner))
}

// askOwner asks the bucket who owns the directory, for no longer than a request can wait.
func (t *takeOver) askOwner(ctx context.Context) (o object.Owner, etag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return t.dir.Owner(ctx)
}

// leaveRest logs what the bucket could not be asked about, and returns that as an error.
func (c *check) leaveRest() error {
	if len(c.todo) == 0 {
		return nil
	}
	var paths []string
	for _, e := range c.todo {
		paths = append(paths, e.d.Path)
	}
	slices.Sort(paths)
	paths = paths[:min(len(paths), mostNames)]
	c.Logger.Error("directories are not served before the bucket can be asked whether it has what is here; all others are",
		slog.Any("directories", paths), slog.Int("all", len(c.todo)), slog.Any(logkey.Error, c.notAsked))
	return fmt.Errorf("%d directories, such as %s: %w (%w)", len(c.todo), paths[0], ErrNotAsked, c.notAsked)
}

// refused are the directories that are not served because the bucket does not know what is
// here, or this host does not, by path.
type refused struct {
	mu  sync.Mutex
	why map[string]error
}

// note takes down how a look at a directory has ended. One that could not be made says nothing.
func (r *refused) note(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		delete(r.why, path)
	case errors.Is(err, ErrNotInBucket), errors.Is(err, ErrMark), errors.Is(err, ErrSameName):
		if r.why == nil {
			r.why = map[string]error{}
		}
		r.why[path] = err
	}
}

// Refused are the directories that this host would not serve, by path: the bucket does not
// know what is here, or this host does not.
func (ds *Directories) Refused() map[string]error {
	ds.refused.mu.Lock()
	defer ds.refused.mu.Unlock()
	return maps.Clone(ds.refused.why)
}

// catchUpEvery is how often it is tried to take directories over that have to be.
const catchUpEvery = time.Second

// CatchUp takes the directories over that may be ahead of the bucket since an earlier
// process, although nobody asks for them. It returns when that is done, or ctx ends.
func (ds *Directories) CatchUp(ctx context.Context, dirs *datadir.Dirs) {
	var mu sync.Mutex
	behind := map[*datadir.Dir]bool{}
	for _, d := range ds.all(dirs) {
		if t, err := ds.newTakeOver(d); err == nil {
			if mark, _, err := t.readMark(); mark.Ahead || err != nil && !errors.Is(err, ErrMark) {
				behind[d] = true
			}
		}
	}
	for len(behind) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(catchUpEvery):
		}
		if !ds.Holds() {
			continue
		}
		var group errgroup.Group
		group.SetLimit(directoriesAtOnce)
		for _, d := range slices.Collect(maps.Keys(behind)) {
			group.Go(func() error {
				err := d.Recover(ctx)
				if err == nil || errors.Is(err, datadir.ErrUnnamed) || errors.Is(err, datadir.ErrMoved) && ds.elsewhere(ctx, d) {
					mu.Lock()
					defer mu.Unlock()
					delete(behind, d)
				}
				return nil // it is logged
			})
		}
		_ = group.Wait() // there are no errors
	}
}

// elsewhere says that another host serves a directory: what only this one has is set aside
// if it ever comes back.
func (ds *Directories) elsewhere(ctx context.Context, d *datadir.Dir) bool {
	_, here, err := ds.Route(ctx, d.Path)
	return err == nil && !here
}
