package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/datadir"
)

// ErrNoSuchHost is returned by HandOver for a host that cannot take a directory over.
var ErrNoSuchHost = errors.New("there is no such host in the bucket, or it does not live, cannot be reached by others, or is drained")

// ErrOwnedElsewhere is returned by HandOver if another host has the directory, and lives.
var ErrOwnedElsewhere = errors.New("another host has this directory: ask that one")

// HandOver ends this host's ownership of a data directory as soon as what runs is done and
// uploaded. The next request of it is served by the host to, or if that is "", by any. A
// directory that nobody owns, or whose owner is gone, is given to that host, too. The error
// is ErrNoSuchHost or ErrOwnedElsewhere.
func (ds *Directories) HandOver(ctx context.Context, dir, to string) error {
	d := ds.Dirs.Of(dir)
	if err := ds.checkTaker(ctx, to); err != nil {
		return err
	}
	if !d.Owned() {
		_, o, err := ds.owner(ctx, d)
		if err != nil {
			return err
		}
		if o.Host != ds.Name {
			return ds.offer(ctx, d, to)
		}
		if to == ds.Name {
			return nil
		}
		if err := d.Recover(ctx); err != nil { // it may be ahead of the bucket
			return err
		}
	}
	if to == ds.Name {
		return nil
	}
	return ds.handOver(ctx, d, to)
}

// checkTaker finds out whether a host can take a directory over.
func (ds *Directories) checkTaker(ctx context.Context, to string) error {
	if to == "" || to == ds.Name {
		return nil
	}
	if err := ds.lookAfter(ctx, ds.clock()); err != nil {
		return err
	}
	if w, ok := ds.view.of(to); !ok || !ds.takes(w) {
		return fmt.Errorf("%s: %w", to, ErrNoSuchHost)
	}
	return nil
}

// offer gives a directory away that no host that lives owns.
func (ds *Directories) offer(ctx context.Context, d *datadir.Dir, to string) error {
	t, err := ds.newTakeOver(d)
	if err != nil {
		return err
	}
	o, etag, err := t.dir.Owner(ctx)
	if err != nil {
		return err
	}
	if over, err := ds.ended(ctx, o); err != nil || !over {
		return errors.Join(err, fmt.Errorf("%s: %w", o.Host, ErrOwnedElsewhere))
	}
	return t.dir.Offer(ctx, o, etag, to)
}

func (ds *Directories) handOver(ctx context.Context, d *datadir.Dir, to string) error {
	name, _, err := ds.nameOf(d)
	if err != nil {
		return err
	}
	one := ds.housekeeping.of(name)
	if one == nil {
		return datadir.ErrMoved
	}
	ds.shorten(ctx, one)
	begun, owned := time.Now(), d.Ownership()
	err = d.HandOver(ctx, func(ctx context.Context) error {
		if err := ds.editMark(name, one.log.Epoch(), func(m *mark) { m.Ahead, m.Left = false, owned.States() }); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, leaseFor)
		defer cancel()
		return one.log.Release(ctx, to)
	})
	if err != nil {
		return err
	}
	ds.counts.handOvers.Add(1)
	ds.Logger.Info("a directory was handed over", slog.String(logkey.DataDir, d.Path), slog.String("to", to), slog.Duration("took", time.Since(begun)))
	return nil
}

// A log is shortened before a directory is handed over if it has more than mostToRead objects
// or bytes since the last checkpoint, and if there is time.
const (
	mostToRead      = 64
	mostBytesToRead = 4 << 20
	timeToHandOver  = 10 * time.Second
	shortenWithin   = 5 * time.Second
)

// shorten writes a checkpoint, so that whoever takes the directory over has little to read
// while everybody waits. Here it is still served meanwhile.
func (ds *Directories) shorten(ctx context.Context, one *kept) {
	if one.log.End()-one.compacted.Load() <= mostToRead && one.grown() <= mostBytesToRead {
		return
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < timeToHandOver+shortenWithin {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shortenWithin)
	defer cancel()
	if err := ds.compact(ctx, one); err != nil {
		ds.Logger.Warn("the log of a directory was not compacted before it is handed over", slog.String(logkey.DataDir, one.path), slog.Any(logkey.Error, err))
	}
}

// Drain has this host take no directory over any more, while others live, and hands over
// those that it has. The others know before the first is handed over.
func (ds *Directories) Drain(ctx context.Context) error {
	if !ds.Many {
		return nil
	}
	if err := ds.setDraining(ctx, true); err != nil {
		return err
	}
	return ds.handOverAll(ctx)
}

// Undrain ends Drain.
func (ds *Directories) Undrain(ctx context.Context) error { return ds.setDraining(ctx, false) }

// setDraining returns when the bucket has it.
func (ds *Directories) setDraining(ctx context.Context, draining bool) error {
	ds.draining.Store(draining)
	for {
		err := ds.renew(ctx)
		if !bucket.ShouldRetry(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(renewEvery / 4):
		}
	}
}

// handOverAll hands over all directories that this host has, if another host can have them.
func (ds *Directories) handOverAll(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(directoriesAtOnce)
	for _, one := range ds.Owned() {
		group.Go(func() error {
			err := ds.handOver(ctx, ds.Dirs.Of(one.Path), "")
			if errors.Is(err, datadir.ErrMoved) {
				return nil // it was lost
			}
			if err != nil {
				return fmt.Errorf("%s: %w", one.Path, err)
			}
			return nil
		})
	}
	return group.Wait()
}
