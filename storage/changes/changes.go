// Package changes is what was done to a tenant's phexts, for those who listen. It reads
// the journal, at a place of each listener's own: a cursor. It keeps nothing, and never
// makes a write wait.
package changes

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// Service has the changes of all tenants.
type Service struct {
	Dirs     *datadir.Dirs
	reading  *semaphore.Weighted
	byTenant sync.Map // *semaphore.Weighted of one, by the tenant's id: taken before reading
}

// readsAtOnce is how many listeners may read a journal at a time: each may have a
// record of a few megabytes in memory.
const readsAtOnce = 4

// New makes a Service; it starts nothing.
func New(dirs *datadir.Dirs) *Service {
	return &Service{Dirs: dirs, reading: semaphore.NewWeighted(readsAtOnce)}
}

// Change is something that was done to a phext.
type Change struct {
	ID    string    `json:"id"` // the cursor behind it
	Time  time.Time `json:"time"`
	Phext string    `json:"phext"`
	Op    string    `json:"op"`          // insert, update, delete; replace, remove or edited for a whole phext
	C     string    `json:"c,omitempty"` // the scroll's name, if it has one, or as Call.At; "" = the whole phext
	Size  int64     `json:"size"`        // of the scroll or the phext afterwards, in bytes
	ETag  string    `json:"etag,omitempty"`
	Key   string    `json:"key,omitempty"` // whoever did it, as in the history; "" = the listener is a guest
}

// Selection says which changes are wanted.
type Selection struct {
	Call    *rewrite.Call
	Since   string // the cursor behind which they are; "" = none
	FromNow bool   // without a cursor: only those from now on, instead of all
	UpToNow bool   // none that are made from now on
}

var (
	errExpired = apierror.New(apierror.Gone,
		"the changes from this cursor on are not all known any more: read the phexts again, and listen without a cursor from then on")
	errMoved = apierror.RetryIn(time.Second, apierror.Unavailable, "the phexts are moving to another host: go on from the last cursor in a moment")
)

// Feed gives one listener its changes.
type Feed struct {
	service *Service
	dir     *datadir.Dir
	journal *journal.Journal
	cursors journal.Cursors
	tenant  *tenants.Tenant
	sel     Selection
	next    journal.Position
	now     journal.End  // when the feed was opened
	end     *journal.End // nil = it has none
}

// Open begins to listen. The error is apierror.Gone for a cursor from before what is known,
// and for all that is no cursor of this tenant and this host.
func (s *Service) Open(ctx context.Context, t *tenants.Tenant, sel Selection, turn *fairqueue.Turn) (*Feed, error) {
	dir := s.Dirs.Of(t.DataDir)
	if err := dir.Recover(ctx); err != nil {
		return nil, err
	}
	j, err := s.Dirs.JournalOf(dir)
	if err != nil {
		return nil, err
	}
	f := &Feed{service: s, dir: dir, journal: j, tenant: t, sel: sel, now: j.End()}
	if sel.UpToNow {
		f.end = &f.now
	}
	if f.cursors, err = j.Cursors(t.UniqueID()); err != nil {
		return nil, err
	}
	switch {
	case sel.Since != "":
		if f.next, err = f.cursors.Unseal(sel.Since); err != nil {
			return nil, errExpired
		}
		err = f.check(ctx, turn)
	case sel.FromNow:
		f.next = f.now.Position
	}
	return f, err
}

// Cursor is behind the changes that Next has returned. It tells whoever gets it nothing.
func (f *Feed) Cursor() string { return f.cursors.Seal(f.next) }

// Now is a cursor behind all that was done until the feed was opened.
func (f *Feed) Now() string { return f.cursors.Seal(f.now.Position) }

// News is closed when there may be more changes than now.
func (f *Feed) News() <-chan struct{} { return f.journal.News() }

// Moved says whether another host may have the directory, and with it the changes.
func (f *Feed) Moved() bool { return f.dir.InBucket() && !f.dir.Recovered() }

// perCall is how many changes Next returns at most. A change of the journal that is looked
// at counts as perSeen bytes of work, and one that is returned as perTold more.
const (
	perCall = 64
	perSeen = 2 << 10
	perTold = 4 << 10
)

// Next calls visit with the next changes, of which there are none if nothing was done.
// more says that there may be others already, and worked how long it took without
// waiting; 0 = the feed is no further than before. It is done in turn, except while the disk
// is waited for.
func (f *Feed) Next(ctx context.Context, turn *fairqueue.Turn, visit func(Change)) (more bool, worked time.Duration, err error) {
	if f.Moved() {
		return false, 0, errMoved
	}
	err = f.read(ctx, func() error {
		defer turn.Give()
		began := time.Now()
		all, next, again, err := f.journal.Changes(f.next, f.end, perCall, turn, f.inTurn(ctx, turn, func() { began = time.Now() }))
		if err == nil && f.Moved() {
			err = errMoved // what was read may be what the bucket never had
		}
		if err != nil {
			return err
		}
		if len(all) > 0 {
			_ = turn.Take(ctx)
		}
		for _, c := range all {
			visit(f.change(c))
			turn.Worked(perTold)
		}
		if next != f.next {
			f.next, more, worked = next, again, time.Since(began)
		}
		return nil
	})
	return more, worked, err
}

// check is the error for a cursor that is no good, which is to be answered before the
// changes begin.
func (f *Feed) check(ctx context.Context, turn *fairqueue.Turn) error {
	return f.read(ctx, func() error {
		_, _, _, err := f.journal.Changes(f.next, f.end, 1, turn, f.inTurn(ctx, turn, func() {}))
		return err
	})
}

// inTurn is wanted in turns of the listener's. The first one is taken for the first change, and
// begun is called then: before, the journal waits for locks.
func (f *Feed) inTurn(ctx context.Context, turn *fairqueue.Turn, begun func()) func(journal.Event) bool {
	isFirst := true
	return func(e journal.Event) bool {
		if isFirst {
			_ = turn.Take(ctx) // of a client that has left, little is done without one
			isFirst = false
			begun()
		}
		turn.Worked(perSeen)
		return f.wanted(e)
	}
}

// read does work on the journal while few others do. Those who listen to one tenant wait for
// each other first, so that they do not keep the others waiting, however many they are.
func (f *Feed) read(ctx context.Context, work func() error) error {
	turns, _ := f.service.byTenant.LoadOrStore(f.tenant.ID, semaphore.NewWeighted(1))
	own := turns.(*semaphore.Weighted)
	if err := own.Acquire(ctx, 1); err != nil {
		return err
	}
	defer own.Release(1)
	if err := f.service.reading.Acquire(ctx, 1); err != nil {
		return err
	}
	defer f.service.reading.Release(1)
	err := work()
	if errors.Is(err, journal.ErrBeyondHistory) {
		return errExpired
	}
	return err
}

// wanted says whether the listener gets a change. It is the one place that decides.
func (f *Feed) wanted(e journal.Event) bool {
	switch {
	case !e.IsTold(), !f.tenant.OwnFile(e.File), !f.tenant.WasHere(e.Tenant, e.Time):
		return false
	case !f.sel.Call.Changes.Everywhere && e.File != f.sel.Call.FileName():
		return false
	}
	return f.sel.Call.ShowsChange(f.phext(e.File), e.At, e.UpTo, e.Note)
}

func (f *Feed) phext(file string) string {
	name := strings.TrimSuffix(file, phext.Extension)
	if f.tenant.SharedDataDir {
		name = strings.TrimPrefix(name, f.tenant.ID+".")
	}
	return name
}

func (f *Feed) change(c journal.Change) Change {
	out := Change{ID: f.cursors.Seal(c.Position), Time: c.Time.UTC(), Phext: f.phext(c.File), Size: c.Size, ETag: c.ETag, Key: c.Key}
	if f.sel.Call.IsGuests() { // the keys of a tenant are its own affair
		out.Key = ""
	}
	if out.Op, out.C = c.Told(); out.C == "" && !f.sel.Call.ShowsAll() {
		out.Size = 0 // of scrolls that are not shown, too
	}
	return out
}
