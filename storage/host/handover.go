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
	"mirrorborn.us/sqgate/storage/replica"
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
		return ds.handOverUnserved(ctx, d, to)
	}
	if to == ds.Name {
		return nil
	}
	return ds.handOver(ctx, d, to)
}

// recoverWithin is how long it is tried to serve a directory that is to be handed over.
const recoverWithin = 5 * time.Second

// handOverUnserved hands a directory over that this host owns and does not serve: it has just
// started, say, or cannot serve it.
func (ds *Directories) handOverUnserved(ctx context.Context, d *datadir.Dir, to string) error {
	limited, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	if d.Recover(limited) == nil { // so that it is noted what is here
		return ds.handOver(ctx, d, to)
	}
	return ds.giveAwayOr(ctx, d, to)
}

// giveAwayOr is giveAway, or handOver if the directory may be ahead of the bucket, or is served.
func (ds *Directories) giveAwayOr(ctx context.Context, d *datadir.Dir, to string) error {
	err := ds.giveAway(ctx, d, to)
	if errors.Is(err, errMayBeAhead) {
		if err := d.Recover(ctx); err != nil {
			return err
		}
	} else if !errors.Is(err, datadir.ErrBusy) {
		return err
	}
	return ds.handOver(ctx, d, to)
}

// errMayBeAhead keeps a directory from being given away that this host does not serve.
var errMayBeAhead = errors.New("only this host may have what was acknowledged last")

// giveAway gives a directory to another host that this one does not serve. The bucket must have
// everything that was acknowledged.
func (ds *Directories) giveAway(ctx context.Context, d *datadir.Dir, to string) error {
	if err := ds.checkNotAhead(d); err != nil { // or a take-over that uploads it would be interrupted
		return err
	}
	return d.GiveAway(ctx, func() { ds.attempts.interrupt(d.Path) }, func(ctx context.Context) error {
		if err := ds.checkNotAhead(d); err != nil {
			return err
		}
		if err := ds.offer(ctx, d, to); err != nil {
			return err
		}
		ds.counts.handOvers.Add(1)
		ds.Logger.Warn("a directory was given away that this host does not serve", slog.String(logkey.DataDir, d.Path), slog.String("to", to))
		return nil
	})
}

// checkNotAhead is errMayBeAhead if that is so. If the volume is missing of a directory that this
// host did not have in the bucket, nothing is known of what was on it.
func (ds *Directories) checkNotAhead(d *datadir.Dir) error {
	t, err := ds.newTakeOver(d)
	if err != nil {
		return err
	}
	m, _, err := t.readMark()
	if err == nil && (m.Ahead || t.stray.Ahead || m.Epoch == 0 && d.CheckPresent() != nil) {
		err = errMayBeAhead
	}
	return err
}

// cannotServe says that this host is not to take a directory over, or to go on with it, if another
// one can: it is drained, or the volume with its files is missing.
func (ds *Directories) cannotServe(d *datadir.Dir) bool {
	return ds.Many && len(ds.candidates()) > 0 && (ds.draining.Load() || d.CheckPresent() != nil)
}

// pass gives a directory to another host if this one was to serve it, and cannot. The other one
// is not known if that was done meanwhile.
func (ds *Directories) pass(ctx context.Context, d *datadir.Dir, name string) (to route, passed bool) {
	if !ds.cannotServe(d) || !ds.attempts.mayPass(d.Path, ds.clock()) {
		return route{}, false
	}
	to = ds.after(name)
	switch err := ds.giveAway(ctx, d, to.host); {
	case errors.Is(err, datadir.ErrMoved), errors.Is(err, replica.ErrDeposed):
		return route{}, true
	case err != nil:
		return route{}, false // it is refused here, which is logged
	}
	return to, true
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
	o, etag, err := t.askOwner(ctx)
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
		// Without that, what is here is set aside when the directory comes back, if it is old then.
		if err := ds.editMark(name, one.log.Epoch(), func(m *mark) { m.Ahead, m.Left = false, owned.States() }); err != nil {
			ds.Logger.Warn("it could not be noted what a directory had when it was handed over", slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
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

// handOverMissing hands over directories whose volumes are missing, as those who wanted to read
// them have found.
func (ds *Directories) handOverMissing(ctx context.Context) {
	for _, one := range ds.Owned() {
		d := ds.Dirs.Of(one.Path)
		if !d.IsMissing() || !ds.cannotServe(d) {
			continue
		}
		to := ds.after(one.Name)
		if err := ds.handOver(ctx, d, to.host); err != nil && ctx.Err() == nil {
			ds.Logger.Warn("a directory whose volume is missing could not be handed over", slog.String(logkey.DataDir, one.Path), slog.Any(logkey.Error, err))
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
	for _, path := range ds.attempts.paths() {
		group.Go(func() error { return ds.handOverFailed(ctx, ds.Dirs.Of(path)) })
	}
	return group.Wait()
}

// handOverFailed hands a directory over that is not taken over yet, or could not be, if it is
// this host's.
func (ds *Directories) handOverFailed(ctx context.Context, d *datadir.Dir) error {
	t, err := ds.newTakeOver(d)
	if err != nil {
		return nil // nobody has it any more, say
	}
	if o, _, err := t.askOwner(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.Path, err)
	} else if o.Host != ds.Name {
		return nil
	}
	err = ds.giveAwayOr(ctx, d, "")
	for _, gone := range []error{datadir.ErrMoved, ErrOwnedElsewhere, replica.ErrDeposed} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Path, err)
	}
	return nil
}

// after is the other host that follows this one in the order of rendezvous hashing, in a ring: so
// a directory that several hosts cannot serve comes to each.
func (ds *Directories) after(name string) (next route) {
	mine, below := weightOf(ds.Name, name), uint64(0)
	for host, w := range ds.candidates() {
		if weight := weightOf(host, name); weight < mine && (next.host == "" || weight > below) {
			next, below = route{host, w.seen.Incarnation, true}, weight
		}
	}
	if next.host == "" {
		next, _ = ds.prefer(name)
	}
	return next
}
