package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// fileRecovery is the recovery of one phext's file.
type fileRecovery struct {
	*recovery
	name, path   string // path is that for the log
	place        string // the path by which it is used
	log          *fileLog
	found        State
	id           fsutil.FileID // of the file that was found
	before, want State         // before and after the pending mutations; equal if there are none
	batch        []Mutation    // the pending ones
}

// named is err with the paths that the operator knows.
func (r *recovery) named(err error) error { return fsutil.Named(err, r.dataDir, r.path) }

// file recovers one file. log is nil if the journal does not know the file;
// aside says whether one was left at BeforePath.
func (r *recovery) file(name string, log *fileLog, aside bool) error {
	r.report.Checked++
	f := &fileRecovery{recovery: r, name: name, path: filepath.Join(r.path, name), place: filepath.Join(r.dataDir, name), log: log}
	if r.wasOthers {
		return f.expelBefore()
	}
	var err error
	f.id, err = r.view.j.cfg.Links.Identify(f.place)
	if errors.Is(err, fsutil.ErrNotRegular) {
		return f.leaveUnfit(err)
	}
	if err != nil {
		return err
	}
	if log != nil && r.sameBoot && !r.unsynced[name] && !r.diskWasAway() && len(log.pending) == 0 && log.known && log.lastSeen == f.id {
		return f.removeBefore(aside)
	}
	f.found, err = OpenState(r.view.j.cfg.Links, f.place)
	if errors.Is(err, fs.ErrPermission) {
		return f.leaveUnfit(err)
	}
	if err != nil {
		return err
	}
	if log == nil {
		return f.unknownFile()
	}
	if !aside && f.wasTaken() {
		return nil
	}
	if err := f.replay(); err != nil {
		return f.checkpointDamaged(err, aside)
	}
	if f.standing == returned {
		return f.keepReturned(aside)
	}
	if aside {
		if done, err := f.resolveBefore(); done || err != nil {
			return err
		}
	}
	if len(log.pending) > 0 {
		return f.recoverPending()
	}
	return f.recoverIdle()
}

// wasTaken says whether the file is missing because those who had the directory have taken it with them. Only a
// power cut takes a file, and hardly ever all.
func (f *fileRecovery) wasTaken() bool {
	return f.standing == left && !f.found.Exists && !f.isThere
}

// replay finds out what the file should hold.
func (f *fileRecovery) replay() error {
	segment, err := f.view.file(f.segment)
	if err != nil {
		return err
	}
	s, err := f.view.replayFrom(segment, f.segment, f.log)
	if err == nil {
		f.before = s.state()
		f.want = f.before
	}
	if err == nil && len(f.log.pending) > 0 {
		f.batch, err = f.mutations(segment, f.log.pending)
		for _, m := range f.batch {
			s.apply(m)
		}
		f.want = s.state()
	}
	return errors.Join(err, segment.Close())
}

// checkpointDamaged is for a file of which nobody can say what it should hold.
// It keeps the file if SQ can read it, and returns cause if SQ cannot.
func (f *fileRecovery) checkpointDamaged(cause error, aside bool) error {
	if !errors.Is(cause, ErrDamaged) {
		return cause
	}
	if aside {
		if err := f.restoreWithoutJournal("its checkpoint is damaged", len(f.log.pending) > 0); err != nil {
			return err
		}
	}
	if !f.found.Exists || !f.found.isUTF8() {
		return cause
	}
	f.view.j.cfg.Logger.Error("a phext cannot be checked, because its checkpoint is damaged", "path", f.path, "error", f.named(cause))
	return f.keepEdit()
}

// recoverPending recovers a file with mutations of which nobody knows how far
// they came. It completes them, unless somebody else changed the file meanwhile.
func (f *fileRecovery) recoverPending() error {
	switch {
	case f.found.Equals(f.want):
		return f.complete(f.id)
	case f.found.Equals(f.before):
		return f.carryOut()
	case !f.found.isUTF8():
		return f.repair("not-utf8", true)
	case f.torn():
		return f.repair("torn", false)
	case f.holdsPartOfBatch():
		return f.completeBatch()
	case f.madeFromNothing():
		return f.repair("emptied", true)
	}
	if done, err := f.afterPowerCut(); done {
		return err
	}
	if err := f.recordEnd(record{kind: aborted}); err != nil {
		return err
	}
	return f.keepEdit()
}

// carryOut makes the pending mutations. If there is no room, it aborts them,
// unless they may have been acknowledged: after a power cut the record of their
// end may be missing.
func (f *fileRecovery) carryOut() error {
	err := f.put()
	if !f.mayBeLost() && isFull(err) {
		f.view.j.cfg.Logger.Warn("there is no room to complete a mutation; it is aborted", "path", f.path)
		return f.recordEnd(record{kind: aborted, id: f.id, idKnown: true})
	}
	if err != nil {
		return err
	}
	return f.completed()
}

// put writes what the file should hold.
func (f *fileRecovery) put() error {
	f.needed = f.want.Size()
	return f.replace(f.place, f.want)
}

// dropCopy removes what was quarantined of a file that is still in its place: each
// further attempt makes another copy.
func (f *fileRecovery) dropCopy(quarantined string) {
	if now, err := f.view.j.cfg.Links.Identify(f.place); quarantined == "" || err != nil || now != f.id {
		return
	}
	if err := os.Remove(quarantined); err == nil {
		f.report.Quarantined = f.report.Quarantined[:len(f.report.Quarantined)-1]
	}
}

// completed records that the file holds the pending mutations.
func (f *fileRecovery) completed() error {
	id, err := f.view.j.cfg.Links.Identify(f.place)
	if err != nil {
		return err
	}
	return f.complete(id)
}

func (f *fileRecovery) complete(id fsutil.FileID) error {
	if err := f.recordEnd(record{kind: done, id: id, idKnown: true}); err != nil {
		return err
	}
	f.report.Completed += len(f.batch)
	return nil
}

// keepReturned takes the file for what its owner made of it where this journal did not see
// it. What was pending here is not made any more.
func (f *fileRecovery) keepReturned(aside bool) error {
	if aside {
		if err := f.restoreWithoutJournal("the file may have been changed elsewhere", false); err != nil {
			return err
		}
	}
	same := f.found.Equals(f.want)
	switch {
	case same && len(f.log.pending) > 0:
		return f.complete(f.id)
	case same:
		return f.record(record{kind: seen, id: f.id, idKnown: true})
	case !f.found.isUTF8():
		return f.repair("not-utf8", true)
	case !f.sameBoot && hasNewHoles(f.found, f.want): // whoever has written it
		return f.repair("torn", true)
	}
	if err := f.recordEnd(record{kind: aborted}); err != nil {
		return err
	}
	return f.keepEdit()
}

// recoverIdle recovers a file without pending mutations that is not in the state
// in which it was last seen.
func (f *fileRecovery) recoverIdle() error {
	switch {
	case f.found.Equals(f.want):
		return f.record(record{kind: seen, id: f.id, idKnown: true})
	case !f.found.isUTF8():
		return f.repair("not-utf8", true)
	case f.log.mustRollBack:
		return f.repair("refused", false)
	case !f.mayBeLost(), f.cleanStop: // SQ was not writing, so it was somebody else
		return f.keepEdit()
	case f.torn():
		return f.repair("torn", false)
	}
	if done, err := f.afterPowerCut(); done {
		return err
	}
	return f.keepEdit()
}

// mayBeLost says whether a part of the file may not have reached its disk.
func (f *fileRecovery) mayBeLost() bool { return !f.sameBoot || f.unsynced[f.name] || f.diskWasAway() }

// afterPowerCut repairs what only a power cut leaves. done says whether it was that.
func (f *fileRecovery) afterPowerCut() (done bool, err error) {
	if !f.mayBeLost() {
		return false, nil
	}
	older, err := f.older()
	switch {
	case err != nil:
		return true, f.checkpointDamaged(err, false)
	case older:
		return true, f.repair("outdated", false)
	case hasNewHoles(f.found, f.want), !f.cleanStop && f.isUnedited():
		return true, f.repair("torn", true)
	}
	return false, nil
}

// isUnedited says whether nobody can have edited the file since SQ wrote it.
func (f *fileRecovery) isUnedited() bool {
	return !f.sameBoot && f.fromBeforeBoot() || f.wentBack[f.name]
}

// bootMargin is by how much the clock may have been behind when the kernel
// started, or may differ from that of a file server. Nobody edits a phext so soon after the start.
const bootMargin = 5 * time.Second

// recordMargin is for how long SQ may have written after the latest record that reached the
// disk.
const recordMargin = time.Minute

// fromBeforeBoot says whether the file was last changed before the kernel
// started. SQ may then have been writing it when the power was cut, without a
// record in the journal that reached the disk. The time is that of the last
// change of the file or its attributes: a copy that keeps the older time of its
// content is an edit of now, unless it came with all others. A time to come is from
// before the boot, too: the clock is behind, as of a machine without a battery for it.
func (f *fileRecovery) fromBeforeBoot() bool {
	changed := max(f.id.Mtime, f.id.Ctime)
	if f.standing == brought {
		changed = f.id.Mtime
	}
	return f.found.Exists && (changed < f.bootTime.UnixNano() || f.id.Ctime > f.now.UnixNano())
}

// repair quarantines the file and puts the right one in its place. If the file
// may hold something unique and cannot be quarantined, nothing happens.
func (f *fileRecovery) repair(reason string, unique bool) error {
	quarantined, err := f.quarantineFound(reason)
	if err != nil && unique {
		return err
	}
	if err != nil {
		f.view.j.cfg.Logger.Error("a torn file could not be quarantined", "path", f.path, "error", f.named(err))
	}
	if err := f.put(); err != nil {
		f.dropCopy(quarantined)
		return err
	}
	f.view.j.cfg.Logger.Warn("a phext was damaged and is repaired", "path", f.path, "reason", reason, "quarantine", quarantined)
	f.report.Healed++
	if len(f.log.pending) > 0 {
		return f.completed()
	}
	id, err := f.view.j.cfg.Links.Identify(f.place)
	if err != nil {
		return err
	}
	return f.record(record{kind: seen, id: id, idKnown: true})
}

func (f *fileRecovery) quarantineFound(reason string) (string, error) {
	if !f.found.Exists {
		return "", nil
	}
	return f.quarantine(reason, f.found)
}

// quarantine keeps a copy of s and returns its path.
func (f *fileRecovery) quarantine(reason string, s State) (string, error) {
	path, err := f.view.j.quarantine(copied{s}, reason, f.name)
	if err == nil {
		f.report.Quarantined = append(f.report.Quarantined, path)
	}
	return path, err
}

// keepEdit takes the file for what somebody else made of it.
func (f *fileRecovery) keepEdit() error {
	f.view.j.cfg.Logger.Warn("a phext was changed by somebody else and is kept", "path", f.path, "bytes", f.found.Size())
	f.report.Kept++
	j := f.view.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	return j.recordEditLocked(f.name, f.found, f.id)
}

// writeState makes the file at path what state says. That is durable with Off, too: a later
// power cut is to take the last writes, and not the phext. A power cut may have taken the
// data_dir itself, which is then made again. If its parent is not there either, a disk is
// missing.
func (j *Journal) writeState(path string, state State) error {
	if state.Exists {
		dir := filepath.Dir(path)
		if _, err := os.Stat(filepath.Dir(dir)); err != nil {
			return err
		}
		if err := j.MakeDataDir(dir); err != nil {
			return err
		}
		path, err := j.cfg.Links.Target(path)
		if err != nil {
			return err
		}
		if err := roomFor(path, state.Size()); err != nil {
			return err
		}
		return j.cfg.replace(path, state, fsutil.NewFileMode, true)
	}
	if err := os.Remove(path); fsutil.IgnoreMissing(err) != nil {
		return err
	}
	return j.syncNames(filepath.Dir(path))
}

// syncNames makes renames and removals in dir durable, unless the policy is Off.
func (j *Journal) syncNames(dir string) error {
	if j.cfg.Sync == Off {
		return nil
	}
	return j.cfg.syncDir(dir)
}

// record notes what was before this start, or does not say when it was: its time is right after
// the latest record.
func (f *fileRecovery) record(all ...record) error {
	j := f.view.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	for i := range all {
		j.lastTime++
		all[i].time, all[i].m.File = j.lastTime, f.name
	}
	return j.appendLocked(all...)
}

// recordEnd records the end of all pending mutations, if there are any.
func (f *fileRecovery) recordEnd(r record) error {
	if len(f.log.pending) == 0 {
		return nil
	}
	all := make([]record, len(f.log.pending))
	for i, p := range f.log.pending {
		all[i], all[i].seq = r, p.seq
		if p.count > 0 {
			all[i].kind, all[i].ended, all[i].count = endedAll, r.kind, p.count
		}
	}
	return f.record(all...)
}
