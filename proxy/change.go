package proxy

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// part is one client's mutation. It is a change of its own, or goes into one
// with others.
type part struct {
	w      http.ResponseWriter
	r      *http.Request
	call   *rewrite.Call
	tenant *tenants.Tenant

	alone    bool   // it must be a change of its own
	answer   string // what SQ is going to say
	newName  bool   // the call's name gets a coordinate
	lostName bool   // a name goes with its scroll

	body []byte // what the client is told
	used string // of the quota
	tag  string // of the scroll as it is now; "" if there is none

	cancel context.CancelFunc // ends its wait for a turn
	ended  chan error         // is sent how a change ended that another leads
}

// change is one mutation of a phext, or several together, from the look at the
// file before it to the look at the file after it. Nobody sees anything of it
// before it is verified.
type change struct {
	*part           // the one that has the turn
	parts   []*part // all of them, that one first
	gateway *Gateway
	dir     *dir
	journal *journal.Journal

	path, namesPath string
	before          view
	next            *cache.Version

	pending  *journal.Pending
	hold     *cache.Frozen
	spare    *fsutil.Spare
	onDisk   bool // the phext's file is not in memory alone
	reserved *quota.Reservation
	names    *quota.Reservation
	after    map[string]*cache.Version // what readers see when the hold ends
	forgo    func()                    // gives the turn at the directory back
	kept     bool
}

// mutate has SQ change a phext. A write that has begun is seen to its end,
// whatever becomes of the client: only then may the next one begin.
func (g *Gateway) mutate(w http.ResponseWriter, r *http.Request, d *dir, call *rewrite.Call) error {
	p := newPart(w, r, call)
	err := g.change(d, p)
	if errors.Is(err, errAlone) {
		p.alone = true
		err = g.change(d, p)
	}
	return err
}

// change makes p stand in the file and answers it, unless it returns an error.
func (g *Gateway) change(d *dir, p *part) error {
	done, err := g.turn(p.r, d, func(ctx context.Context) (func(), error) { return d.writeWith(ctx, p) })
	if errors.Is(err, errTaken) {
		err = <-p.ended
		if err == nil {
			g.reply(p)
		}
		return err
	}
	if err != nil {
		return err
	}
	c := &change{part: p, parts: []*part{p}, gateway: g, dir: d, forgo: done}
	decided, err := c.plan()
	if err != nil || decided {
		done()
		if err == nil {
			g.writeText(p.w, p.answer)
		}
		return err
	}
	if err := c.make(); err != nil {
		return err
	}
	g.reply(p)
	return nil
}

// make has it done, together with others that wait, and tells those.
func (c *change) make() (err error) {
	err = errUndecided
	defer func() {
		for _, p := range c.parts[1:] {
			p.ended <- err
		}
	}()
	reload := !c.gateway.files.knows(c.path, c.before.page.ID)
	if !reload {
		c.gather()
	}
	if err = c.begin(); err != nil {
		c.giveUp()
		return c.each(err)
	}
	p := &passage{calls: c.calls(), dir: c.dir, reload: reload, anew: c.canBeMadeAnew(), finish: c.finish}
	defer p.held.release()
	if err = c.gateway.forward(c.r, p); err != nil {
		return c.fail(p.sent, err)
	}
	for i, part := range c.parts {
		part.body = part.call.Answer(p.answers[i])
	}
	return nil
}

// reply tells a client that its mutation stands.
func (g *Gateway) reply(p *part) {
	h := p.w.Header()
	h.Set("X-SQ-Quota-Used", p.used)
	if p.tag != "" {
		h.Set("ETag", p.tag)
	}
	g.writeBytes(p.w, p.body)
}

// plan works out what the mutation makes of the phext, and whether it may.
// decided says that it changes nothing and has its answer.
func (c *change) plan() (decided bool, err error) {
	g := c.gateway
	c.path, c.namesPath = c.call.FilePath(c.dir.path), filepath.Join(c.dir.path, c.call.NamesFileName())
	if c.journal, err = g.config.Journal.Of(c.dir.path); err != nil {
		return false, err
	}
	if decided, err := c.repeated(); decided || err != nil {
		return decided, err
	}
	if c.before, err = g.view(c.dir, c.call); err != nil {
		return false, err
	}
	if decided, err := c.aim(); decided || err != nil {
		return decided, err
	}
	if c.call.Op == rewrite.Delete && !c.before.page.Exists() {
		c.answer = answerTo(c.call, "")
		return true, precondition(c.r, "", false)
	}
	c.next = c.before.page
	if err := c.foresee(c.part); err != nil {
		return false, err
	}
	return false, c.possible()
}

// foresee adds to what the file is going to hold.
func (c *change) foresee(p *part) error {
	old, there := c.next.Phext.Select(p.call.At)
	if err := precondition(p.r, old, there); err != nil {
		return err
	}
	c.next = c.next.With(p.call.At, outcome(p.call, old))
	p.answer = answerTo(p.call, old)
	return nil
}

// outcome is what stands at the coordinate after the call.
func outcome(call *rewrite.Call, old string) string {
	switch call.Op {
	case rewrite.Insert:
		return old + string(call.Scroll)
	case rewrite.Update:
		return string(call.Scroll)
	}
	return ""
}

// answerTo is what SQ says when it has done the call.
func answerTo(call *rewrite.Call, old string) string {
	switch call.Op {
	case rewrite.Insert:
		return "Inserted " + itoa(len(call.Scroll)) + " bytes"
	case rewrite.Update:
		return "Updated " + itoa(len(call.Scroll)) + " bytes"
	}
	return "Removed " + itoa(len(old)) + " bytes"
}

// possible refuses what SQ could not store, or not read again: it would answer
// 200 all the same.
func (c *change) possible() error {
	if size := c.next.Size(); size > cache.Largest && size > c.before.page.Size() {
		return tooLarge(cache.Largest)
	}
	return writable(c.path, c.before.page.Exists())
}
