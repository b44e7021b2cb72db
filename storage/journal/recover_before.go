package journal

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// The writer may rename a phext's file aside, so that SQ creates a new one
// instead of truncating the old one. It removes the old one before it
// acknowledges the mutation. If the old one is still there after a crash of
// processes, the mutation was not acknowledged, and the old file is the whole
// state that the last acknowledged mutation left.
//
// After a power cut that is not certain: the removal may not have reached the
// disk, and SQ never syncs what it writes. What the journal says counts then.

const beforeSuffix = ".before"

// BeforePath is where the writer keeps the file of a phext while SQ creates it
// again: for DIR/NAME.phext it is DIR/.NAME.phext.before. When Recover succeeds,
// no regular file is left there.
func BeforePath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+beforeSuffix)
}

// FileBefore is the name of the phext file that was renamed to name.
func FileBefore(name string) (file string, ok bool) {
	name, isBefore := strings.CutSuffix(name, beforeSuffix)
	file, isHidden := strings.CutPrefix(name, ".")
	return file, isBefore && isHidden && strings.HasSuffix(file, phext.Extension)
}

// renamedAside is the set of phext files that were left at their BeforePath. It
// leaves alone what is not a regular file there, and follows no symbolic link.
func (j *Journal) renamedAside(at string) (map[string]bool, error) {
	entries, err := os.ReadDir(at)
	if fsutil.IgnoreMissing(err) != nil {
		return nil, err
	}
	files := map[string]bool{}
	for _, e := range entries {
		file, ok := FileBefore(e.Name())
		if ok && !e.Type().IsRegular() {
			j.cfg.Logger.Error("something that is not a regular file has the name of a phext that was renamed aside; it is left alone",
				"path", filepath.Join(j.dataDir, e.Name()))
			continue
		}
		if ok {
			files[file] = true
		}
	}
	return files, nil
}

// resolveBefore decides between the file and the one that was renamed aside,
// which is gone afterwards. done says that the file is recovered.
func (f *fileRecovery) resolveBefore() (done bool, err error) {
	old, err := OpenState(nil, BeforePath(f.place))
	if err != nil { // the journal decides alone
		f.logUnreadable(err)
		return false, nil
	}
	lost := len(f.log.pending) == 0 && old.Equals(f.want) // the record of the write: the journal's disk was away
	switch {
	case f.found.Equals(f.want), f.found.Equals(f.before), f.writtenByHand() && !lost:
		return false, f.removeBefore(true)
	case old.Equals(f.before), old.Equals(f.want):
		return false, f.putBack(old)
	case f.journalDamaged && old.isUTF8():
		return true, f.keepBefore(old)
	}
	return true, f.discardBefore(old)
}

// writtenByHand says whether somebody has written the file since the crash: it is
// a text, and nothing that an interrupted write leaves. After a power cut nobody
// can tell that.
func (f *fileRecovery) writtenByHand() bool {
	return !f.mayBeLost() && !f.journalDamaged && f.found.Size() > 0 && f.found.isUTF8() && !f.interrupted() && !f.madeFromNothing()
}

func (f *fileRecovery) logUnreadable(err error) {
	f.view.j.cfg.Logger.Error("a phext that was renamed aside cannot be read; it is left alone", "path", BeforePath(f.path), "error", f.named(err))
}

// removeBefore removes the file that was renamed aside, if there is one.
func (f *fileRecovery) removeBefore(aside bool) error {
	if !aside {
		return nil
	}
	if err := os.Remove(BeforePath(f.place)); fsutil.IgnoreMissing(err) != nil {
		return err
	}
	return f.view.j.syncNames(f.dataDir)
}

// putBack renames the file that was renamed aside into its place. It quarantines
// what is there, unless that is a beginning of something known.
func (f *fileRecovery) putBack(old State) error {
	quarantined := ""
	var err error
	if f.found.Size() > 0 && !f.found.Equals(old) && !f.interrupted() {
		if quarantined, err = f.quarantineFound("interrupted"); err != nil {
			return err
		}
	}
	if err := os.Rename(BeforePath(f.place), f.place); err != nil {
		return err
	}
	if err := f.view.j.syncNames(f.dataDir); err != nil {
		return err
	}
	f.view.j.cfg.Logger.Warn("a write was interrupted; the file from before it is put back", "path", f.path, "quarantine", quarantined)
	f.report.Healed++
	if f.found, err = OpenState(f.view.j.cfg.Links, f.place); err != nil {
		return err
	}
	f.id, err = f.view.j.cfg.Links.Identify(f.place)
	return err
}

// interrupted says whether the file holds nothing that the journal does not
// know: it is what an interrupted write leaves.
func (f *fileRecovery) interrupted() bool {
	return f.log != nil && (f.torn() || f.holdsPartOfBatch())
}

// keepBefore puts the file back although the journal does not know its state:
// the record of that state is among those that the journal lost.
func (f *fileRecovery) keepBefore(old State) error {
	if err := f.putBack(old); err != nil {
		return err
	}
	if err := f.recordEnd(record{kind: aborted}); err != nil {
		return err
	}
	return f.keepEdit()
}

// discardBefore repairs the file from the journal and quarantines the one that
// was renamed aside: a power cut brought back an old one, or left it torn.
func (f *fileRecovery) discardBefore(old State) error {
	if _, err := f.quarantine("before", old); err != nil {
		return err
	}
	if err := f.repair("interrupted", true); err != nil {
		return err
	}
	return f.removeBefore(true)
}

// expelBefore puts the file that others had renamed aside into the quarantine: it must never
// become a phext of those who have the directory now.
func (f *fileRecovery) expelBefore() error {
	old, err := OpenState(nil, BeforePath(f.place))
	if err != nil {
		return err
	}
	quarantined, err := f.quarantine("before", old)
	if err != nil {
		return err
	}
	f.view.j.cfg.Logger.Warn("a phext that was another tenant's was renamed aside; it is quarantined", "path", BeforePath(f.path), "quarantine", quarantined)
	return f.removeBefore(true)
}

// longestWrite is longer than SQ takes for a write, since it hangs up before.
const longestWrite = time.Minute

// unknownFile decides for a file that the journal does not know. With a journal
// that is whole, the file that was renamed aside is an old one: a write that is
// under way is in the newest segment. Without one, what is there may be torn,
// unless it was written long after the other was renamed.
func (f *fileRecovery) unknownFile() error {
	torn := f.segment == nil || f.recordsLost || f.standing == foreign
	if renamed, err := f.view.j.cfg.Links.Identify(BeforePath(f.place)); err == nil && f.id.Mtime-renamed.Ctime > int64(longestWrite) {
		torn = false
	}
	return f.restoreWithoutJournal("the journal does not know the file", torn)
}

// restoreWithoutJournal chooses between the file and the one that was renamed
// aside where the journal cannot say what the file should hold. torn says that a
// write of the file may have been interrupted. A file that SQ cannot read never
// takes the place of one that it can. The other goes to quarantine.
func (f *fileRecovery) restoreWithoutJournal(reason string, torn bool) error {
	old, err := OpenState(nil, BeforePath(f.place))
	if err != nil {
		f.logUnreadable(err)
		return nil
	}
	f.view.j.cfg.Logger.Error("a phext that was renamed aside cannot be checked", "path", f.path, "reason", reason)
	fits := f.found.Size() > 0 && f.found.isUTF8()
	if !fits || torn && old.Size() > 0 && old.isUTF8() {
		return f.putBack(old)
	}
	if _, err := f.quarantine("before", old); err != nil {
		return err
	}
	return f.removeBefore(true)
}
