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

// CheckKnown returns ErrNotInBucket if a directory has phexts that the bucket does not
// know. Directories that were in this bucket before cost no request, but the first of them
// is asked for, to see whether it is this bucket.
func (ds *Directories) CheckKnown(ctx context.Context, dirs *datadir.Dirs) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(directoriesAtOnce)
	anyMarked := false
	for _, d := range ds.all(dirs) {
		t, err := ds.newTakeOver(d)
		if err != nil {
			ds.Logger.Warn("it is not known whether the bucket has a directory", slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
			continue // whoever asks for it is told
		}
		mark, earlier, err := t.readMark()
		if err != nil {
			return err
		}
		marked := mark.Epoch > 0
		if len(t.there) == 0 || marked && anyMarked {
			continue
		}
		anyMarked = anyMarked || marked
		group.Go(func() error {
			owner, _, err := t.dir.Owner(ctx)
			if err == nil {
				err = t.checkKnown(ctx, marked && owner.Epoch > 0 || earlier.isOld(owner))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", d.Path, err)
			}
			return nil
		})
	}
	return group.Wait()
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
			if mark, _, err := t.readMark(); mark.Ahead || err != nil {
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
