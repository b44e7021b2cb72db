package writer

import (
	"context"
	"slices"
	"sync"
	"unsafe"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// Mutations of different scrolls of one phext make the same file in whichever
// order SQ gets them. So the one that has the directory takes along those that
// wait for it: they are journalled together, the file is looked at once for all
// of them, and nobody is answered before that. If nothing of a batch has happened,
// each of its mutations is tried alone, since one may have kept the others from
// it. Only a timeout, or a batch that is left to recovery, ends them all.

// largestBatch is how many mutations make one batch: as many as SQ answers
// fastest. The others wait for no more than that at a time.
const largestBatch = datadir.ReadsAtOnce

// smallScroll is the largest scroll, in bytes, that goes into a batch. To wait
// until a larger one is sent would cost the others more than the batch saves.
const smallScroll = 64 << 10

// mutation is a request on its way through a commit.
type mutation struct {
	Request
	alone     bool // it is not put into a batch
	delimited bool // its text is several scrolls

	answer string // what SQ is going to say
	result Result
	etag   string // of the scroll as it is to be; "" = there is to be none
	size   int64  // of it, in bytes

	stopWaiting context.CancelFunc // of the wait for the directory
	outcome     chan outcome       // of a commit that another leads
}

func newMutation(r Request) *mutation {
	delimited := r.Call.Pace.HasDelimiter(unsafe.String(unsafe.SliceData(r.Call.Scroll), len(r.Call.Scroll)))
	return &mutation{
		Request: r, outcome: make(chan outcome, 1), delimited: delimited,
		alone: r.Call.Name != "" || len(r.Call.Scroll) > smallScroll || delimited || r.IdempotencyKey != "",
	}
}

// batchQueue has the mutations that wait for a directory and may be taken along.
type batchQueue struct {
	mu      sync.Mutex
	waiting []*mutation // first come first
}

func (w *Writer) queue(d *datadir.Dir) *batchQueue {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[d]
	if q == nil {
		q = &batchQueue{}
		w.queues[d] = q
	}
	return q
}

func (q *batchQueue) add(m *mutation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, m)
}

// remove says whether m was still waiting.
func (q *batchQueue) remove(m *mutation) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, m)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// take removes up to most of those that fit, and ends their wait. Only the
// holder of the directory may call it.
func (q *batchQueue) take(most int, fits func(*mutation) bool) (taken []*mutation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(m *mutation) bool {
		if len(taken) == most || !fits(m) {
			return false
		}
		taken = append(taken, m)
		return true
	})
	for _, m := range taken {
		m.stopWaiting()
	}
	return taken
}

// lockOrJoin waits until m has its directory, or until another's batch has
// taken it along: then the outcome comes over m.outcome.
func (w *Writer) lockOrJoin(ctx context.Context, dir *datadir.Dir, m *mutation) (unlock func(), joined bool, err error) {
	if m.alone {
		unlock, err = dir.LockForWrite(ctx, m.Tenant, m.Call)
		return unlock, false, err
	}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	m.stopWaiting = stop
	q := w.queue(dir)
	q.add(m)
	unlock, err = dir.LockForWrite(waiting, m.Tenant, m.Call)
	if q.remove(m) {
		return unlock, false, err
	}
	if err == nil {
		unlock()
	}
	return nil, true, nil
}

// leadBatch takes along waiting mutations of other scrolls of the same phext.
// SQ must have the phext in memory as it is, since a reload makes it slow.
func (tx *transaction) leadBatch() {
	if tx.lead.alone || tx.reload || !tx.before.Phext.Exists() {
		return
	}
	if tx.staleName {
		return
	}
	taken := map[phext.Coordinate]bool{tx.lead.Call.At: true}
	others := tx.w.queue(tx.dir).take(tx.batchCapacity(), func(m *mutation) bool {
		fits := m.Tenant == tx.lead.Tenant && m.Call.Phext == tx.lead.Call.Phext && !taken[m.Call.At] &&
			!tx.takesName(m.Call) && !tx.hasStaleName(m.Call) && tx.w.Dirs.CheckWriter(m.Tenant, m.Writer) == nil
		taken[m.Call.At] = taken[m.Call.At] || fits
		return fits
	})
	tx.members = append(tx.members, others...) // so that a panic is told to all of them
	fit := tx.members[:1]
	for _, m := range others {
		if err := tx.applyOne(m); err != nil {
			m.outcome <- outcome{err: err, upload: tx.replica.Uploaded()}
			continue
		}
		fit = append(fit, m)
	}
	tx.members = fit
}

// mostWritten is how many bytes SQ writes for one batch. It writes the whole
// file for each mutation, while the last one waits: SQ hangs up on a request
// that is not complete after 32 s.
const mostWritten = 64 << 20

func (tx *transaction) batchCapacity() int {
	return min(largestBatch-1, int(mostWritten/(tx.before.Phext.Size()+1)))
}

// tellOthers ends the wait of the mutations that were taken along.
func (tx *transaction) tellOthers(out outcome) {
	for _, m := range tx.members[1:] {
		select {
		case m.outcome <- out:
		default: // it has been told already: this is a panic
		}
	}
}

// nothingHappened is the outcome of a commit that changed nothing. Of several
// mutations, one may have kept the others from it, so each is tried alone.
func (tx *transaction) nothingHappened(cause error) outcome {
	return outcome{err: cause, tryAlone: len(tx.members) > 1 && !apierror.IsTimeout(cause)}
}

func (tx *transaction) outgoing() []rewrite.Outgoing {
	all := make([]rewrite.Outgoing, len(tx.members))
	for i, m := range tx.members {
		all[i] = m.Call.Outgoing()
	}
	return all
}
