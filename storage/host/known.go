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

// CheckKnown looks for directories with phexts that the bucket does not know. They are logged,
// and not served. If it knows none at all, the error is ErrNotInBucket: it is an empty one,
// or another. Those of which that cannot be found out are logged, and not served either. Directories that were in this bucket before cost no request, once one of
// them was asked for and it is this bucket.
func (ds *Directories) CheckKnown(ctx context.Context, dirs *datadir.Dirs) error {
	var group errgroup.Group
	group.SetLimit(directoriesAtOnce)
	var mu sync.Mutex
	var first error
	known, anyMarked := false, false
	note := func(d *datadir.Dir, err error) {
		mu.Lock()
		defer mu.Unlock()
		ds.refused.note(d.Path, err)
		if known = known || err == nil; err == nil {
			return
		}
		ds.Logger.Error("a directory is not served, because it is not what the bucket has", slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
		// One that is damaged says nothing of the bucket, and keeps nobody else from being served.
		if first == nil && (errors.Is(err, ErrNotInBucket) || ctx.Err() != nil) {
			first = fmt.Errorf("%s: %w", d.Path, err)
		}
	}
	isKnown := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return known
	}
	for _, d := range ds.all(dirs) {
		t, err := ds.newTakeOver(d)
		if err != nil {
			ds.Logger.Warn("it is not known whether the bucket has a directory", slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
			continue // whoever asks for it is told
		}
		mark, earlier, err := t.readMark()
		if err != nil {
			note(d, err)
			continue
		}
		if len(t.there) == 0 {
			continue
		}
		marked := mark.Epoch > 0
		look := func() error {
			if marked && isKnown() {
				return nil // it is this bucket
			}
			owner, _, err := t.dir.Owner(ctx)
			if err == nil {
				err = t.checkKnown(ctx, marked && owner.Epoch > 0 || earlier.isOld(owner))
			}
			note(d, err)
			return nil
		}
		if marked && !anyMarked {
			_ = look() // there are no errors
		} else {
			group.Go(look)
		}
		anyMarked = anyMarked || marked
	}
	_ = group.Wait() // there are no errors
	if known {
		return nil
	}
	return first
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
