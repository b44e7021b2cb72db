package datadir

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// ReadsAtOnce is how many reads may be at one child at a time. SQ answers one
// request at a time under one lock (LEGACY.md), but accepts further connections
// meanwhile: 16 were answered 5 % faster than 8, and 4 slower. With more, the
// last would not be answered in time where each has SQ open another phext.
const ReadsAtOnce = 16

// searchesAtOnce is how many searches of one directory may run at a time: each keeps a
// processor busy. Further ones are refused at once.
const searchesAtOnce = 2

// compressionsAtOnce is how many answers to one group of a directory are compressed at a time, of those that are made
// for one client alone. They take turns anyway, and each has a compressor until it is done.
const compressionsAtOnce = 2

// lockTimeout is the longest wait for a lock on a directory.
const lockTimeout = time.Minute

// mostInside is how many requests of one directory may be in the gateway at
// once: sending a body, waiting for a lock, taking an answer. Further ones are
// refused at once, so that one tenant's flood leaves memory and file
// descriptors to the others.
const mostInside = 512

// Dir is one data directory. There is one Dir for it, however its path is spelled.
type Dir struct {
	// Path is the directory with symbolic links resolved. It is the path under
	// which its child and its journal are known.
	Path string
	// Bodies is this directory's part of the memory for request bodies, by group; see Enter.
	Bodies *memlimit.Shares
	// Searches are those of this directory that run at a time, and looks into its past.
	Searches *memlimit.Budget

	inUse      *memlimit.Shared // versions of phexts that somebody uses, see Use
	partsInUse *memlimit.Shared // the same for parts of them

	dirs   *Dirs
	memory *memlimit.Budget    // this directory's part of Dirs.Answers
	queue  *semaphore.Weighted // first come, first served: a stream of reads cannot keep a write out

	// What those who share the directory divide between them.
	groups  sync.Map           // of *group by name; as many as the tenants file ever named
	alone   *group             // ""
	inside  *memlimit.Shares   // requests, up to mostInside
	sending *memlimit.SharedBy // what answers on their way to clients keep in memory, see Send
	sent    *memlimit.Shared   // the same for all of them

	searchers sync.Map // of memlimit.Budget by group, see EnterSearch

	recovered atomic.Bool
	owners    atomic.Pointer[journal.Owners]   // for whom it is, or is to be, recovered; nil = it never was
	ownersIn  atomic.Pointer[tenants.Snapshot] // has them
	replica   atomic.Pointer[Replica]          // nil = there is no bucket, or this host does not own the directory
	leftovers atomic.Bool                      // of an ownership that was lost, see dropLost
	losing    sync.Mutex                       // keeps a take-over waiting until Lose has noted all of a loss
	// handingOver is closed when a hand-over under way is over; nil = there is none.
	handingOver atomic.Pointer[chan struct{}]
	behind      atomic.Bool   // writes were acknowledged that the bucket may not have, and that nobody uploads
	failures    atomic.Uint64 // how often MarkUnrecovered was called
	truncating  atomic.Bool
	pathsMark   string                              // the file of a mark that stays with Path
	marks       atomic.Pointer[marks]               // see markFiles
	unmarkedIn  atomic.Pointer[tenants.Snapshot]    // for which there was no mark from before, see markFromBefore
	marked      atomic.Bool                         // see MarkWritten
	unmarked    atomic.Bool                         // see markOrWarn
	changed     atomic.Int64                        // when the directory was changed last at the last write, in ns since 1970; 0 = not known
	lastHere    atomic.Pointer[string]              // its identity when it was found to be there; nil = not yet
	missing     atomic.Bool                         // see CheckPresent
	expecting   sync.Mutex                          // see expect
	expected    string                              // the tenant for which it has looked, by UniqueID
	place       atomic.Pointer[place]               // of the directory when it was known to be nobody else's; nil = not yet
	isOthers    atomic.Bool                         // see checkOwn
	waiting     atomic.Pointer[journal.NoRoomError] // why it is not recovered; nil if for another reason
	refused     atomic.Pointer[refusal]             // for what other reason, as it was logged last
	moved       atomic.Bool                         // tenants have come with their phexts, and Run is to recover it
	unopened    atomic.Pointer[[]string]            // files that could not be opened to be recovered; nil = there are none
}

// group is what those have of a directory who share it with others. That of "" are those
// whose it is alone.
type group struct {
	inside, bodies *memlimit.Budget
	compressions   *semaphore.Weighted
}

func (d *Dir) newGroup(name string) *group {
	return &group{d.inside.Of(name), d.Bodies.Of(name), semaphore.NewWeighted(compressionsAtOnce)}
}

func (d *Dir) group(name string) *group {
	if name == "" {
		return d.alone
	}
	g, ok := d.groups.Load(name)
	if !ok {
		g, _ = d.groups.LoadOrStore(name, d.newGroup(name))
	}
	return g.(*group)
}

// insideMemory is what a request may take, in bytes, beside what else is counted of it: 54,000 were measured for one
// with a body of 15 KB, which had come with its header, and that waited for its directory.
const insideMemory = 56 << 10

// Enter lets a request into the gateway, and counts it as memory, or refuses it if too many are inside. A
// group, if it is not "", is those who share the directory with others: all of one
// group have no more than half of the places. Errors: errQueueFull, ErrBusy.
func (d *Dir) Enter(group string) (leave func(), err error) {
	share := d.group(group).inside
	if !share.Take(1) {
		return nil, errQueueFull
	}
	if !d.memory.Take(insideMemory) {
		share.Give(1)
		return nil, ErrBusy
	}
	return func() { d.memory.PutBack(insideMemory); share.Give(1) }, nil
}

// EnterCompression returns when an answer to a group may be compressed. It waits only for the same group.
func (d *Dir) EnterCompression(ctx context.Context, group string) (leave func(), err error) {
	places := d.group(group).compressions
	if err := places.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { places.Release(1) }, nil
}

// Send counts an answer, or what it keeps in memory, of so many bytes until it is sent. What
// is sent several times is in memory once, and counts for each group and caller that it is
// sent to. ok is false if there is no room; see memlimit.Shared.
func (d *Dir) Send(to rewrite.Recipient, thing any, bytes int64) (release func(), ok bool) {
	all, ok := d.sent.Take(thing, bytes)
	if !ok {
		return nil, false
	}
	if !d.sending.Take(to.Group, thing, bytes) {
		all()
		return nil, false
	}
	if !d.dirs.sending.Take(to.Caller, thing, bytes) {
		d.sending.Give(to.Group, thing, bytes)
		all()
		return nil, false
	}
	return func() {
		d.dirs.sending.Give(to.Caller, thing, bytes)
		d.sending.Give(to.Group, thing, bytes)
		all()
	}, true
}

// EnterSearch is Enter for what takes one of Searches later: of those too, a group has no
// more than half.
func (d *Dir) EnterSearch(group string) (leave func(), err error) {
	if group == "" {
		return nothing, nil
	}
	half := budgetOf(&d.searchers, group, searchesAtOnce/2)
	if !half.Take(1) {
		return nil, ErrBusy
	}
	return func() { half.Give(1) }, nil
}

func budgetOf(all *sync.Map, group string, limit int64) *memlimit.Budget {
	b, ok := all.Load(group)
	if !ok {
		b, _ = all.LoadOrStore(group, memlimit.NewBudget(limit))
	}
	return b.(*memlimit.Budget)
}

// lockForRead shares the directory with up to ReadsAtOnce reads.
func (d *Dir) lockForRead(ctx context.Context) (unlock func(), err error) { return d.lock(ctx, 1) }

// lockForWrite takes the directory alone.
func (d *Dir) lockForWrite(ctx context.Context) (unlock func(), err error) {
	return d.lock(ctx, ReadsAtOnce)
}

// LockUnserved takes a directory alone that this host does not serve, and recovers nothing.
// The error is ErrBusy if it is served.
func (d *Dir) LockUnserved(ctx context.Context) (unlock func(), err error) {
	if unlock, err = d.lockForWrite(ctx); err == nil && d.replica.Load() != nil {
		unlock()
		return nil, ErrBusy
	}
	return unlock, err
}

// lock makes no context to wait with where there is nothing to wait for.
func (d *Dir) lock(ctx context.Context, weight int64) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !d.queue.TryAcquire(weight) {
		if err := d.wait(ctx, weight); err != nil {
			return nil, err
		}
	}
	return func() { d.queue.Release(weight) }, nil
}

func (d *Dir) wait(ctx context.Context, weight int64) error {
	limited, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	err := d.queue.Acquire(limited, weight)
	if err != nil && ctx.Err() == nil {
		return errQueueFull
	}
	return err
}

// Recovered says whether the files are known to be what the journal says, for those who have
// the directory now, and, with a bucket, whether this host owns the directory.
func (d *Dir) Recovered() bool {
	if d.recovered.Load() && d.canOpenMore() {
		d.MarkUnrecovered()
	}
	return d.recovered.Load() && d.owned() && d.hasSameOwners()
}

// hasSameOwners says whether the directory was recovered for those who have it now. Nobody
// may have it meanwhile.
func (d *Dir) hasSameOwners() bool {
	now, was := d.dirs.Tenants(), d.owners.Load()
	if now == nil || d.ownersIn.Load() == now {
		return true
	}
	owners := d.ownersAt(now)
	if len(owners.Tenants) > 0 {
		if was == nil || was.Shared != owners.Shared || !slices.Equal(was.Tenants, owners.Tenants) {
			return false
		}
		j, err := d.dirs.JournalOf(d)
		if err != nil || !j.IsNoted(owners) { // one of them had another directory meanwhile
			return false
		}
	}
	d.ownersIn.Store(now)
	d.marked.Store(false) // links may lead here now
	return true
}

// ownersAt are those who have the directory, whether they are enabled, disabled or archived.
func (d *Dir) ownersAt(now *tenants.Snapshot) journal.Owners { return ownersOf(d.Path, now) }

// ownersNow are none where the tenants are not known.
func (d *Dir) ownersNow() (owners journal.Owners) {
	if known := d.dirs.Tenants(); known != nil {
		owners = d.ownersAt(known)
	}
	return owners
}

func ownersOf(dataDir string, now *tenants.Snapshot) (owners journal.Owners) {
	for _, t := range now.At(dataDir) {
		owners.Tenants, owners.Shared = append(owners.Tenants, t.UniqueID()), owners.Shared || t.SharedDataDir
	}
	slices.Sort(owners.Tenants)
	return owners
}

// MarkUnrecovered has the next request of the directory recover its files before it looks
// at them.
func (d *Dir) MarkUnrecovered() {
	d.failures.Add(1)
	d.recovered.Store(false)
}

// Truncating says whether SQ is to write over the files of the directory,
// instead of making new ones.
func (d *Dir) Truncating() bool { return d.truncating.Load() }

// TruncateFromNowOn makes Truncating true, and says whether it was not.
func (d *Dir) TruncateFromNowOn() bool { return !d.truncating.Swap(true) }
