package proxy

import (
	"slices"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

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
	c.hold = c.gateway.pages.Freeze(map[string]*cache.Version{c.path: c.before.page, c.namesPath: c.before.names})
	c.after = map[string]*cache.Version{c.path: c.before.page, c.namesPath: c.before.names}
	if c.newName {
		if err := c.addName(); err != nil {
			return err
		}
	}
	entries := make([]journal.Mutation, len(c.parts))
	for i, p := range c.parts {
		entries[i] = p.entry()
	}
	var err error
	c.pending, err = c.journal.BeginBatch(entries, func() (journal.State, error) { return stateOf(c.before.page), nil })
	return err
}

func stateOf(p *cache.Version) journal.State {
	return journal.State{Text: p.Text(), Exists: p.Exists()}
}

// reserve finds room for the growth of the phext and, with it, of its names.
func (c *change) reserve() (err error) {
	c.reserved, err = c.gateway.config.Ledger.Reserve(c.tenant, quota.Write{
		File: c.call.FileName(), Size: sizeBefore(c.before.page), After: c.next.Size() + c.nameGrowth(), Removes: c.removes(),
	})
	return err
}

// removes says whether nothing but deletes is in the change.
func (c *change) removes() bool {
	return !slices.ContainsFunc(c.parts, func(p *part) bool { return p.call.Op != rewrite.Delete })
}

func sizeBefore(p *cache.Version) int64 {
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

func noticeEdit(j *journal.Journal, file string, now *cache.Version) error {
	if left, known := j.LastSeen(file); !known || left == now.ID {
		return nil
	}
	return j.RecordEdit(file, stateOf(now), now.ID)
}

func (p *part) entry() journal.Mutation {
	m := journal.Mutation{
		File: p.call.FileName(), Op: noted(p.call.Op), At: p.call.At, Text: string(p.call.Scroll),
		Tenant: p.tenant.ID, Key: tenants.Fingerprint(visitOf(p.r).key), Note: p.call.Name,
	}
	if key := p.r.Header.Get(idempotencyKey); key != "" {
		m.Idempotency, m.Digest, m.Answer = key, digestOf(p.call), p.answer
	}
	return m
}

// noted is the journal's word for an operation.
func noted(op rewrite.Op) journal.Op {
	switch op {
	case rewrite.Insert:
		return journal.Insert
	case rewrite.Update:
		return journal.Update
	}
	return journal.Delete
}
