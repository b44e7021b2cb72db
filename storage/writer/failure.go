package writer

import (
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

// errPanic is why a directory is left to recovery after a panic.
var errPanic = errors.New("a write panicked")

// endAfterPanic leaves the directory to recovery if a step has panicked. The
// process lives on after that, and must not keep the directory locked.
func (tx *transaction) endAfterPanic() {
	if tx.ended {
		return
	}
	tx.releaseChild(errPanic)
	tx.leaveToRecovery(errPanic)
}

// abort ends a commit of which SQ has seen nothing.
func (tx *transaction) abort(cause error) outcome {
	if errors.Is(cause, journal.ErrUndecided) {
		return tx.leaveUndecided(cause)
	}
	if errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EDQUOT) {
		tx.log("there is no room for a write or its journal", cause)
		cause = errDiskFull
	}
	if errors.Is(cause, journal.ErrWentBack) {
		tx.dir.MarkUnrecovered()
		cause = datadir.ErrNotRecovered
	}
	if errors.Is(cause, errNotRecorded) {
		tx.log("a write could not be recorded in the journal", cause)
		cause = errNotRecorded
	}
	if tx.frozen != nil {
		tx.removeNewName()
	}
	tx.release()
	tx.unlock()
	return tx.nothingHappened(cause)
}

// resolveFailure finds out what became of a write that went wrong on its way.
// stands: the file holds it all the same. If not, it has not happened, or it is
// left to recovery, and the commit has ended.
func (tx *transaction) resolveFailure(cause error) (stands bool, out outcome) {
	if !tx.sent && (tx.before.Phext.Exists() || !tx.reload || tx.isBatch()) {
		// With the file's identity, so that the next edit by hand is noticed.
		return false, tx.rolledBack(tx.pending.RolledBack(tx.before.Phext.ID), tx.before.Phext.ID, cause)
	}
	if err := tx.dir.StopChild("a write failed"); err != nil {
		return false, tx.leaveUndecided(errors.Join(cause, err))
	}
	id, stands, err := tx.w.files.same(tx.file, tx.next, tx.pace)
	if err != nil {
		return false, tx.leaveUndecided(errors.Join(cause, err))
	}
	if !stands {
		return false, tx.rollBack(cause)
	}
	tx.written = id
	return true, outcome{}
}

// rollBack makes the file what it was before the write.
func (tx *transaction) rollBack(cause error) outcome {
	cause = tx.explain(cause)
	err := tx.restoreFile()
	var id fsutil.FileID
	if err == nil {
		id, err = tx.w.files.identify(tx.file)
	}
	if err != nil {
		return tx.leaveRefused(errors.Join(cause, err))
	}
	return tx.rolledBack(tx.pending.RolledBack(id), id, cause)
}

// restoreFile puts the file of before the write in the place of what was left of it.
func (tx *transaction) restoreFile() error {
	before := tx.before.Phext
	switch {
	case tx.aside:
		tx.logRestored()
		return tx.w.files.rename(journal.BeforePath(tx.file), tx.file)
	case !before.Exists(): // SQ makes an empty file of a phext that it loads
		return fsutil.IgnoreMissing(os.Remove(tx.file))
	}
	if _, same, err := tx.w.files.same(tx.file, before, tx.pace); same || err != nil {
		return err
	}
	tx.logRestored()
	if tx.diskSpace != nil {
		return tx.diskSpace.Replace(tx.target, datadir.StateOf(before), fsutil.NewFileMode)
	}
	target, err := tx.w.Dirs.Links.Target(tx.file)
	if err != nil {
		return err
	}
	return fsutil.ReplaceFrom(target, datadir.StateOf(before), fsutil.NewFileMode, true)
}

func (tx *transaction) logRestored() {
	tx.w.Logger.LogAttrs(tx.ctx, slog.LevelWarn, "a write was torn, and its phext is put back as it was",
		slog.String(logkey.Request, tx.lead.ID), slog.String(logkey.DataDir, tx.dir.Path))
}

// rolledBack ends a write that has not happened. recorded is what the journal
// said to that: if it could not note it on the disk, recovery might make the
// write.
func (tx *transaction) rolledBack(recorded error, id fsutil.FileID, cause error) outcome {
	if recorded == nil {
		recorded = tx.pending.SyncRefusal()
	}
	if recorded != nil {
		return tx.leaveUndecided(errors.Join(cause, recorded))
	}
	tx.visible[tx.path] = tx.before.Phext.WithID(id)
	tx.removeNewName()
	tx.release()
	tx.unlock()
	return tx.nothingHappened(cause)
}

// leaveRefused has recovery put the file back as it was, and answers that the
// write has not happened.
func (tx *transaction) leaveRefused(cause error) outcome {
	err := tx.pending.LeaveToRecovery()
	if err == nil {
		err = tx.pending.SyncRefusal()
	}
	if err != nil {
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
	tx.dir.MarkUnrecovered()
	delete(tx.visible, tx.path)
	delete(tx.visible, tx.namesPath)
	tx.release()
	tx.unlock()
}

// nearlyNoRoom is less room, in bytes, than any write is let through with.
const nearlyNoRoom = 64 << 10

// explain tells a write that found no room from one that failed otherwise.
func (tx *transaction) explain(cause error) error {
	space, err := tx.w.files.space(tx.at)
	if err != nil {
		return cause
	}
	torn, err := tx.w.Dirs.Links.Identify(tx.file)
	if err != nil {
		return cause
	}
	if space.free < tx.next.Size()-torn.Size+nearlyNoRoom {
		return errDiskFull
	}
	return cause
}
