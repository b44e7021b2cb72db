package datadir

import (
	"context"
	"errors"
	"log/slog"
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
)

// With a bucket, nobody is told of a write, and no reader sees it, before it is there
// too: what a crash could take back was never seen. The next write goes on meanwhile.

// Replica is a directory's part of the bucket while this host owns it. Only the holder
// of the write lock may add anything.
type Replica struct {
	dir      *Dir
	uploader *replica.Uploader
	holds    func() bool // whether the lease does, under which this host owns it

	mu    sync.Mutex
	known map[string]KnownFile
	added []object.Group // not submitted yet
}

// KnownFile is what the log says of a file, and which file on the disk holds that.
type KnownFile struct {
	ID    fsutil.FileID
	State object.FileState
}

// NewReplica is the part of a directory that this host has taken over. The log says of
// its files what known has, by name, and of no others.
func NewReplica(d *Dir, u *replica.Uploader, holds func() bool, known map[string]KnownFile) *Replica {
	return &Replica{dir: d, uploader: u, holds: holds, known: known}
}

// Add adds what was done to a file, and what that has left, to what Uploaded submits.
func (r *Replica) Add(mutations []journal.Mutation, left KnownFile) {
	g := object.Group{Time: time.Now().UnixNano(), Mutations: mutations, After: left.State}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.added = append(r.added, g)
	r.known[g.File()] = left
}

// RecordEdit adds the present state of a file if somebody else has made it what it is,
// so that the log does not know it. The error is that of Fits.
func (r *Replica) RecordEdit(file string, now *cache.Version) error {
	r.mu.Lock()
	last := r.known[file]
	r.mu.Unlock()
	if last.ID == now.ID {
		return nil
	}
	if known := Known(now); known.State == last.State {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.known[file] = known
		return nil
	}
	if err := r.Fits(now.Size()); err != nil {
		return err
	}
	m := journal.Mutation{File: file, Op: journal.Replace, Text: now.Text()}
	if !now.Exists() {
		m.Op = journal.Remove
	}
	r.Add([]journal.Mutation{m}, Known(now))
	return nil
}

// largestText is the largest text, in bytes, that is put into the log at once.
const largestText = object.PayloadMax - 1<<20

// Fits is an error if a whole phext of so many bytes cannot be put into the log. Writes
// are smaller than that.
func (r *Replica) Fits(bytes int64) error {
	if bytes > largestText {
		return apierror.New(apierror.TooLarge,
			"a phext of more than %d bytes that was edited or restored as a whole does not fit into the bucket's log: nothing was changed; divide it", int64(largestText))
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

// owned says whether nobody else can own the directory now.
func (d *Dir) owned() bool {
	if d.dirs.TakeOver == nil {
		return true
	}
	r := d.replica.Load()
	return r != nil && r.holds()
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
	for _, g := range r.added {
		r.uploader.Submit(g)
	}
	r.added = nil
	return Uploading{r, r.uploader.Settled()}
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
	u.replica.lose(err)
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

// mostBehind is how many bytes of texts may wait for their upload if writes do not.
const mostBehind = 64 << 20

func (u Uploading) wait() error {
	select {
	case err := <-u.settled:
		return err
	default:
	}
	if lag := u.replica.dir.dirs.Lag; lag > 0 {
		if since, bytes := u.replica.uploader.Behind(); since <= lag && bytes <= mostBehind {
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
	since, _ := r.uploader.Behind()
	return since
}

// mustCatchUp says whether writes were acknowledged that will not be in the bucket before
// the directory is taken over again.
func (d *Dir) mustCatchUp() bool {
	if r := d.replica.Load(); r != nil && d.dirs.Lag > 0 {
		if err := r.uploader.Failed(); err != nil {
			r.lose(err)
		} else if since, _ := r.uploader.Behind(); since > 0 && !r.holds() {
			return true
		}
	}
	return d.behind.Load()
}

// lose ends an ownership, once.
func (r *Replica) lose(cause error) {
	d := r.dir
	if !d.replica.CompareAndSwap(r, nil) {
		return
	}
	d.behind.Store(d.dirs.Lag > 0)
	d.MarkUnrecovered()
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
	if r := d.replica.Swap(nil); r != nil {
		<-r.uploader.Settled() // whoever waits for it gets the same answer
	}
	d.dirs.Cache.Forget(d.Path)
	r, err := d.dirs.TakeOver(ctx, d)
	if err != nil {
		return err
	}
	d.dirs.Cache.Forget(d.Path)
	d.behind.Store(false)
	d.replica.Store(r)
	return nil
}
