package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Report is what Recover found and did.
type Report struct {
	Checked     int      // files that were looked at
	Healed      int      // files that were torn, outdated or missing and were repaired
	Completed   int      // pending mutations that the files hold now
	Kept        int      // edits by somebody else that were kept
	Dropped     int64    // bytes of the journal that could not be read
	Quarantined []string // paths of what was quarantined
}

// Recover makes the files of the data_dir what the journal says, after a crash
// of SQ or of sqgate or after a power cut. No SQ may run on the data_dir, and
// nobody else may change the data_dir or the journal meanwhile.
//
// Recover goes on after a file that it cannot recover; the error names all such
// files. It is a NoRoomError if only room on a disk is missing. It may be called again
// at any time: it continues where a call that was interrupted ended.
func (j *Journal) Recover(ctx context.Context) (Report, error) { return j.RecoverAt(ctx, j.dataDir) }

// RecoverAt is Recover where the path at leads to the data_dir, which the caller holds open.
func (j *Journal) RecoverAt(ctx context.Context, at string) (report Report, err error) {
	defer func() { err = fsutil.Named(err, at, j.dataDir) }()
	c := j.claimed()
	if c != nil && c.idle {
		return report, nil // it is not known whose the files are
	}
	if err := c.look(at); err != nil {
		return report, err
	}
	var opened Report
	if err := j.recoverUnopened(ctx, at, j, c, &opened); err != nil {
		return opened, j.orNoRoom(err, nil)
	}
	report, err = j.recoverBy(ctx, at, c)
	report.Healed, report.Quarantined = report.Healed+opened.Healed, append(opened.Quarantined, report.Quarantined...)
	if err != nil {
		return report, err
	}
	if err := j.renumber(at); err != nil {
		return report, err
	}
	if err = j.afterRecovery(); err == nil {
		err = j.SettleClaim(at)
	}
	if err == nil {
		j.mu.Lock()
		j.recovered, j.cleanStop, j.inDoubt = true, false, false
		j.mu.Unlock()
	}
	return report, j.orNoRoom(err, map[string]int64{})
}

// recoverBy recovers the files by what a claim says of them.
func (j *Journal) recoverBy(ctx context.Context, at string, c *claim) (report Report, err error) {
	v, err := j.view(true)
	if err != nil {
		return report, j.orNoRoom(err, nil)
	}
	defer v.close()
	if c != nil {
		c.inDoubt = j.isInDoubt()
	}
	j.setRecovering(true)
	defer j.setRecovering(false)
	report, err = v.recoverAll(ctx, at, c)
	report.Dropped, report.Quarantined = j.takeDamage(report.Quarantined)
	if err != nil {
		return report, fmt.Errorf("recovering %s: %w", j.shown(at, c), err)
	}
	return report, nil
}

// shown is the path for the log of the directory to which at leads: that of a copy is where it is now.
func (j *Journal) shown(at string, c *claim) string {
	if c != nil && c.elsewhere != nil {
		return fsutil.Resolve(at)
	}
	return j.dataDir
}

// isInDoubt says whether a crash may have damaged the files, and nobody has recovered them since.
func (j *Journal) isInDoubt() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.inDoubt
}

func (j *Journal) setRecovering(recovering bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.recovering = recovering
}

// RecoverCopy repairs what a crash has left of the files in a copy of the data_dir, to which the
// path at leads: somebody has moved them before they were recovered. It does nothing if none of
// them is there. What cannot be opened is left to by, the journal of the copy. Nobody else uses
// the journals meanwhile.
func (j *Journal) RecoverCopy(ctx context.Context, at string, by *Journal) error {
	note, err := j.cfg.noteOf(j.dir)
	if err != nil || note == nil {
		return err
	}
	if id := idAt(at); id != "" && id != note.ID { // it was written with another journal since
		return nil
	}
	if err := j.recoverUnopened(ctx, at, by, nil, &Report{}); err != nil {
		return err
	}
	if _, err := j.Phexts(); err != nil || !j.isInDoubt() { // it is open now
		return err
	}
	_, err = j.recoverBy(ctx, at, &claim{before: note, now: *note, replaced: true, copied: true, elsewhere: by})
	return errors.Join(err, j.Suspend())
}

// recoverAll recovers every file that the newest segment knows, and every file
// that was renamed aside.
func (v *view) recoverAll(ctx context.Context, at string, c *claim) (report Report, err error) {
	aside, err := v.j.renamedAside(at)
	if err != nil {
		return report, err
	}
	r := v.j.recovery(v, at, &report)
	r.path = v.j.shown(at, c)
	logs := map[string]*fileLog{}
	if c != nil && c.replaced && !c.copied {
		birth, err := fsutil.BirthOf(at)
		if c.copied = err == nil && c.inDoubt && !c.written && birth.After(r.bootTime); !c.copied {
			v.j.cfg.Logger.Warn("a data directory is another one than before, or was written with another journal since, such as while the state directory was away: what it has is kept as it is",
				"data_dir", v.j.dataDir)
		}
	}
	if c != nil && c.anew && c.ofOthers() == foreign && !c.before.Shared {
		r.segment = nil
	}
	if r.segment != nil {
		if logs, err = v.fileLogs(r.segment); err != nil {
			return report, err
		}
	}
	there := r.thoseLeft(c)
	if c != nil && c.elsewhere != nil {
		r.unopenedBy = c.elsewhere
		if !there[""] {
			return report, nil
		}
		if !v.j.saidMoved.Swap(true) { // each request tries again while it fails
			v.j.cfg.Logger.Warn("a data directory was moved before it was recovered: what is there is recovered with the journal of its former path",
				"data_dir", r.path, "before", v.j.dataDir)
		}
	}
	for file := range aside {
		if _, known := logs[file]; !known {
			logs[file] = nil // recovered without the journal
		}
	}
	if err := r.lookForLost(logs); err != nil { // before anything changes the directory
		return report, err
	}
	if err := v.j.removeTemporary(at); err != nil {
		return report, err
	}
	if c != nil && c.anew && c.ofOthers() == left {
		if err := r.askWhose(ctx, c, logs, aside, there); err != nil {
			return report, err
		}
		c.ids = false
	}
	logged, waiting, others := time.Now(), map[string]int64{}, false
	for i, file := range inOrder(logs) {
		if ctx.Err() != nil {
			return report, errors.Join(err, ctx.Err())
		}
		log := logs[file]
		r.needed, r.standing, r.isThere = 0, c.of(file), there[c.ownerBefore(file)]
		if r.standing == brought && !r.isThere { // it is another directory on purpose
			r.standing = returned
		}
		if r.standing == foreign {
			if !aside[file] {
				continue
			}
			log = nil
		}
		r.wasOthers = r.standing == foreign && c.wasOthers(file)
		failed := r.file(file, log, aside[file])
		if failed == nil {
			failed = r.writeAnew(file)
		}
		if r.standing == left && errors.Is(failed, ErrDamaged) { // it is not known what it held
			v.j.cfg.Logger.Error("a phext of others cannot be checked, because its checkpoint is damaged", "path", filepath.Join(r.path, file), "error", r.named(failed))
			failed = nil
		}
		if failed != nil {
			failed = r.named(failed)
			err = errors.Join(err, fmt.Errorf("%s: %w", file, failed))
			waiting[file], others = r.needed, others || !isFull(failed)
		}
		if time.Since(logged) > time.Second {
			logged = time.Now()
			v.j.cfg.Logger.Info("recovering", "data_dir", r.path, "files", i+1, "of", len(logs))
		}
	}
	for name := range r.unsynced { // those of others are left as they are, and are to be that after a power cut, too
		if c.of(name) == foreign {
			err = errors.Join(err, r.writeAnew(name))
		}
	}
	if others {
		return report, err
	}
	if c != nil && (c.anew || c.elsewhere != nil) {
		waiting = nil // nothing is read before the claim is settled
	}
	return report, v.j.orNoRoom(err, waiting)
}

// thoseLeft are the owners of whom a phext is as they have left it: in a copy, or unchanged since the boot. Others
// may have taken all that is missing away on purpose. It looks for the phexts of all segments: a power cut may have
// taken all that the newest one has. Without a cut, it took none, and nobody asks.
func (r *recovery) thoseLeft(c *claim) map[string]bool {
	there := map[string]bool{}
	if c == nil || !c.inDoubt || r.sameBoot && !c.copied {
		return there
	}
	for file, seen := range r.view.j.expected() {
		owner := c.ownerBefore(file)
		if there[owner] {
			continue
		}
		id, err := r.view.j.cfg.Links.Identify(filepath.Join(r.dataDir, file)) // its recovery reports an error
		there[owner] = err == nil && id.Exists() && (c.copied || isSame(id, seen) && id.Ctime < r.bootTime.UnixNano())
	}
	return there
}

// isSame says whether a file is one that was seen, as it was or damaged since, or a copy of it.
func isSame(now, seen fsutil.FileID) bool {
	return seen.Exists() && (now.Ctime <= seen.Ctime || now.Mtime == seen.Mtime || now.Ino == seen.Ino)
}

// expected are the files that are there as far as the journal knows, or may be, each as it was last seen.
func (j *Journal) expected() map[string]fsutil.FileID {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := map[string]fsutil.FileID{}
	for file, t := range j.files {
		if !t.known || t.lastSeen.Exists() || len(t.pending) > 0 {
			all[file] = t.lastSeen
		}
	}
	return all
}

// inOrder are the names of the files. First come those with mutations that have not ended,
// since these were before all that recovery finds out.
func inOrder(logs map[string]*fileLog) []string {
	hasEnded := func(file string) int {
		if log := logs[file]; log != nil && len(log.pending) > 0 {
			return 0
		}
		return 1
	}
	return slices.SortedFunc(maps.Keys(logs), func(a, b string) int {
		return cmp.Or(cmp.Compare(hasEnded(a), hasEnded(b)), strings.Compare(a, b))
	})
}

// recovery is one call of Recover.
type recovery struct {
	view           *view
	dataDir        string          // the path by which its files are used
	path           string          // that for the log
	segment        *segmentView    // nil if there is no journal
	sameBoot       bool            // the segment was begun in this run of the kernel
	bootTime       time.Time       // nobody has edited a phext before, in this run of the kernel
	now            time.Time       // nor after: it is now, with a margin
	unsynced       map[string]bool // see unsyncedFile
	wentBack       map[string]bool // files that nobody has changed since they were seen in another state: their disk was away
	cleanStop      bool            // the phexts were on the disk when it was stopped
	journalDamaged bool            // the journal has lost records that it once held
	recordsLost    bool            // the same, or a power cut has cut off its end
	report         *Report
	needed         int64                            // bytes that a repair of the present file takes on the disk
	standing       standing                         // of the present file
	unopenedBy     *Journal                         // keeps what could not be opened
	isThere        bool                             // its owner is among thoseLeft
	wasOthers      bool                             // claim.wasOthers of the present file
	replace        func(path string, s State) error // writeState, or a full disk in tests
}

func (j *Journal) recovery(v *view, at string, report *Report) *recovery {
	r := &recovery{view: v, dataDir: at, path: j.dataDir, report: report, unopenedBy: j, replace: j.writeState}
	if len(v.segments) > 0 {
		r.segment = v.segments[0]
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	unsynced, err := j.unsyncedLocked()
	if err != nil {
		j.cfg.Logger.Error("it is not known which phexts are not on the disk", "error", err)
	}
	r.unsynced = maps.Clone(unsynced)
	r.sameBoot = j.seg != nil && j.seg.boot == j.cfg.BootID
	r.cleanStop = j.cleanStop
	r.now = j.cfg.fileNow().Add(bootMargin)
	boot, err := j.cfg.bootTime()
	if err != nil { // New could find it out
		j.cfg.Logger.Error("a file that a power cut has damaged may pass for an edit", "error", err)
	}
	r.bootTime = boot.Add(bootMargin)
	// If there are records from after the boot, the clock is behind, as of a machine without a battery
	// for it, or the disks are in another machine, which was running already. Then only what has changed
	// since this process began was edited.
	if j.seg != nil && j.seg.latest > boot.UnixNano() {
		r.bootTime = time.Unix(0, max(j.seg.latest+int64(recordMargin), j.cfg.since.UnixNano()))
	}
	// After a power cut, rubbish at the end of a segment is normal. Without one
	// it means that records are missing, and so does a segment without a header.
	r.recordsLost = j.lostSegment || j.damaged > 0
	r.journalDamaged = j.lostSegment || r.sameBoot && j.damaged > 0
	return r
}

// takeDamage returns how many bytes of the journal itself were damaged, and the
// paths of their copies followed by others. It then forgets them.
func (j *Journal) takeDamage(others []string) (int64, []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, all := j.damaged, append(j.quarantinedPaths, others...)
	j.damaged, j.quarantinedPaths, j.lostSegment = 0, nil, false
	return n, all
}

// afterRecovery begins a segment for this run of the kernel, so that the next
// start need not read every file again. It makes durable what the process before
// this one wrote and may not have synced.
func (j *Journal) afterRecovery() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil || j.seg == nil {
		return err
	}
	if j.seg.goneFrom(j.dir) { // somebody has removed it, with what was pending
		for _, t := range j.files {
			t.pending, t.mustRollBack = nil, false
		}
		return j.rotateLocked()
	}
	if j.seg.boot != j.cfg.BootID {
		for _, t := range j.files {
			if t.segment == j.seg.number {
				return j.rotateLocked()
			}
		}
	}
	if err := j.syncCheckpointsLocked(); err != nil {
		return err
	}
	return j.syncLocked(false)
}

// syncCheckpointsLocked syncs the checkpoint files of the newest segment.
func (j *Journal) syncCheckpointsLocked() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, isSegment, ok := parseFileName(e.Name()); ok && !isSegment && n == j.seg.number {
			_, failed := syncFile(nil, filepath.Join(j.dir, e.Name()), j.cfg.Datasync)
			err = errors.Join(err, failed)
		}
	}
	return errors.Join(err, j.cfg.syncDir(j.dir))
}

// removeTemporary removes the unfinished files of fsutil.Replace.
func (j *Journal) removeTemporary(at string) error {
	for _, dir := range []string{at, j.dir, j.unopened()} {
		entries, err := os.ReadDir(dir)
		if fsutil.IgnoreMissing(err) != nil {
			return err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), fsutil.Temporary) || !e.Type().IsRegular() {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); fsutil.IgnoreMissing(err) != nil {
				return err
			}
		}
	}
	return nil
}
