package proxy

import (
	"net/http"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/disk"
	"mirrorborn.us/sqgate/journal"
	"mirrorborn.us/sqgate/parsed"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// change is one mutation, from the look at the file before it to the look at
// the file after it. Nobody sees anything of it before it is verified.
type change struct {
	gateway *Gateway
	w       http.ResponseWriter
	r       *http.Request
	dir     *dir
	call    *rewrite.Call
	tenant  *tenants.Tenant
	journal *journal.Journal

	path, namesPath string
	before          view
	next            *parsed.Page
	answer          string // what SQ is going to say
	newName         bool   // the call's name gets a coordinate
	lostName        bool   // a name goes with its scroll

	pending  *journal.Pending
	hold     *parsed.Hold
	spare    *disk.Spare
	reserved *tenants.Reservation
	names    *tenants.Reservation
	after    map[string]*parsed.Page // what readers see when the hold ends
	forgo    func()                  // gives the turn at the directory back
	kept     bool
}

// mutate has SQ change a phext. A write that has begun is seen to its end,
// whatever becomes of the client: only then may the next one begin.
func (g *Gateway) mutate(w http.ResponseWriter, r *http.Request, d *dir, call *rewrite.Call) error {
	done, err := g.turn(r, d, d.write)
	if err != nil {
		return err
	}
	c := &change{gateway: g, w: w, r: r, dir: d, call: call, tenant: visitOf(r).tenant, forgo: done}
	decided, err := c.plan()
	if err != nil || decided {
		done()
		if err == nil {
			g.writeText(w, c.answer)
		}
		return err
	}
	if err := c.begin(); err != nil {
		c.giveUp()
		return err
	}
	p := &passage{call: call, dir: d, reload: !g.files.knows(c.path, c.before.page.ID), finish: c.finish}
	if err := g.forward(w, r, p); err != nil {
		return c.fail(p.sent, err)
	}
	return nil
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
	old, there := c.before.page.Phext.Select(c.call.At)
	if err := precondition(c.r, old, there); err != nil {
		return false, err
	}
	if c.call.Op == rewrite.Delete && !c.before.page.Exists() {
		c.answer = answerTo(c.call, "")
		return true, nil
	}
	c.next = c.before.page.With(c.call.At, outcome(c.call, old))
	c.answer = answerTo(c.call, old)
	return false, c.possible()
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
	if size := c.next.Size(); size > parsed.Largest && size > c.before.page.Size() {
		return tooLarge(parsed.Largest)
	}
	return writable(c.path, c.before.page.Exists())
}

// begin enters the mutation in the books: quota, journal, and what readers see.
func (c *change) begin() error {
	if err := c.reserve(); err != nil {
		return err
	}
	if err := c.noticeEdits(); err != nil {
		return err
	}
	if err := c.setSpare(); err != nil {
		return err
	}
	c.hold = c.gateway.pages.Hold(map[string]*parsed.Page{c.path: c.before.page, c.namesPath: c.before.names})
	c.after = map[string]*parsed.Page{c.path: c.before.page, c.namesPath: c.before.names}
	if c.newName {
		if err := c.addName(); err != nil {
			return err
		}
	}
	var err error
	c.pending, err = c.journal.Begin(c.entry(), func() (journal.State, error) { return stateOf(c.before.page), nil })
	return err
}

func stateOf(p *parsed.Page) journal.State {
	return journal.State{Text: p.Text(), Exists: p.Exists()}
}

// reserve finds room for the growth of the phext and, with it, of its names.
func (c *change) reserve() (err error) {
	before, after := sizeBefore(c.before.page), c.next.Size()+c.nameGrowth()
	c.reserved, err = c.gateway.config.Ledger.Reserve(c.tenant, tenants.Write{
		File: c.call.FileName(), Size: before, Most: after,
		Exact:   func() (int64, error) { return after, nil },
		Removes: c.call.Op == rewrite.Delete,
	})
	return err
}

func sizeBefore(p *parsed.Page) int64 {
	if !p.Exists() {
		return -1
	}
	return p.Size()
}

// noticeEdits takes down what somebody else made of the files since this
// gateway wrote them last, so that it is part of their history.
func (c *change) noticeEdits() error {
	if err := noticeEdit(c.journal, c.call.FileName(), c.before.page); err != nil {
		return err
	}
	return noticeEdit(c.journal, c.call.NamesFileName(), c.before.names)
}

func noticeEdit(j *journal.Journal, file string, now *parsed.Page) error {
	if left, known := j.Left(file); !known || left == now.ID {
		return nil
	}
	return j.Edited(file, stateOf(now), now.ID)
}

func (c *change) entry() journal.Mutation {
	ops := map[rewrite.Op]journal.Op{rewrite.Insert: journal.Insert, rewrite.Update: journal.Update, rewrite.Delete: journal.Delete}
	m := journal.Mutation{
		File: c.call.FileName(), Op: ops[c.call.Op], At: c.call.At, Text: string(c.call.Scroll),
		Tenant: c.tenant.ID, Key: tenants.Fingerprint(visitOf(c.r).key), Note: c.call.Name,
	}
	if key := c.r.Header.Get(idempotencyKey); key != "" {
		m.Idempotency, m.Digest, m.Answer = key, digestOf(c.call), c.answer
	}
	return m
}
