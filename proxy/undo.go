package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

var (
	// errNotStored is SQ's 200 for a write that the file does not hold.
	errNotStored = errors.New("SQ answered that it stored a write, and the file does not hold it")
	// errNotMade is that where there is no file at all.
	errNotMade = fmt.Errorf("%w: there is no file", errNotStored)
)

// fail ends a mutation that went wrong on the way. It has then happened
// entirely, and is answered so, or not at all.
func (c *change) fail(sent bool, cause error) error {
	switch {
	case c.kept:
		c.log("a write stands in its file, but the journal is not on disk", cause)
		return errNotDurable
	case !sent:
		return c.undone(c.pending.Abort(), c.before.page.ID, cause)
	}
	if err := c.clear(); err != nil {
		return c.undecided(errors.Join(cause, err))
	}
	id, stands, err := holds(c.path, c.next)
	switch {
	case err != nil:
		return c.undecided(errors.Join(cause, err))
	case stands:
		return c.standing(id)
	}
	return c.rollBack(cause)
}

// standing answers a mutation of which the file holds all, although the child
// did not live to say so.
func (c *change) standing(id fsutil.FileID) error {
	if err := c.keep(id); err != nil {
		c.log("a write stands in its file, but the journal is not on disk", err)
		return errNotDurable
	}
	for _, p := range c.parts {
		p.body = []byte(p.answer)
	}
	return nil
}

// rollBack puts the file as it was, if it is not.
func (c *change) rollBack(cause error) error {
	id, same, err := holds(c.path, c.before.page)
	if err == nil && !same {
		cause = c.explained(cause)
		err = c.restore()
	}
	if err == nil {
		id, err = fsutil.Identify(c.path)
	}
	if err != nil {
		return c.refused(errors.Join(cause, err))
	}
	return c.undone(c.pending.RolledBack(id), id, cause)
}

// restore puts the file of before in the place of what was left of it.
func (c *change) restore() error {
	before := c.before.page
	c.gateway.log.LogAttrs(c.r.Context(), slog.LevelWarn, "a write was torn, and its phext is put back as it was",
		slog.String(keyRequest, visitOf(c.r).id), slog.String(keyDataDir, c.dir.path))
	if !before.Exists() {
		return ignoreMissing(os.Remove(c.path))
	}
	if c.spare != nil {
		return c.spare.Become(c.path, before.Text(), fsutil.NewFileMode)
	}
	return fsutil.Replace(c.path, before.Text(), fsutil.NewFileMode, true)
}

// undone ends a mutation that has not happened; noted is what the journal said
// to that. If it could not take it down, recovery makes the mutation.
func (c *change) undone(noted error, id fsutil.FileID, cause error) error {
	if noted != nil {
		return c.undecided(errors.Join(cause, noted))
	}
	c.after[c.path] = c.before.page.WithID(id)
	if c.newName {
		c.removeName()
	}
	c.settle()
	c.forgo()
	if err := c.pending.Sync(); err != nil {
		c.log("the journal is not on disk", err)
	}
	return c.each(cause)
}

// refused leaves it to recovery to put the file back as it was, and answers
// that the mutation did not happen.
func (c *change) refused(cause error) error {
	if err := c.pending.LeaveToRecovery(); err != nil {
		return c.undecided(errors.Join(cause, err))
	}
	c.abandon(cause)
	return c.explained(cause)
}

// undecided leaves it to recovery whether the mutation happened, and says so.
func (c *change) undecided(cause error) error {
	c.abandon(cause)
	return errUndecided
}

// abandon leaves the phext to recovery, which the next request of the
// directory begins with.
func (c *change) abandon(cause error) {
	c.log("a write failed, and its phext could not be put in order at once", cause)
	c.dir.settled.Store(false)
	delete(c.after, c.path)
	delete(c.after, c.namesPath)
	c.settle()
	c.forgo()
}

func (c *change) log(message string, err error) {
	c.gateway.log.LogAttrs(c.r.Context(), slog.LevelError, message, slog.String(keyRequest, visitOf(c.r).id),
		slog.String(keyTenant, c.tenant.ID), slog.String(keyDataDir, c.dir.path), slog.Any(keyError, err))
}

// explained tells a write that found no room from one that met another end.
func (c *change) explained(cause error) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.dir.path, &fs); err != nil {
		return cause
	}
	torn, err := fsutil.Identify(c.path)
	if err != nil {
		return cause
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < c.next.Size()-torn.Size+narrow {
		return errDiskFull
	}
	return cause
}

// narrow is less room than any write is let through with, in bytes.
const narrow = 64 << 10

// Room on a disk below which the way back is secured before SQ truncates a
// phext: bytes, and sizes of the phext.
const (
	tightBytes = 256 << 20
	tightSizes = 4
)

// setSpare secures the room for the file of before on a disk that could be
// full in a moment. A write that makes room passes without.
func (c *change) setSpare() (err error) {
	size := c.before.page.Size()
	var fs unix.Statfs_t
	if size == 0 || unix.Statfs(c.dir.path, &fs) != nil {
		return nil
	}
	c.onDisk = !fsutil.InMemory(&fs)
	if int64(fs.Bavail)*fs.Bsize > tightBytes+tightSizes*size {
		return nil
	}
	c.spare, err = fsutil.NewSpare(c.path, size)
	if err != nil && c.shrinks() {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) {
		return errDiskFull
	}
	return err
}

func (c *change) shrinks() bool { return c.next.Size() <= c.before.page.Size() }
