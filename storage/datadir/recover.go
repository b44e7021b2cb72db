package datadir

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/journal"
)

// recoveryTimeout is how long the recovery of one directory may take.
const recoveryTimeout = 10 * time.Minute

// Recover returns when the files of the directory are what the journal says.
// The first request of each directory sees to that, and so does the first one
// after a write that could not be put in order.
func (d *Dir) Recover(ctx context.Context) error {
	if d.Recovered() {
		return nil
	}
	unlock, err := d.lockForWrite(ctx)
	if errors.Is(err, errQueueFull) {
		return ErrNotRecovered // another request recovers the files
	}
	if err != nil {
		return err
	}
	defer unlock()
	return d.recoverLocked(ctx)
}

// recoverLocked is Recover for the holder of the write lock.
func (d *Dir) recoverLocked(ctx context.Context) error {
	if !d.hasSameOwners() {
		d.forgetSeen()
		if d.owners.Load() != nil { // what was read for others is not theirs, also where no journal tells them apart
			d.dirs.Cache.Forget(d.Path)
		}
	}
	if err := d.checkOwn(d.Path); err != nil { // before others' journals forget who had them
		return err
	}
	if d.Recovered() {
		return nil
	}
	here := d.place.Load()
	was, before := d.recovered.Swap(false), d.owners.Load() // it may have been for others
	others, err := d.claim()
	if err != nil {
		return d.notRecovered(ctx, err)
	}
	if now := d.owners.Load(); was && d.owned() && !others && before != nil && before.Shared && now.Shared {
		return d.shareAnew(ctx)
	}
	if err := d.CheckPresent(); err != nil {
		return err // recovery would write the phexts to another disk
	}
	if err := d.forgetFormerID(); err != nil {
		return d.notRecovered(ctx, err)
	}
	if d.dirs.TakeOver != nil && !d.dirs.Leased() {
		return ErrMoved // and whoever asks again and again costs nothing
	}
	ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	if err := d.recoverFiles(ctx); errors.Is(err, ErrMoved) || errors.Is(err, ErrUnnamed) || errors.Is(err, ErrNotRecovered) {
		return err // not by a fault of the files, or it is logged
	} else if err != nil {
		return d.notRecovered(ctx, err)
	}
	if d.waiting.Swap(nil) != nil {
		d.dirs.Logger.LogAttrs(ctx, slog.LevelInfo, "there is room again, and a directory is recovered", slog.String(logkey.DataDir, d.Path))
	}
	if err := d.noteUnopened(); err != nil {
		return d.notRecovered(ctx, err)
	}
	return d.markRecovered(here)
}

// WriteUnsynced writes phexts anew that their disk has failed to write, so that the journal can go on. Nobody else
// has to wait for that: readers see the same before and after. at is what Hold returned.
func (d *Dir) WriteUnsynced(ctx context.Context, at string) error {
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return err
	}
	if has, err := j.HasUnsynced(); !has {
		return err
	}
	if err := d.StopChild("phexts are written anew"); err != nil {
		return err
	}
	_, err = j.RecoverAt(ctx, at)
	return err
}

// noteUnopened notes the phexts that could not be opened when they were to be recovered.
func (d *Dir) noteUnopened() error {
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return err
	}
	names, err := j.Unopened()
	d.unopened.Store(nil)
	if len(names) > 0 {
		d.unopened.Store(&names)
	}
	return err
}

// canOpenMore says whether one of the phexts that could not be opened can be now, or is gone: then
// the directory is not recovered any more.
func (d *Dir) canOpenMore() bool {
	names := d.unopened.Load()
	return names != nil && slices.ContainsFunc(*names, func(name string) bool {
		f, _, err := d.dirs.Links.Open(filepath.Join(d.Path, name))
		if err == nil {
			_ = f.Close() // it was not read
		}
		return !journal.IsUnfit(err)
	})
}

// isUnopened says whether the phext of a call, or the names in it, could not be opened when it
// was to be recovered: what it holds may be torn, also if it can be opened since.
func (d *Dir) isUnopened(call *rewrite.Call) bool {
	names := d.unopened.Load()
	return names != nil && (slices.Contains(*names, call.FileName()) || slices.Contains(*names, call.NamesFileName()))
}

// markRecovered notes that the directory is recovered, unless another one is at its place
// since the recovery began. That is not recovered yet.
func (d *Dir) markRecovered(was *place) error {
	if now := d.place.Load(); was != nil && (now == nil || now.Node != was.Node || now.birth != was.birth) {
		return ErrNotRecovered
	}
	d.changed.Store(0)
	d.recovered.Store(true)
	d.refused.Store(nil)
	return nil
}

// shareAnew is for a directory that some tenants share all the time, while others came or
// went: those who stay do not notice.
func (d *Dir) shareAnew(ctx context.Context) error {
	j, err := d.dirs.JournalOf(d)
	if err == nil {
		err = j.SettleClaim(d.Path)
	}
	if err != nil {
		return d.notRecovered(ctx, err)
	}
	d.recovered.Store(true)
	return nil
}

// claim has the journal know whose the directory is.
func (d *Dir) claim() (others bool, err error) {
	now := d.dirs.Tenants()
	if now == nil {
		return false, nil
	}
	owners := d.ownersAt(now)
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return false, err
	}
	if err := d.expect(owners); err != nil {
		return false, err
	}
	if tenant := alone(owners); tenant != "" {
		if err := d.dirs.forgetPurged(tenant); err != nil {
			return false, err
		}
	}
	others, err = j.Claim(journal.Owners{Tenants: owners.Tenants, Shared: owners.Shared, Exists: func(tenant string) bool {
		_, ok := now.ByUniqueID(tenant)
		return ok
	}})
	if others {
		d.waiting.Store(nil)
		d.dirs.Cache.Forget(d.Path) // or what was read for them might be served again
		d.lastHere.Store(nil)
	}
	if err == nil {
		d.marked.Store(false) // the mark says whose it is
		d.owners.Store(&owners)
		d.ownersIn.Store(now)
	}
	return others, err
}

// refusal is a line of the log.
type refusal struct {
	reason string
	at     time.Time
}

// notRecovered logs why a directory is not recovered, and returns what callers are told.
// It logs the same every 10 s at most, since each request tries again.
func (d *Dir) notRecovered(ctx context.Context, err error) error {
	var full *journal.NoRoomError
	said, told := "a directory is not served, because its files could not be recovered", ErrNotRecovered
	if errors.Is(err, fs.ErrPermission) {
		told = errNoAccess
	}
	if errors.As(err, &full) {
		said, told = "a directory is not written, and damaged phexts in it are not read, until there is room to repair them", errNoRoom
	}
	isNew := d.waiting.Swap(full) == nil
	if full == nil {
		now, before := &refusal{err.Error(), time.Now()}, d.refused.Load()
		if isNew = before == nil || before.reason != now.reason || now.at.Sub(before.at) >= retryRecovery; isNew {
			d.refused.Store(now)
		}
	}
	if isNew {
		d.dirs.Logger.LogAttrs(ctx, slog.LevelError, said, slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
	}
	return told
}

// recoverFor is Recover for a call that only reads. A phext that is whole need not wait
// for room to repair others.
func (d *Dir) recoverFor(ctx context.Context, call *rewrite.Call) error {
	if d.isWhole(call) {
		return nil
	}
	err := d.Recover(ctx)
	switch {
	case err == nil:
		return d.awaitFiles(ctx, call)
	case d.isWhole(call):
		return nil
	}
	return err
}

// isWhole says whether recovery waits for room, and has recovered the phext of a call
// and the names in it.
func (d *Dir) isWhole(call *rewrite.Call) bool {
	full := d.waiting.Load()
	if full == nil || full.Files == nil || !d.hasSameOwners() {
		return false
	}
	_, torn := full.Files[filepath.Base(call.FilePath(d.Path))]
	_, names := full.Files[call.NamesFileName()]
	return !torn && !names
}

// Waiting says which disk is too full for the files of a directory to be recovered, and
// is nil if none is.
func (ds *Dirs) Waiting(dataDir string) *journal.NoRoomError { return ds.Of(dataDir).waiting.Load() }

// retryRecovery is how often a directory that waits for room is tried without a request.
const retryRecovery = 10 * time.Second

// Run recovers directories that wait for room, or have phexts that could not be opened and can
// be now, or to which tenants have moved, or whose writes have to get into the bucket, and lets go
// of those that were lost, until ctx ends.
func (ds *Dirs) Run(ctx context.Context) {
	ticker := time.NewTicker(retryRecovery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-ds.due:
		}
		for _, d := range ds.all() {
			d.dropLost(ctx)
			d.markAgain()
			moved := d.moved.Swap(false) || d.missing.Load() && d.CheckPresent() == nil
			if moved || d.waiting.Load() != nil || d.unopened.Load() != nil || d.mustCatchUp() {
				if d.Recover(ctx) != nil && moved { // it is logged, and tried again
					d.moved.Store(true)
				}
			}
		}
	}
}

// wake has Run look at all directories now.
func (ds *Dirs) wake() {
	select {
	case ds.due <- struct{}{}:
	default: // it does so anyway
	}
}

func (ds *Dirs) all() []*Dir {
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	return slices.Collect(maps.Values(ds.byPath))
}

func (d *Dir) recoverFiles(ctx context.Context) error {
	if err := d.Refusal(); err != nil {
		return err
	}
	if err := d.dirs.StopChild(ctx, d.Path, "its files are recovered"); err != nil {
		return err
	}
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return err
	}
	release, err := d.reserveRecovery(ctx)
	if err != nil {
		return err
	}
	at, letGo, err := d.Hold() // recovery must not write the phexts to another disk
	if err == nil {
		err = d.recoverCopies(ctx, at)
	}
	if err == nil {
		_, err = j.RecoverAt(ctx, at) // it logs what it did
	}
	letGo()
	release()
	if err != nil {
		return err
	}
	if err := d.takeOver(ctx); err != nil {
		return err
	}
	return j.AnnounceAll() // with a bucket, the take-over has dealt with what is not there
}

// recoverCopies repairs what a crash has left of files that a tenant has brought from another
// directory before they were recovered there. Only the journal of that knows what they should
// hold, and once somebody else has the directory, nobody does.
func (d *Dir) recoverCopies(ctx context.Context, at string) error {
	owners := d.owners.Load()
	if owners == nil || owners.Shared || len(owners.Tenants) != 1 {
		return nil
	}
	by, err := d.dirs.JournalOf(d)
	if err != nil {
		return err
	}
	left, err := d.dirs.Journal.NotedElsewhere(owners.Tenants[0], d.Path)
	for _, path := range left {
		if len(d.dirs.Tenants().At(path)) > 0 {
			continue
		}
		before := d.dirs.Of(path)
		unlock, lockErr := before.lockForWrite(ctx)
		if lockErr != nil {
			return lockErr
		}
		j, journalErr := d.dirs.JournalOf(before)
		if journalErr == nil {
			journalErr = j.RecoverCopy(ctx, at, by)
		}
		unlock()
		err = errors.Join(err, journalErr)
	}
	return err
}

// Refusal is why the directory is not to be served for now; nil = it may be.
func (d *Dir) Refusal() error {
	if d.dirs.Refuse == nil {
		return nil
	}
	return d.dirs.Refuse(d)
}

// largeFile is the size of a file, in bytes, from which on its recovery counts as memory.
const largeFile = 64 << 20

// reserveRecovery counts the memory for the largest file of the directory, of which mostly
// one copy is needed. Recovery is never refused memory, so large files are recovered one
// after the other.
func (d *Dir) reserveRecovery(ctx context.Context) (release func(), err error) {
	entries, err := os.ReadDir(d.Path)
	if fsutil.IgnoreMissing(err) != nil {
		return nil, err
	}
	largest := int64(0)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			largest = max(largest, info.Size())
		}
	}
	if largest < largeFile {
		return nothing, nil
	}
	select {
	case d.dirs.recovering <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.dirs.Answers.TakeAnyway(largest)
	return func() {
		d.dirs.Answers.Give(largest)
		runtime.GC() // or what comes next would take its memory beside that
		<-d.dirs.recovering
	}, nil
}
