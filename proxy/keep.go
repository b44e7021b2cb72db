package proxy

import (
	"context"
	"os"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/cache"
)

// finish is told that SQ says it is done. What it says is not believed.
func (c *change) finish() error {
	id, same, err := holds(c.path, c.next)
	if err != nil {
		return err
	}
	switch {
	case same:
		return c.keep(id)
	case id == fsutil.FileID{}:
		return errNotMade
	}
	return errNotStored
}

// keep makes the mutation, which stands in the file, seen by everybody. It
// returns when the journal is as durable as it is wanted.
func (c *change) keep(id fsutil.FileID) error {
	if err := c.pending.Done(id); err != nil {
		// It was begun, and the file holds it: recovery finds both, and notes it.
		c.log("the journal could not note the end of a write", err)
		c.dir.settled.Store(false)
	}
	c.after[c.path] = c.next.WithID(id)
	if c.lostName {
		c.removeName()
	}
	c.gateway.files.wrote(c.path, id, phext.HasDelimiter(c.call.Scroll))
	used := quotaUsed(c.settle())
	for _, p := range c.parts {
		p.used = used
		if text, ok := c.next.Phext.Select(p.call.At); ok {
			p.tag = tagOf(text)
		}
	}
	c.kept = true
	c.forgo()
	return c.pending.Sync()
}

// settle ends what begin began, except for the journal.
func (c *change) settle() (part float64) {
	if c.hold != nil {
		c.hold.Publish(c.after)
	}
	if c.names != nil {
		c.names.Release()
	}
	if c.reserved != nil {
		part = c.reserved.Release()
	}
	c.spare.Drop()
	return part
}

// giveUp ends a mutation of which SQ has seen nothing.
func (c *change) giveUp() {
	if c.newName && c.hold != nil {
		c.removeName()
	}
	c.settle()
	c.forgo()
}

// clearing is how long an end is waited for of a child that failed.
const clearing = 2 * time.Minute

func (c *change) clear() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), clearing)
	defer cancel()
	return c.gateway.config.Children.Clear(ctx, c.dir.path, "a write failed")
}

// holds says whether the file at path is the page, and what its identity is: the
// zero one where there is none.
func holds(path string, page *cache.Version) (fsutil.FileID, bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return fsutil.FileID{}, !page.Exists() && os.IsNotExist(err) && page.Size() == 0, ignoreMissing(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fsutil.FileID{}, false, err
	}
	id, err := fsutil.IDOf(info)
	if err != nil || id.Size != page.Size() {
		return id, false, err
	}
	same, err := page.Same(f)
	return id, same, err
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
