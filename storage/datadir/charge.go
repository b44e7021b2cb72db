package datadir

import "mirrorborn.us/sqgate/internal/memlimit"

// Charge counts what one piece of work takes in memory, within Dirs.Answers. Texts alone
// may be larger than all that there is, if nobody else holds any. It belongs to one
// goroutine.
type Charge struct {
	held           *memlimit.Reservation
	limit          int64 // as all that follow in bytes
	texts, scrolls int64
}

// NewCharge makes a charge of nothing.
func (ds *Dirs) NewCharge() *Charge {
	return &Charge{held: memlimit.Reserve(ds.Answers), limit: ds.Answers.Limit()}
}

// Texts counts more bytes of texts. The error is ErrBusy.
func (c *Charge) Texts(bytes int64) error {
	c.texts += bytes
	return c.update()
}

// Scrolls counts more bytes of lists of scrolls. The error is ErrBusy, or says that
// there are more than can ever be in memory.
func (c *Charge) Scrolls(bytes int64) error {
	if c.scrolls += bytes; c.scrolls > c.limit/2 {
		return errTooManyScrolls
	}
	return c.update()
}

// KeepText gives back all but the bytes of one text, which were counted.
func (c *Charge) KeepText(bytes int64) {
	c.texts, c.scrolls = bytes, 0
	_ = c.update() // less than before always has room
}

// Release gives everything back.
func (c *Charge) Release() { c.held.Release() }

func (c *Charge) update() error {
	if !c.held.Grow(min(c.texts+c.scrolls, c.limit)) {
		return ErrBusy
	}
	return nil
}
