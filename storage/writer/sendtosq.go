package writer

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/sqclient"
)

// makeDir makes the directory for its first phext. A child would make it, too, but as one that
// belongs to no journal.
func (tx *transaction) makeDir() error {
	if tx.before.Phext.Exists() {
		return nil
	}
	err := tx.journal.MakeDataDir(tx.at)
	if err == nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	tx.log("a data directory could not be made", err)
	return errNoDirectory
}

// sendToSQ has SQ make the mutations, and keeps the child for verify. A child
// that accepts no connection has seen nothing, so the next one is tried, once.
func (tx *transaction) sendToSQ() error {
	if tx.isBatch() {
		return tx.replaceFile()
	}
	tx.calls = tx.callsToSQ()
	err := tx.sendOnce()
	if errors.Is(err, sqclient.ErrUnreached) && !tx.sent {
		tx.releaseChild(err)
		err = tx.sendOnce()
	}
	if err != nil {
		tx.w.Logger.LogAttrs(tx.ctx, slog.LevelWarn, "the database did not answer",
			slog.String(logkey.Request, tx.lead.ID), slog.String(logkey.Tenant, tx.lead.Tenant.ID),
			slog.String(logkey.Op, string(tx.lead.Call.Op)), slog.String(logkey.DataDir, tx.dir.Path), slog.Any(logkey.Error, tx.named(err)))
	}
	return err
}

func (tx *transaction) sendOnce() (err error) {
	ctx, cancel := context.WithTimeout(tx.ctx, tx.w.timeout)
	defer cancel()
	if tx.child, err = tx.w.SQ.Lease(ctx, tx.dir.Path); err != nil {
		return err
	}
	if err := tx.dir.Holds(tx.at); err != nil { // the child may be that of the directory that has come into its place
		return err
	}
	// A child that has not loaded the phext would take a file that was renamed
	// aside for an empty one.
	loaded := tx.reload || tx.dir.HasLoaded(tx.child.Generation(), tx.path)
	tx.dir.NoteLoading()
	if tx.reload {
		if err := tx.child.Load(ctx, tx.lead.Call); err != nil {
			return err
		}
	}
	if recreateFiles && loaded && tx.canRecreate() {
		err = tx.recreate(ctx)
	} else {
		err = tx.truncate(ctx)
	}
	if err == nil {
		tx.dir.NoteLoaded(tx.child.Generation(), tx.path)
	}
	return err
}

// SQ truncates a file and writes it again. A file system with a disk takes that
// for a replacement that must not be lost: it begins to write the file when it
// is closed, and the next truncation waits for that. On ext4 that is most of
// what an update costs. A file that is not there SQ makes, without any of that.
//
// So the old file is renamed aside first (journal.BeforePath), and removed when
// the new one is verified and journalled. At every moment one file holds what
// was acknowledged; recovery looks at the one aside first.

// canRecreate says whether SQ may make a new file. That must be the same file
// for everybody else, there must be room for two, and a power cut must leave the
// journal with what the phext holds. In memory nothing is gained for a batch,
// which SQ can have all at once if it truncates.
func (tx *transaction) canRecreate() bool {
	return (tx.onDisk || len(tx.calls) == 1) && tx.before.Phext.Exists() && !tx.tight && !tx.dir.Truncating() &&
		tx.pending.CheckpointDurable() && fsutil.CanBeRecreated(tx.file)
}

// recreate has SQ make a new file for each call, one after the other. SQ
// has all requests but for their last bytes before the old file goes: it has
// nothing left to do then but to write.
func (tx *transaction) recreate(ctx context.Context) error {
	conns, err := tx.dial(ctx)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	for i, call := range tx.calls {
		if err := conns[i].SendHeld(call.Outgoing()); err != nil {
			return err
		}
	}
	if err := tx.w.files.rename(tx.file, journal.BeforePath(tx.file)); err != nil {
		return tx.truncate(ctx)
	}
	tx.sent, tx.aside = true, true
	for i, c := range conns {
		if i > 0 { // nobody is owed the file between two mutations of a batch
			if err := tx.w.files.remove(tx.file); errors.Is(err, fs.ErrNotExist) {
				tx.truncateFromNowOn()
				return errNoFile
			} else if err != nil {
				return err
			}
		}
		if err := c.SendRest(); err != nil {
			return err
		}
		if _, err = c.Receive(nil); err != nil {
			return err
		}
	}
	return nil
}

// truncate has SQ write over the file. It gets all calls before the first
// answer is awaited, since it takes up the next while one answer is on the way.
// The last one is awaited first: it is most often answered last, and the others
// need no wait then. Whatever becomes of one, the answers to all that SQ may
// have seen are awaited, since nobody may stop a child that is writing.
func (tx *transaction) truncate(ctx context.Context) error {
	conns, err := tx.dial(ctx)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	sent := 0
	for i, call := range tx.calls {
		tx.sent = true
		if err = conns[i].Send(call.Outgoing()); err != nil {
			break
		}
		sent++
	}
	for i := sent - 1; i >= 0; i-- {
		if _, failed := conns[i].Receive(nil); err == nil {
			err = failed
		}
	}
	return err
}

// dial connects one exchange for each call, or none.
func (tx *transaction) dial(ctx context.Context) (conns []*sqclient.Conn, err error) {
	for range tx.calls {
		conn, err := tx.child.Dial(ctx)
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func closeAll(conns []*sqclient.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// verify looks whether the file is what it is to be. What SQ says is not believed.
func (tx *transaction) verify() error {
	id, same, err := tx.w.files.same(tx.file, tx.next, tx.pace)
	switch {
	case err != nil:
		return err
	case same:
		tx.written = id
		return nil
	case id.Exists():
		return errNotStored
	case tx.aside:
		tx.truncateFromNowOn()
	}
	return errNoFile
}

// truncateFromNowOn has SQ write over the files of the directory, since it did
// not make a new one: there may be no room for two files, say.
func (tx *transaction) truncateFromNowOn() {
	if tx.dir.TruncateFromNowOn() {
		tx.w.Logger.Warn("SQ did not make a file that was renamed for it: until sqgate is restarted, the files of this directory are rewritten in their place, which is slower",
			slog.String(logkey.DataDir, tx.dir.Path))
	}
}

func (tx *transaction) releaseChild(err error) {
	if tx.child != nil {
		tx.child.End(err)
		tx.child = nil
	}
}

// removeOldFile removes what was renamed aside. As long as it is there, recovery
// takes the write for one that was not acknowledged.
func (tx *transaction) removeOldFile() {
	if !tx.aside {
		return
	}
	if err := fsutil.IgnoreMissing(tx.w.files.remove(journal.BeforePath(tx.file))); err != nil {
		tx.log("the file of before a write could not be removed", err)
		tx.dir.MarkUnrecovered()
	}
}

// sameFile says whether the file at path is v, and which file it is.
func sameFile(links fsutil.Links) func(path string, v *cache.Version, pace phext.Pace) (fsutil.FileID, bool, error) {
	return func(path string, v *cache.Version, pace phext.Pace) (fsutil.FileID, bool, error) {
		f, id, err := links.Open(path)
		if err != nil {
			return fsutil.FileID{}, os.IsNotExist(err) && !v.Exists() && v.Size() == 0, fsutil.IgnoreMissing(err)
		}
		defer f.Close()
		if id.Size != v.Size() {
			return id, false, nil
		}
		same, err := v.Same(pace.Reader(f))
		return id, same, err
	}
}

// Free space below which a disk could be full in a moment: bytes, and sizes of
// the phext.
const (
	tightBytes = 256 << 20
	tightSizes = 4
)

// diskSpace is what the file system of a directory has.
type diskSpace struct {
	free     int64 // bytes
	inMemory bool
}

func diskSpaceOf(dir string) (diskSpace, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return diskSpace{}, err
	}
	return diskSpace{int64(fs.Bavail) * int64(fs.Bsize), fsutil.InMemory(&fs)}, nil
}

// reserveDiskSpace finds out what kind of disk it is. On a tight one, it reserves
// space for the present text before SQ truncates the file, so that the text can
// be put back. A write that frees space passes without that. A batch leaves the old file
// where it is until the new one is whole.
func (tx *transaction) reserveDiskSpace() error {
	size := tx.before.Phext.Size()
	if size == 0 || tx.isBatch() {
		return nil
	}
	space, err := tx.w.files.space(tx.at)
	if err != nil {
		return err
	}
	tx.onDisk = !space.inMemory
	tx.tight = space.free <= tightBytes+tightSizes*size
	if !tx.tight {
		return nil
	}
	if tx.target, err = tx.w.Dirs.Links.Target(tx.file); err != nil {
		return err
	}
	tx.diskSpace, err = fsutil.ReserveSpace(tx.target, size)
	if err != nil && tx.next.Size() <= size {
		return nil
	}
	return err // abort tells a full disk from others
}
