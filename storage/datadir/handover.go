package datadir

import (
	"context"
	"errors"
)

// Where several hosts share a bucket, a directory can go from one to another at any time.
// What is here of it stays on the disk: if it comes back, only what differs is fetched.

// Owned says whether this host owns the directory in the bucket, and may serve it.
func (d *Dir) Owned() bool { return d.owned() }

// Ownership is that of this host, or of before, if its lease has ended since; nil = none.
func (d *Dir) Ownership() *Replica { return d.replica.Load() }

// AwaitHandOver returns when the directory is not being handed over. Whoever is to serve a
// request asks afterwards who does.
func (d *Dir) AwaitHandOver(ctx context.Context) error {
	for {
		done := d.handingOver.Load()
		if done == nil {
			return nil
		}
		select {
		case <-*done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// IsHandedOver says whether the directory is being handed over, so that nobody is to take it over.
func (d *Dir) IsHandedOver() bool { return d.handingOver.Load() != nil }

func (d *Dir) beginHandOver(ctx context.Context) (over func(), err error) {
	done := make(chan struct{})
	if !d.handingOver.CompareAndSwap(nil, &done) {
		return nil, errors.Join(d.AwaitHandOver(ctx), ErrMoved)
	}
	return func() { d.handingOver.Store(nil); close(done) }, nil
}

// HandOver ends this host's ownership: what runs is finished and uploaded, the child is
// stopped, and then release gives the directory away in the bucket. Whatever came
// meanwhile and waits here gets ErrMoved. The error is ErrMoved if this host does not own
// the directory.
func (d *Dir) HandOver(ctx context.Context, release func(context.Context) error) error {
	over, err := d.beginHandOver(ctx)
	if err != nil {
		return err
	}
	defer over()
	unlock, err := d.lockForWrite(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r := d.replica.Load()
	if r == nil || !r.Holds() {
		return ErrMoved
	}
	r.Uploaded() // what was added
	if err := <-r.Uploader.Settled(); err != nil {
		r.Lose(err)
		return err
	}
	if err := d.dirs.StopChild(ctx, d.Path, "another host takes the directory over"); err != nil {
		return err
	}
	if !d.replica.CompareAndSwap(r, nil) { // nothing is answered here from now on
		return ErrMoved
	}
	r.end()
	d.MarkUnrecovered()
	d.dirs.Cache.Forget(d.Path)
	return release(ctx)
}

// GiveAway has give give a directory away that this host does not serve. interrupt ends a take-over
// under way. The error is ErrBusy if the directory is served.
func (d *Dir) GiveAway(ctx context.Context, interrupt func(), give func(context.Context) error) error {
	over, err := d.beginHandOver(ctx)
	if err != nil {
		return err
	}
	defer over()
	interrupt()
	unlock, err := d.lockForWrite(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if d.owned() {
		return ErrBusy
	}
	return give(ctx)
}

// dropLost lets go of what is left of an ownership that was lost.
func (d *Dir) dropLost(ctx context.Context) {
	if !d.leftovers.Load() {
		return
	}
	unlock, err := d.lockForWrite(ctx)
	if err != nil {
		return // it is tried again
	}
	defer unlock()
	if d.replica.Load() != nil { // it was taken over again
		return
	}
	d.dirs.Cache.Forget(d.Path)
	if d.dirs.StopChild(ctx, d.Path, "this host does not own the directory any more") == nil {
		d.leftovers.Store(false)
	}
}
