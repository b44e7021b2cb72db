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

// The mutation that has the directory takes along those of the same phext that wait for
// it: they are journalled together, the file is looked at once for all of them, and
// nobody is answered before that. If nothing of a batch has happened, each of its
// mutations is tried alone, since one may have kept the others from it. Only a timeout,
// or a batch that is left to recovery, ends them all.
//
// Each mutation is applied to what those before it leave, in the order of arrival, and
// has the answer, the entity tag and the entry in the journal that it would have alone.
// SQ gets one call for each scroll (callsToSQ), which makes what all of them make of it.
// Of several updates of one scroll that is the last, and several inserts are one text.
// Calls for different scrolls make the same file in whichever order SQ takes them up.

// largestBatch is how many calls for SQ make one batch: as many as it answers fastest.
// mostMembers is how many mutations those may be: of one scroll, all that wait can cost
// one call. The others wait for no more than that at a time.
const (
	largestBatch = datadir.ReadsAtOnce
	mostMembers  = 64
)

// smallScroll is the largest text, in bytes, that goes into a batch. To wait
// until a larger one is sent would cost the others more than the batch saves.
// mostText is how much text the members of a batch have together.
const (
	smallScroll = 64 << 10
	mostText    = largestBatch * smallScroll
)

// mutation is a request on its way through a commit.
type mutation struct {
	Request
	alone     bool // it is not put into a batch
	delimited bool // its text is several scrolls

	result  Result // of which Body and ETag are known before SQ is asked
	refusal error  // why it is not made, although its batch is
	size    int64  // of the scroll as it is to be, in bytes
	name    string // of the scroll, by whatever it was written; "" = it has none

	stopWaiting context.CancelFunc // of the wait for the directory
	outcome     chan outcome       // of a commit that another leads
}

func newMutation(r Request) *mutation {
	delimited := r.Call.Pace.HasDelimiter(unsafe.String(unsafe.SliceData(r.Call.Scroll), len(r.Call.Scroll)))
	return &mutation{
		Request: r, outcome: make(chan outcome, 1), delimited: delimited,
		alone: r.Call.Name != "" || len(r.Call.Scroll) > smallScroll || delimited || r.IdempotencyKey != "" || r.Call.Batch != nil,
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

// leadBatch takes along waiting mutations of the same phext. SQ must have the phext in
// memory as it is, since a reload makes it slow.
func (tx *transaction) leadBatch() {
	if tx.lead.alone || tx.reload || tx.staleName || !tx.before.Phext.Exists() {
		return
	}
	lead, most := tx.lead.Call, tx.batchCapacity()
	scrolls, text := map[phext.Coordinate]bool{lead.At: true}, len(lead.Scroll)
	tx.joined = tx.w.queue(tx.dir).take(mostMembers-1, func(m *mutation) bool {
		c := m.Call
		if m.Tenant != tx.lead.Tenant || c.Phext != lead.Phext || tx.takesName(c) || tx.hasStaleName(c) || tx.lostName && c.At == lead.At ||
			!scrolls[c.At] && len(scrolls) == most || text+len(c.Scroll) > mostText || tx.w.checkRights(m) != nil {
			return false
		}
		scrolls[c.At] = true
		text += len(c.Scroll)
		return true
	})
	for _, m := range tx.joined {
		if m.refusal = tx.applyOne(m); m.refusal == nil {
			tx.members = append(tx.members, m)
		}
	}
}

// mostWritten is how many bytes SQ writes for one batch. It writes the whole
// file for each mutation, while the last one waits: SQ hangs up on a request
// that is not complete after 32 s.
const mostWritten = 64 << 20

// batchCapacity is how many scrolls of the phext a batch may write.
func (tx *transaction) batchCapacity() int {
	return min(largestBatch, 1+int(mostWritten/(tx.before.Phext.Size()+1)))
}

// tellOthers ends the wait of the mutations that were taken along. A refusal rests on
// what the batch has made, so without that it is none yet.
func (tx *transaction) tellOthers(out outcome) {
	for _, m := range tx.joined {
		switch {
		case m.refusal == nil:
			m.outcome <- out
		case out.err == nil:
			m.outcome <- outcome{err: m.refusal}
		default:
			m.outcome <- outcome{tryAlone: true}
		}
	}
}

// nothingHappened is the outcome of a commit that changed nothing. Of several
// mutations, one may have kept the others from it, so each is tried alone.
func (tx *transaction) nothingHappened(cause error) outcome {
	return outcome{err: cause, tryAlone: len(tx.members) > 1 && !tx.isBatch() && !apierror.IsTimeout(cause)}
}

// callsToSQ are the calls by which SQ makes all members: one for each scroll.
func (tx *transaction) callsToSQ() (calls []*rewrite.Call) {
	index := make(map[phext.Coordinate]int, len(tx.members))
	for _, m := range tx.members {
		i, known := index[m.Call.At]
		if !known {
			i = len(calls)
			index[m.Call.At], calls = i, append(calls, nil)
		}
		calls[i] = calls[i].Then(m.Call)
	}
	return calls
}
