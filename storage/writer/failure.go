package writer

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/journal"
)

// abort ends a commit of which SQ has seen nothing.
func (tx *transaction) abort(cause error) outcome {
	if tx.newName && tx.frozen != nil {
		tx.removeName()
	}
	tx.release()
	tx.unlock()
	return tx.nothingHappened(cause)
}

// stopTimeout is how long the end of a child that failed is awaited.
const stopTimeout = 2 * time.Minute

// resolveFailure finds out what became of a write that went wrong on its way.
// stands: the file holds it all the same. If not, it has not happened, or it is
// left to recovery, and the commit has ended.
func (tx *transaction) resolveFailure(cause error) (stands bool, out outcome) {
	if !tx.sent {
		return false, tx.rolledBack(tx.pending.Abort(), tx.before.Phext.ID, cause)
	}
	if err := tx.stopChild(); err != nil {
		return false, tx.leaveUndecided(errors.Join(cause, err))
	}
	id, stands, err := tx.w.files.same(tx.path, tx.next)
	if err != nil {
		return false, tx.leaveUndecided(errors.Join(cause, err))
	}
	if !stands {
		return false, tx.rollBack(cause)
	}
	tx.written = id
	for _, m := range tx.members {
		m.result.Body = []byte(m.answer)
	}
	return true, outcome{}
}

// stopChild returns when no SQ writes to the directory any more.
func (tx *transaction) stopChild() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), stopTimeout)
	defer cancel()
	return tx.w.Dirs.StopChild(ctx, tx.dir.Path, "a write failed")
}

// rollBack makes the file what it was before the write.
func (tx *transaction) rollBack(cause error) outcome {
	cause = tx.explain(cause)
	err := tx.restoreFile()
	var id fsutil.FileID
	if err == nil {
		id, err = tx.w.files.identify(tx.path)
	}
	if err != nil {
		return tx.leaveRefused(errors.Join(cause, err))
	}
	return tx.rolledBack(tx.pending.RolledBack(id), id, cause)
}

// restoreFile puts the file of before the write in the place of what was left of it.
func (tx *transaction) restoreFile() error {
	before := tx.before.Phext
	if tx.aside {
		tx.logRestored()
		return tx.w.files.rename(journal.BeforePath(tx.path), tx.path)
	}
	if _, same, err := tx.w.files.same(tx.path, before); same || err != nil {
		return err
	}
	tx.logRestored()
	switch {
	case !before.Exists():
		return fsutil.IgnoreMissing(os.Remove(tx.path))
	case tx.spare != nil:
		return tx.spare.Become(tx.target, before.Text(), fsutil.NewFileMode)
	}
	target, err := tx.w.Dirs.Links.Target(tx.path)
	if err != nil {
		return err
	}
	return fsutil.Replace(target, before.Text(), fsutil.NewFileMode, true)
}

func (tx *transaction) logRestored() {
	tx.w.Logger.LogAttrs(tx.ctx, slog.LevelWarn, "a write was torn, and its phext is put back as it was",
		slog.String(logkey.Request, tx.lead.ID), slog.String(logkey.DataDir, tx.dir.Path))
}

// rolledBack ends a write that has not happened. recorded is what the journal
// said to that: if it could not note it, recovery would make the write.
func (tx *transaction) rolledBack(recorded error, id fsutil.FileID, cause error) outcome {
	if recorded != nil {
		return tx.leaveUndecided(errors.Join(cause, recorded))
	}
	tx.visible[tx.path] = tx.before.Phext.WithID(id)
	if tx.newName {
		tx.removeName()
	}
	tx.release()
	tx.unlock()
	if err := tx.pending.Sync(); err != nil {
		tx.log("the journal is not on disk", err)
	}
	return tx.nothingHappened(cause)
}

// leaveRefused has recovery put the file back as it was, and answers that the
// write has not happened.
func (tx *transaction) leaveRefused(cause error) outcome {
	if err := tx.pending.LeaveToRecovery(); err != nil {
		return tx.leaveUndecided(errors.Join(cause, err))
	}
	tx.leaveToRecovery(cause)
	return outcome{err: cause}
}

// leaveUndecided has recovery decide whether the write happened, and says so.
func (tx *transaction) leaveUndecided(cause error) outcome {
	tx.leaveToRecovery(cause)
	return outcome{err: errNotKnown}
}

// leaveToRecovery ends the commit. The next request of the directory recovers
// its files before it reads them.
func (tx *transaction) leaveToRecovery(cause error) {
	tx.log("a write failed, and its phext could not be put in order at once", cause)
	tx.dir.LeaveToRecovery()
	delete(tx.visible, tx.path)
	delete(tx.visible, tx.namesPath)
	tx.release()
	tx.unlock()
}

// nearlyNoRoom is less room, in bytes, than any write is let through with.
const nearlyNoRoom = 64 << 10

// explain tells a write that found no room from one that failed otherwise.
func (tx *transaction) explain(cause error) error {
	room, err := tx.w.files.room(tx.dir.Path)
	if err != nil {
		return cause
	}
	torn, err := tx.w.Dirs.Links.Identify(tx.path)
	if err != nil {
		return cause
	}
	if room.free < tx.next.Size()-torn.Size+nearlyNoRoom {
		return errDiskFull
	}
	return cause
}
