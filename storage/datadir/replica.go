package datadir

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
	"mirrorborn.us/sqgate/tenants"
)

// With a bucket, nobody is told of a write, and no reader sees it, before it is there
// too: what a crash could take back was never seen. The next write goes on meanwhile.

// Replica is a directory's part of the bucket while this host owns it. Only the holder
// of the write lock may add anything.
type Replica struct {
	Ownership
	dir *Dir

	mu    sync.Mutex     // for these, and Known
	added []object.Group // not submitted yet
}

// Ownership is what a take-over has found.
type Ownership struct {
	Uploader *replica.Uploader
	Holds    func() bool // whether the lease does, under which this host owns the directory
	// Largest is the largest phext in bytes; 0 = LargestPhext.
	Largest int64
	// Of is for whom the directory was taken over, as OwnerOf.
	Of string
	// Purge removes what the bucket has of the directory.
	Purge func(context.Context) error
	// Past is the directory in the bucket, for what it was before Since. From then on, the
	// journal here knows everything; the zero Time is always.
	Past  *replica.Directory
	Since time.Time
	Known map[string]KnownFile // what is known of the files that are here, by name
	Fetch *Fetch               // has those that may not be here; nil = all are
	End   func()               // is called when the ownership has ended; nil = nothing is to be done
}

// KnownFile is what the log says of a file, and which file on the disk holds that.
type KnownFile struct {
	ID    fsutil.FileID
	State object.FileState
}

// OwnerOf says for whom the directory of a tenant is in the bucket: for this very tenant,
// or for all who share it, which is "".
func OwnerOf(t *tenants.Tenant) string {
	if t.SharedDataDir {
		return ""
	}
	return t.UniqueID()
}

// NewReplica is the part of a directory that this host has taken over.
func NewReplica(d *Dir, o Ownership) *Replica {
	if o.Known == nil {
		o.Known = map[string]KnownFile{}
	}
	r := &Replica{dir: d, Ownership: o}
	if r.Fetch != nil {
		r.Fetch.replica = r
	}
	return r
}

// current says whether this host still owns the directory by it.
func (r *Replica) current() bool { return r.dir.replica.Load() == r && r.Holds() }

// end ends what is fetched for it, and what else goes on meanwhile.
func (r *Replica) end() {
	if r.Fetch != nil {
		r.Fetch.End()
	}
	if r.End != nil {
		r.End()
	}
}

// States is what is known of the files that are here, by name. When everything is uploaded,
// that is what the log says.
func (r *Replica) States() map[string]object.FileState {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	states := make(map[string]object.FileState, len(r.Known))
	for name, known := range r.Known {
		states[name] = known.State
	}
	return states
}

// mayBeAhead says whether writes may be acknowledged ahead of the bucket. As long as files
// are missing here, what is here cannot count after a crash.
func (r *Replica) mayBeAhead() bool { return r.Fetch == nil || r.Fetch.noted.Load() }

// Add adds what was done to a file, and what that has left, to what Uploaded submits. at
// is when the journal says that it was done; 0 = now. The mutations may wait for longer than the
// request lasts, of whose URL and header these are parts.
func (r *Replica) Add(mutations []journal.Mutation, left KnownFile, at int64) {
	for i := range mutations {
		m := &mutations[i]
		m.Note, m.Idempotency = strings.Clone(m.Note), strings.Clone(m.Idempotency)
	}
	g := object.Group{Time: cmp.Or(at, time.Now().UnixNano()), Mutations: mutations, After: left.State}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.added = append(r.added, g)
	r.Known[g.File()] = left
}

// Files are the files that the log says, by name.
func (r *Replica) Files() (names []string) {
	if f := r.Fetch; f != nil {
		f.mu.Lock()
		names = slices.Collect(maps.Keys(f.sizes))
		f.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, known := range r.Known {
		if known.State.Exists {
			names = append(names, name)
		}
	}
	return names
}

// Added is how many bytes of texts and answers wait for Uploaded.
func (r *Replica) Added() (bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.added {
		for _, m := range g.Mutations {
			bytes += int64(len(m.Text) + len(m.Answer))
		}
	}
	return bytes
}

// RecordEdit adds the present state of a file if somebody else has made it what it is,
// so that the log does not know it. The error is that of Fits.
func (r *Replica) RecordEdit(file string, now *cache.Version) error {
	r.mu.Lock()
	last := r.Known[file]
	r.mu.Unlock()
	if last.ID == now.ID {
		return nil
	}
	if known := Known(now); known.State == last.State {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Known[file] = known
		return nil
	}
	if err := r.Fits(now.Size()); err != nil {
		return err
	}
	m := journal.Mutation{File: file, Op: journal.Replace, Text: now.Text()}
	if !now.Exists() {
		m.Op = journal.Remove
	}
	r.Add([]journal.Mutation{m}, Known(now), 0)
	return nil
}

// LargestPhext is the largest phext, in bytes, that fits into the bucket: as one object,
// and with what one batch of small writes adds.
const LargestPhext = object.PayloadMax - 2<<20

// Fits is an error if a phext of so many bytes cannot be kept in the bucket.
func (r *Replica) Fits(bytes int64) error {
	if most := cmp.Or(r.Largest, LargestPhext); bytes > most {
		return apierror.New(apierror.TooLarge,
			"a phext of more than %d bytes does not fit into the bucket that keeps it: nothing was changed; store it in parts", most)
	}
	return nil
}

// Known is a version of a file as the log has it.
func Known(v *cache.Version) KnownFile {
	if !v.Exists() {
		return KnownFile{}
	}
	sum := xxh3.New()
	_, _ = v.WriteTo(sum) // a hash does not fail
	return KnownFile{v.ID, object.FileState{Exists: true, Size: v.Size(), Sum: sum.Sum128().Bytes()}}
}

// Replica is the directory's part of the bucket; nil = there is no bucket. The caller
// has the directory locked. The error is ErrMoved.
func (d *Dir) Replica() (*Replica, error) {
	r := d.replica.Load()
	if r == nil && d.dirs.TakeOver != nil {
		return nil, ErrMoved // an upload has failed just now
	}
	return r, nil
}

// InBucket says whether there is a bucket.
func (d *Dir) InBucket() bool { return d.dirs.TakeOver != nil }

// owned says whether nobody else can own the directory now, and this host serves it.
func (d *Dir) owned() bool {
	if d.dirs.TakeOver == nil {
		return true
	}
	r := d.replica.Load()
	return r != nil && r.Holds()
}

// Uploading is the way to the bucket of everything that was submitted before. The zero
// Uploading has nothing to wait for.
type Uploading struct {
	replica *Replica
	settled <-chan error
}

// Uploaded submits what was added, and begins to wait for everything that was submitted
// so far. Whoever has seen the newest files has to wait before it tells anybody. A nil
// Replica has no such wait.
func (r *Replica) Uploaded() Uploading {
	if r == nil {
		return Uploading{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.added) > 0 {
		r.Uploader.Submit(r.added...)
	}
	r.added = nil
	return Uploading{r, r.Uploader.Settled()}
}

// Wait returns when everything is in the bucket, or at once while the bucket is not
// further behind than it may be. It may be called once. After an error the directory is
// not served until it has been taken over again. The error is ErrMoved if nothing of what
// is waited for can ever stand.
func (u Uploading) Wait() error {
	if u.settled == nil {
		return nil
	}
	err := u.wait()
	if err == nil {
		return nil
	}
	u.replica.Lose(err)
	if u.replica.dir.dirs.Lag > 0 {
		return err // the next one to take the directory over here uploads it
	}
	for _, never := range []error{replica.ErrDeposed, replica.ErrNoLease, replica.ErrReleased} {
		if errors.Is(err, never) {
			return ErrMoved
		}
	}
	return err
}

// mostBehind is how many bytes of texts and answers may wait for their upload if writes do not.
const mostBehind = 64 << 20

func (u Uploading) wait() error {
	select {
	case err := <-u.settled:
		return err
	default:
	}
	if lag := u.replica.dir.dirs.Lag; lag > 0 && u.replica.mayBeAhead() {
		if since, bytes := u.replica.Uploader.Behind(); since <= lag && bytes <= mostBehind {
			return nil
		}
	}
	return <-u.settled
}

// Behind is for how long something of the directory is not in the bucket yet.
func (d *Dir) Behind() time.Duration {
	r := d.replica.Load()
	if r == nil {
		return 0
	}
	since, _ := r.Uploader.Behind()
	return since
}

// mustCatchUp says whether writes were acknowledged that will not be in the bucket before
// the directory is taken over again.
func (d *Dir) mustCatchUp() bool {
	if r := d.replica.Load(); r != nil && d.dirs.Lag > 0 {
		if err := r.Uploader.Failed(); err != nil {
			r.Lose(err)
		} else if since, _ := r.Uploader.Behind(); since > 0 && !r.Holds() {
			return true
		}
	}
	return d.behind.Load()
}

// Lose ends an ownership, once: this host was deposed, or does not know whether it was.
// Dirs.Run then stops the child, and lets go of what is in memory.
func (r *Replica) Lose(cause error) {
	if r == nil {
		return
	}
	d := r.dir
	d.losing.Lock()
	defer d.losing.Unlock()
	if !d.replica.CompareAndSwap(r, nil) {
		return
	}
	r.end()
	if errors.Is(cause, replica.ErrDeposed) {
		d.dirs.deposed.Add(1)
	}
	d.behind.Store(d.dirs.Lag > 0)
	d.MarkUnrecovered()
	d.leftovers.Store(true)
	d.dirs.wake()
	d.dirs.Logger.Error("this host does not own a directory in the bucket any more: nothing of it is served until it is taken over again",
		slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, cause))
}

// Upload is for whoever has the directory locked, and has changed files of it otherwise
// than by a write. add adds what was done, and is not called without a bucket. It
// returns when everything is there.
func (d *Dir) Upload(add func(*Replica) error) error {
	r, err := d.Replica()
	if r == nil || err != nil {
		return err
	}
	return errors.Join(add(r), r.Uploaded().Wait())
}

// waitUploaded is for whoever has locked the directory and looks at its files on the disk.
func (d *Dir) waitUploaded() error {
	r, err := d.Replica()
	if err == nil && r.Uploaded().Wait() != nil {
		err = ErrMoved
	}
	return err
}

// takeOver makes this host the owner, and the files what the log says. Without a
// bucket it does nothing. The caller has the write lock, and no child runs.
func (d *Dir) takeOver(ctx context.Context) error {
	if d.dirs.TakeOver == nil {
		return nil
	}
	d.losing.Lock() // a loss that is noted later would count for the ownership that begins here
	before := d.replica.Swap(nil)
	d.losing.Unlock()
	if before != nil {
		before.end()
		<-before.Uploader.Settled() // whoever waits for it gets the same answer
	}
	d.dirs.Cache.Forget(d.Path)
	r, err := d.dirs.TakeOver(ctx, d)
	if err != nil {
		return err
	}
	d.dirs.Cache.Forget(d.Path)
	d.behind.Store(false)
	d.leftovers.Store(false)
	d.replica.Store(r)
	if r.Fetch != nil {
		r.Fetch.start() // which waits for the lock
	}
	return nil
}

// Purge removes what the bucket has of a directory without phexts. The caller has the
// directory locked.
func (d *Dir) Purge(ctx context.Context) error {
	r, err := d.Replica()
	if r == nil || err != nil {
		return err
	}
	if err := r.Ownership.Purge(ctx); err != nil {
		return err
	}
	d.Disown()
	return nil
}

// Disown ends an ownership for the tenant of before: whoever has the directory next takes
// it over for itself. The caller has the directory locked.
func (d *Dir) Disown() {
	if r := d.replica.Swap(nil); r != nil {
		r.end()
		<-r.Uploader.Settled()
		d.MarkUnrecovered()
	}
}

// disownUnless is Disown if it was not taken over for t.
func (d *Dir) disownUnless(t *tenants.Tenant) {
	if r := d.replica.Load(); r != nil && r.Of != OwnerOf(t) {
		d.Disown()
	}
}
