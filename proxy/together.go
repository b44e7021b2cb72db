package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
)

// Mutations of different scrolls of one phext come to the same file in
// whichever order SQ makes them. So whoever gets the turn takes those along
// that wait for it: they are journalled together, SQ has them all at once, the
// file is looked at once for all of them, and nobody is answered before that.
// What goes wrong together has not happened, and is tried for each.

// mostTogether is how many mutations make one change: as many as SQ answers
// fastest (see readsAtOnce). Others wait for no more than that at a time.
const mostTogether = readsAtOnce

// smallScroll is the largest scroll, in bytes, that is made together with
// others: what they wait for the sending of it is less than they save.
const smallScroll = 64 << 10

var (
	// errTaken is a wait for a turn that ended because another's took the mutation along.
	errTaken = errors.New("the mutation is made together with another")
	// errAlone has a mutation tried again for itself: nothing has happened.
	errAlone = errors.New("several mutations could not be made together")
)

func newPart(w http.ResponseWriter, r *http.Request, call *rewrite.Call) *part {
	return &part{
		w: w, r: r, call: call, tenant: visitOf(r).tenant, ended: make(chan error, 1),
		alone: call.Name != "" || len(call.Scroll) > smallScroll || phext.HasDelimiter(call.Scroll) || r.Header.Get(idempotencyKey) != "",
	}
}

// lobby has the mutations that wait for a turn and may be taken along.
type lobby struct {
	mu      sync.Mutex
	waiting []*part // first come first
}

func (l *lobby) enter(p *part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, p)
}

// leave says whether p was still waiting.
func (l *lobby) leave(p *part) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, p)
	if i < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return true
}

// take takes up to most of those that fit. Only who has the turn may.
func (l *lobby) take(most int, fits func(*part) bool) (taken []*part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(p *part) bool {
		if len(taken) == most || !fits(p) {
			return false
		}
		taken = append(taken, p)
		return true
	})
	for _, p := range taken {
		p.cancel()
	}
	return taken
}

// writeWith is write for a mutation that may be taken along meanwhile, errTaken.
func (d *dir) writeWith(ctx context.Context, p *part) (done func(), err error) {
	if p.alone {
		return d.write(ctx)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	p.cancel = cancel
	d.lobby.enter(p)
	done, err = d.write(waiting)
	if d.lobby.leave(p) {
		return done, err
	}
	if err == nil {
		done()
	}
	return nil, errTaken
}

// gather takes others along.
func (c *change) gather() {
	if c.alone || !c.before.page.Exists() {
		return
	}
	taken := map[phext.Coordinate]bool{c.call.At: true}
	for _, p := range c.dir.lobby.take(c.roomForOthers(), func(p *part) bool {
		fits := p.tenant == c.tenant && p.call.Phext == c.call.Phext && !taken[p.call.At] && !c.unnames(p.call)
		taken[p.call.At] = taken[p.call.At] || fits
		return fits
	}) {
		if err := c.foresee(p); err != nil {
			p.ended <- err
			continue
		}
		c.parts = append(c.parts, p)
	}
}

// roomForOthers is how many may be taken along. Since SQ writes the whole file
// for each, those of a large phext are fewer: the last of them is waiting at SQ
// meanwhile, which hangs up on a request that is not complete after 32 s.
func (c *change) roomForOthers() int {
	return min(mostTogether-1, int(mostWritten/(c.before.page.Size()+1)))
}

// mostWritten is how many bytes SQ writes for one change, if it is of several mutations.
const mostWritten = 64 << 20

// unnames says whether a name goes with the scroll of a call.
func (c *change) unnames(call *rewrite.Call) bool {
	_, named := c.before.names.Phext.Select(call.At)
	return named && empties(call)
}

func (c *change) calls() []*rewrite.Call {
	all := make([]*rewrite.Call, len(c.parts))
	for i, p := range c.parts {
		all[i] = p.call
	}
	return all
}

// each is the end of a change of which nothing has happened: where it was of
// several mutations, each is tried for itself, since one may have kept the
// others from it.
func (c *change) each(cause error) error {
	if len(c.parts) > 1 && !isTimeout(cause) {
		return errAlone
	}
	return cause
}
