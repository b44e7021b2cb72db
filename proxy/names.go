package proxy

import (
	"errors"
	"os"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants/quota"
)

// The names of a phext's coordinates are a phext beside it, which this gateway
// keeps itself. A name is written before its scroll and removed after it, so
// that a crash between the two leaves a name without a scroll, which reads as
// if it were not there, and never a name with another's scroll.

// firstNamed is where named scrolls begin (SPEC section 7).
func firstNamed() phext.Coordinate { return phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, 1} }

// aim finds the coordinate of a call by name, and whether a name comes or goes
// with it. decided says that there is nothing to change.
func (c *change) aim() (decided bool, err error) {
	if c.call.Name != "" {
		at, known := c.before.names.Find(c.call.Name)
		switch {
		case known:
			c.call.Resolve(at)
		case empties(c.call) || len(c.call.Scroll) == 0:
			c.answer = answerTo(c.call, "")
			return true, precondition(c.r, "", false)
		default:
			if at, err = c.before.nextFree(); err != nil {
				return false, err
			}
			c.call.Resolve(at)
			c.newName = true
		}
	}
	c.lostName = c.unnames(c.call)
	return false, nil
}

// empties says whether nothing is left at the coordinate after the call.
func empties(call *rewrite.Call) bool {
	return call.Op == rewrite.Delete || len(call.Scroll) == 0 && call.Op == rewrite.Update
}

// nextFree is the coordinate behind all that have a name, and behind all
// scrolls in the part of the phext where named ones lie.
func (v view) nextFree() (phext.Coordinate, error) {
	at := firstNamed()
	for _, p := range []*cache.Version{v.names, v.page} {
		all := p.Phext.Scrolls()
		if len(all) == 0 || all[len(all)-1].At.Compare(at) < 0 {
			continue
		}
		next, ok := all[len(all)-1].At.Next()
		if !ok {
			return at, errNoRoomForNames
		}
		at = next
	}
	return at, nil
}

// nameGrowth is by how many bytes the names grow.
func (c *change) nameGrowth() int64 {
	if !c.newName {
		return 0
	}
	return c.before.names.With(c.call.At, c.call.Name).Size() - c.before.names.Size()
}

// addName gives the call's name its coordinate.
func (c *change) addName() error {
	return c.writeNames(c.before.names.With(c.call.At, c.call.Name), c.call.Name)
}

// removeName takes the name at the call's coordinate away. Where that fails, a
// name without a scroll stays, which does no harm.
func (c *change) removeName() {
	now := c.after[c.namesPath]
	if _, there := now.Phext.Select(c.call.At); !there {
		return
	}
	if err := c.writeNames(now.With(c.call.At, ""), ""); err != nil {
		c.log("the name of a scroll that is gone was not removed", err)
	}
}

// writeNames makes the names what next is, where name is all that is new.
func (c *change) writeNames(next *cache.Version, name string) (err error) {
	now := c.after[c.namesPath]
	if c.names == nil {
		// That there is room was found out together with the phext's own growth.
		w := quota.Write{File: c.call.NamesFileName(), Size: sizeBefore(now), Removes: true}
		if c.names, err = c.gateway.config.Ledger.Reserve(c.tenant, w); err != nil {
			return err
		}
	}
	entry := c.entry()
	entry.File, entry.Op, entry.Text = c.call.NamesFileName(), journal.Update, name
	entry.Idempotency, entry.Digest, entry.Answer = "", "", ""
	pending, err := c.journal.Begin(entry, func() (journal.State, error) { return stateOf(now), nil })
	if err != nil {
		return err
	}
	if err := storeNames(c.namesPath, now, next, c.call.At); err != nil {
		return errors.Join(err, c.namesUnwritten(pending, now))
	}
	id, err := fsutil.Identify(c.namesPath)
	if err == nil {
		err = pending.Done(id)
	}
	if err != nil {
		c.dir.settled.Store(false)
		return err
	}
	c.after[c.namesPath] = next.WithID(id)
	next.Noted(c.call.At, name)
	return nil
}

// namesUnwritten takes down that names were not written, and has recovery put
// right what may be left of them.
func (c *change) namesUnwritten(pending *journal.Pending, now *cache.Version) error {
	if id, err := fsutil.Identify(c.namesPath); err == nil && id.Size == now.Size() {
		return pending.RolledBack(id)
	}
	c.dir.settled.Store(false)
	return pending.LeaveToRecovery()
}

// storeNames writes the names. One that lies behind all others, as a new one
// does, is appended, which costs the same however many there are.
func storeNames(path string, now, next *cache.Version, at phext.Coordinate) error {
	all := now.Phext.Scrolls()
	if len(all) == 0 || all[len(all)-1].At.Compare(at) >= 0 || now.Size() != int64(now.Phext.RenderedSize()) {
		if err := os.MkdirAll(filepath.Dir(path), newDirMode); err != nil {
			return err
		}
		return fsutil.Replace(path, next.Text(), fsutil.NewFileMode, false)
	}
	name, _ := next.Phext.Select(at)
	tail := append(phext.AppendDelimiters(nil, all[len(all)-1].At, at), name...)
	return appendTo(path, tail, now.Size())
}

// newDirMode is that of a data directory that a child is started on.
const newDirMode = 0o700

func appendTo(path string, tail []byte, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(tail, size); err != nil {
		_ = f.Truncate(size) // the error that led here says more
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
