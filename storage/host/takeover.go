package host

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// Directories takes data directories over.
type Directories struct {
	*Host
	Tenants func() *tenants.Snapshot
	Journal *journal.Set
	// Dirs are those that it serves. They are needed where there are other hosts.
	Dirs  *datadir.Dirs
	Links fsutil.Links
	// MarkDir remembers which directories here were in the bucket before.
	MarkDir string
	// History is how long the bucket keeps what a directory was.
	History time.Duration
	// Lag is how far the bucket may be behind what was acknowledged; 0 = not at all.
	Lag time.Duration
	// Calls are counted for the limits of a day, which another host goes on with; nil = none.
	Calls *quota.Calls

	housekeeping housekeeping
	counts       counts
	routes       routes
	names        names
	refused      refused
	attempts     attempts
	fetching     fetching
	marks        sync.Mutex // for their files
	lock         *os.File
}

// ErrNotInBucket is a directory with phexts that was never in this bucket. It is not
// served, so that an empty or a wrong bucket never replaces what is on the disk.
var ErrNotInBucket = errors.New("there are phexts here that the bucket does not know: put them there with `sqgate bucket init`, or name the bucket that they are in")

// TakeOver makes this host the owner of a directory in the bucket, and begins to make its
// files what the log there says: the Fetch of the Replica brings what differs. A file that is
// ahead of the log was acknowledged to nobody, and goes to the quarantine. The caller has the
// directory locked and recovered, and no child runs. The error is datadir.ErrMoved as long as
// this host has no lease, or another one may have the directory.
func (ds *Directories) TakeOver(ctx context.Context, d *datadir.Dir) (*datadir.Replica, error) {
	lease := ds.current()
	if lease == nil {
		return nil, datadir.ErrMoved
	}
	if ds.clock() < ds.attempts.of(d.Path).until {
		return nil, datadir.ErrNotRecovered
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(lease.ctx, cancel)()
	defer ds.attempts.begin(d.Path, cancel)()
	if d.IsHandedOver() {
		return nil, datadir.ErrMoved
	}
	r, err := ds.takeOver(ctx, d, lease)
	ds.refused.note(d.Path, err)
	if err != nil && !lease.holds() {
		err = errors.Join(replica.ErrNoLease, err)
	}
	if isElsewhere(err) {
		ds.Logger.Warn("a directory is not taken over", slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
		return nil, datadir.ErrMoved
	}
	return r, err
}

// tryFor is for how long a take-over asks the bucket for something that it does not get. It is
// longer than a lease, so that a bucket that cannot be reached at all is noticed by that, and
// shorter than a request waits.
const tryFor = 9 * time.Second

// isElsewhere says whether a take-over has failed because another host may have the directory.
func isElsewhere(err error) bool {
	return errors.Is(err, replica.ErrDeposed) || errors.Is(err, replica.ErrNoLease) || errors.Is(err, errOwned)
}

func (ds *Directories) takeOver(ctx context.Context, d *datadir.Dir, lease *lease) (r *datadir.Replica, err error) {
	t, err := ds.newTakeOver(d)
	if err != nil {
		return nil, err
	}
	t.log = ds.attempts.of(d.Path).log
	t.dir.Patience = tryFor
	ownership, end := context.WithCancel(lease.ctx)
	defer func() {
		if err != nil {
			end()
			pauses := ctx.Err() == nil && lease.holds() && !isElsewhere(err)
			ds.attempts.fail(d.Path, t.log, ds.clock(), pauses)
			return
		}
		ds.attempts.forget(d.Path)
	}()
	t.dir.Holds = func() bool { return ownership.Err() == nil && lease.holds() }
	owner, etag, err := t.askOwner(ctx)
	if err != nil {
		return nil, err
	}
	if !ds.mayClaim(owner) {
		return nil, errOwned
	}
	mark, earlier, err := t.readMarkOf(ctx, owner)
	if err != nil {
		return nil, err
	}
	if err := t.checkKnown(ctx, mark.Epoch > 0 && owner.Epoch > 0 || earlier.isOld(owner)); err != nil {
		return nil, err
	}
	if err := ds.awaitEnd(ctx, owner); err != nil {
		return nil, err
	}
	t.readAhead(mark, owner)
	if err := t.forgetAhead(ctx, &mark, owner); err != nil {
		return nil, err
	}
	log, err := t.open(ctx, owner, etag)
	if err != nil {
		return nil, err
	}
	t.log = log
	if earlier.isOld(owner) {
		if err := t.clearEarlier(ctx, earlier); err != nil {
			return nil, err
		}
	}
	alone := owner.Epoch == mark.Epoch
	if mark.Left != nil {
		t.left = mark.Left
	}
	mark = mark.next(t, owner, log.Epoch(), time.Now())
	state, err := t.dir.StateAt(ctx, log.End())
	if err != nil {
		return nil, err
	}
	if err := t.checkChanges(state, alone); err != nil {
		return nil, err
	}
	known, ahead, err := t.keepAhead(ctx, state)
	if err != nil {
		return nil, err
	}
	if !t.ahead { // else the journal has more of them
		if err := t.setAnswers(state.Answers(ctx)); err != nil {
			return nil, err
		}
	}
	state.ForgetAnswers()
	ds.continueCalls(t.tenants(), state.Calls)
	fetch, err := t.newFetch(ownership, state, mark, known)
	if err != nil {
		return nil, err
	}
	one := &kept{log: log, lease: lease, path: d.Path, tenants: t.tenants, ownership: ownership, end: end}
	one.since.Store(int64(ds.clock()))
	r = datadir.NewReplica(d, datadir.Ownership{
		Uploader: replica.NewUploader(lease.ctx, func(ctx context.Context, groups []object.Group) (uint64, error) { return ds.append(ctx, one, groups) }), Holds: lease.holds, End: func() { ds.endOwnership(t.dir.Name, one) }, Of: t.dir.Of, Past: t.dir, Since: mark.Since, Known: known, Fetch: fetch,
		Purge: func(ctx context.Context) error { return t.purge(ctx, log, lease) },
	})
	one.uploader, one.endFetch, one.fetched = r.Uploader, fetch.End, fetch.Done
	one.compacted.Store(state.Checkpoint)
	one.appended.Store(-state.Read)
	one.tried.Store(-state.Read)
	ds.keep(t.dir.Name, one)
	if err := t.uploadAhead(ctx, r, ahead); err != nil {
		t.log = nil // something may be on its way to it
		return nil, err
	}
	mark.Ahead, mark.Whole = ds.Lag > 0, fetch.Done()
	if err := t.writeMark(mark); err != nil {
		return nil, err
	}
	ds.counts.takeOvers.Add(1)
	ds.Logger.Info("a directory was taken over", slog.String(logkey.DataDir, d.Path), slog.Uint64("epoch", log.Epoch()),
		slog.Uint64("position", log.End()), slog.Int("files", len(state.Files)), slog.Int("ahead", len(ahead)))
	return r, nil
}

// purge removes what the bucket has of the directory, and that this machine had it.
func (t *takeOver) purge(ctx context.Context, log *replica.Log, lease *lease) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(lease.ctx, cancel)()
	if err := log.Purge(ctx); err != nil {
		return err
	}
	return fsutil.IgnoreMissing(os.Remove(t.markPath()))
}

// tenants are those whose directory it is.
func (t *takeOver) tenants() []*tenants.Tenant { return t.tenantsOf(t.d) }

// phextsIn are the names of the files there that may be phexts.
func phextsIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), phext.Extension) && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// takeOver is one take-over under way.
type takeOver struct {
	*Directories
	d      *datadir.Dir
	dir    *replica.Directory
	there  []string                    // phexts on the disk
	behind bool                        // the log may lack what was acknowledged here
	ahead  bool                        // and it is still this host's to add that
	left   map[string]object.FileState // as mark.Left
	stray  mark                        // of this directory at another path, if what is here is not that
	log    *replica.Log                // that was opened last, if nothing may be on its way to it
}

// checkKnown refuses phexts of which this bucket knows nothing. Those that are just what
// the bucket has are known, and so are those of a directory that this machine had from
// there before.
func (t *takeOver) checkKnown(ctx context.Context, had bool) error {
	if len(t.there) == 0 || had {
		return nil
	}
	state, err := t.stateNow(ctx)
	if err != nil {
		return err
	}
	return t.checkSame(state, t.left) // the state directory was lost, say
}

// stateNow is what the log says now to whoever takes the directory over for its tenant.
func (t *takeOver) stateNow(ctx context.Context) (*replica.State, error) {
	end, err := t.dir.End(ctx)
	if err != nil {
		return nil, err
	}
	state, err := t.dir.StateAt(ctx, end)
	if err == nil {
		state.Belongs(t.dir.Of)
	}
	return state, err
}

// checkSame refuses phexts that are neither just what the bucket has, nor one of the old ones.
func (t *takeOver) checkSame(state *replica.State, old map[string]object.FileState) error {
	for _, name := range t.there {
		now, _, err := t.sumsOf(filepath.Join(t.d.Path, name))
		if err != nil {
			return err
		}
		was, ok := old[name]
		if f := state.Files[name]; (f == nil || !f.Is(now)) && (!ok || was != now.FileState) {
			return ErrNotInBucket
		}
	}
	return nil
}

// checkChanges has those who listen begin anew, unless the changes that the journal here
// has are what became of the files: nobody else has had the directory, and the log has the
// last of them, or is to get it.
func (t *takeOver) checkChanges(state *replica.State, alone bool) error {
	if t.ahead {
		return nil
	}
	j, err := t.Journal.Of(t.d.Path)
	if err != nil {
		return err
	}
	last, err := j.LastChange()
	if err != nil || alone && last == state.LastChange() {
		return err
	}
	return j.ForgetChanges()
}

// answers are those that the journal here has.
func (t *takeOver) answers() (all []object.Answer, err error) {
	j, err := t.Journal.Of(t.d.Path)
	if err != nil {
		return nil, err
	}
	answers, err := j.Answers()
	for _, a := range answers {
		all = append(all, object.Answer{Time: a.Time.UnixNano(), Tenant: a.Tenant, Idempotency: a.Idempotency, Digest: a.Digest, Answer: a.Text})
	}
	return all, err
}

// setAnswers makes the answers to repeated requests those that the log says.
func (t *takeOver) setAnswers(all iter.Seq2[object.Answer, error]) error {
	j, err := t.Journal.Of(t.d.Path)
	if err != nil {
		return err
	}
	return j.SetAnswers(func(yield func(journal.Answer, error) bool) {
		for a, err := range all {
			if !yield(journal.Answer{Time: time.Unix(0, a.Time), Tenant: a.Tenant, Idempotency: a.Idempotency, Digest: a.Digest, Text: a.Answer}, err) {
				return
			}
		}
	})
}
