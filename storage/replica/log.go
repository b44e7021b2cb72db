package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// Log is the log of a directory while this host owns it.
type Log struct {
	d     *Directory
	epoch uint64

	known    atomic.Uint64 // number of the last object that is known to be there
	appended atomic.Int64  // bytes of all objects that were appended here, as a reader has them in memory

	mu        sync.Mutex
	end       uint64 // number of the last object
	ownerETag string
	failed    error // once set, nothing is appended any more

	housekeeping *semaphore.Weighted // held by one of WriteCheckpoint, Compact, PutFiles, Prune, Purge and Release, over requests
	purged       uint64              // no checkpoint is written of what was before this number
	prunedUpTo   uint64              // only records that open an epoch are left up to this number
}

// TakeOver makes this host the owner, in a new epoch. seen and etag are from Owner:
// if it has changed since, the error is ErrDeposed. The caller must be sure that the
// owner's lease has ended; if it is wrong about that, the other cannot append any
// more all the same. From its return on, the log up to End is complete.
//
// Only one TakeOver of a directory may run in a process at a time.
func (d *Directory) TakeOver(ctx context.Context, seen object.Owner, etag string) (*Log, error) {
	l := &Log{d: d, epoch: seen.Epoch + 1, housekeeping: semaphore.NewWeighted(1)}
	var err error
	if l.ownerETag, err = d.replaceOwner(ctx, object.Owner{Host: d.Host, Incarnation: d.Incarnation, Epoch: l.epoch}, etag); err != nil {
		return nil, fmt.Errorf("taking %s over: %w", d.Name, err)
	}
	if err := l.open(ctx); err != nil {
		return nil, fmt.Errorf("taking %s over: %w", d.Name, err)
	}
	l.d = d.patient()
	return l, nil
}

// Reopen is TakeOver without a new epoch, for whoever has opened one, and has appended nothing
// that may still be on its way. seen and etag are from Owner: it returns nil if they are not
// what opening that epoch has left, or it was for another tenant. l is not used any more then.
func (d *Directory) Reopen(l *Log, seen object.Owner, etag string) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := object.Owner{Host: d.Host, Incarnation: d.Incarnation, Epoch: l.epoch}
	if l.failed != nil || seen != mine || etag != l.ownerETag || d.Name != l.d.Name || d.Of != l.d.Of {
		return nil
	}
	again := &Log{d: d.patient(), epoch: l.epoch, end: l.end, ownerETag: etag, housekeeping: semaphore.NewWeighted(1)}
	again.known.Store(l.end)
	return again
}

// replaceOwner writes the owner if it still has the ETag, and returns its new one.
func (d *Directory) replaceOwner(ctx context.Context, o object.Owner, etag string) (newETag string, err error) {
	body, err := object.Encode(&o)
	if err != nil {
		return "", err
	}
	condition := bucket.IfMatch(etag)
	if etag == "" {
		condition = bucket.IfAbsent()
	}
	err = d.retry(ctx, d.ownerKey(), func() error {
		newETag, err = d.Bucket.Put(ctx, d.ownerKey(), body, condition)
		return err
	})
	if !errors.Is(err, bucket.ErrPreconditionFailed) {
		return newETag, err
	}
	// It is this host's own if the answer to an earlier try was lost.
	there, newETag, err := d.Owner(ctx)
	if err == nil && there != o {
		err = ErrDeposed
	}
	return newETag, err
}

// open appends the record that opens the epoch, behind whatever the host before may
// still append.
func (l *Log) open(ctx context.Context) (err error) {
	if l.end, err = l.d.End(ctx); err != nil {
		return err
	}
	for {
		if err := l.checkLast(ctx); err != nil {
			return err
		}
		err := l.create(ctx, object.Log{Opens: true, Of: l.d.Of})
		if !errors.Is(err, errTaken) && !errors.Is(err, errGone) {
			return err
		}
		// Lists may lag behind, and this number exists for certain.
		if l.end, err = l.d.endAfter(ctx, l.end+1); err != nil {
			return err
		}
	}
}

// checkLast returns ErrDeposed if a later epoch was opened. Since only one host can
// create the next number, nothing comes between this and a create that succeeds.
func (l *Log) checkLast(ctx context.Context) error {
	if l.end == 0 {
		return nil
	}
	last, err := l.d.readLog(ctx, l.end)
	if errors.Is(err, bucket.ErrNotFound) { // pruned, so there is a checkpoint
		var c object.Checkpoint
		c, err = l.d.ReadCheckpoint(ctx, l.end)
		last.Epoch = c.Epoch
	}
	if err == nil && last.Epoch >= l.epoch {
		err = ErrDeposed
	}
	return err
}

// What has happened to a number: another's object has it, or it was taken and its
// object was removed by a later owner, which does that only to what stands.
var (
	errTaken = errors.New("the number is taken")
	errGone  = errors.New("the number was taken, and its object is gone")
)

// create creates the object behind the end, with the same bytes until the bucket
// says what became of it. The caller holds the lock, or is the only one.
func (l *Log) create(ctx context.Context, record object.Log) error {
	record.Epoch, record.Host, record.Incarnation = l.epoch, l.d.Host, l.d.Incarnation
	record.Nonce, record.Time = rand.Text(), l.d.now().UnixNano()
	body, err := object.Encode(&record)
	if err != nil {
		return err
	}
	err = l.d.retry(ctx, l.d.logKey(l.end+1), func() error {
		_, err := l.d.Bucket.Put(ctx, l.d.logKey(l.end+1), body, bucket.IfAbsent())
		return err
	})
	if errors.Is(err, bucket.ErrPreconditionFailed) {
		there, err := l.d.readLog(ctx, l.end+1)
		if errors.Is(err, bucket.ErrNotFound) {
			return errGone
		}
		if err != nil {
			return err
		}
		if there.Incarnation != record.Incarnation || there.Nonce != record.Nonce {
			return errTaken
		}
	} else if err != nil {
		return err
	}
	l.end++
	l.appended.Add(object.PayloadSize(body))
	l.known.Store(l.end)
	return nil
}

// Epoch is the number of this ownership.
func (l *Log) Epoch() uint64 { return l.epoch }

// End is the number of the last object that is known to be in the log. It waits for no
// upload.
func (l *Log) End() uint64 { return l.known.Load() }

// Appended is how many bytes all objects have that were appended here, as whoever reads them
// has them in memory: in the bucket, they may take much less. It waits for no upload.
func (l *Log) Appended() int64 { return l.appended.Load() }

// Append appends one object with all groups, and returns its number when it is in the
// bucket and the lease still holds. ctx must end with the lease.
//
// After an error nothing can be appended any more: what the log ends with is not known,
// until somebody takes the directory over again. If the error is ErrDeposed, ErrNoLease
// or ErrReleased, the groups are not in the log and never will be; else they may be.
func (l *Log) Append(ctx context.Context, groups []object.Group) (seq uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return 0, l.failed
	}
	if ctx.Err() != nil || !l.d.holds() {
		return 0, l.failLocked(ErrNoLease)
	}
	err = l.create(ctx, object.Log{Groups: groups})
	switch {
	case errors.Is(err, errTaken):
		return 0, l.failLocked(ErrDeposed)
	case errors.Is(err, errGone) || ctx.Err() != nil || !l.d.holds():
		return 0, l.failLocked(errors.Join(ErrLeaseEnded, err))
	case err != nil:
		return 0, l.failLocked(err)
	}
	return l.end, nil
}

func (l *Log) failLocked(err error) error {
	l.failed = fmt.Errorf("appending to the log of %s: %w", l.d.Name, err)
	return l.failed
}

// Release hands the directory over: nothing can be appended any more, and the host next may
// take it over at once, or if that is "", any. The caller has ended what it compacts, and
// everything that was submitted is uploaded. The error is ErrDeposed if another host has
// taken it over already.
func (l *Log) Release(ctx context.Context, next string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = ErrReleased
	}
	if err := l.housekeeping.Acquire(ctx, 1); err != nil { // what is removed from now on is another's to remove
		return fmt.Errorf("handing %s over: %w", l.d.Name, err)
	}
	defer l.housekeeping.Release(1)
	if _, err := l.d.replaceOwner(ctx, object.Owner{Epoch: l.epoch, Next: next}, l.ownerETag); err != nil {
		return fmt.Errorf("handing %s over: %w", l.d.Name, err)
	}
	return nil
}

// Offer has the host next take the directory over, of an owner whose lease has ended, or
// that there is none. seen and etag are from Owner. The error is ErrDeposed if another
// host has taken it over already.
func (d *Directory) Offer(ctx context.Context, seen object.Owner, etag, next string) error {
	if _, err := d.replaceOwner(ctx, object.Owner{Epoch: seen.Epoch, Next: next}, etag); err != nil {
		return fmt.Errorf("handing %s over: %w", d.Name, err)
	}
	return nil
}
