package journal

import (
	"os"
	"path/filepath"
	"strings"

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

// fileBefore is the name of the phext file that was renamed to name.
func fileBefore(name string) (file string, ok bool) {
	name, isBefore := strings.CutSuffix(name, beforeSuffix)
	file, isHidden := strings.CutPrefix(name, ".")
	return file, isBefore && isHidden && strings.HasSuffix(file, phext.Extension)
}

// renamedAside is the set of phext files that were left at their BeforePath. It
// leaves alone what is not a regular file there, and follows no symbolic link.
func (j *Journal) renamedAside() (map[string]bool, error) {
	entries, err := os.ReadDir(j.dataDir)
	if fsutil.IgnoreMissing(err) != nil {
		return nil, err
	}
	files := map[string]bool{}
	for _, e := range entries {
		file, ok := fileBefore(e.Name())
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
	old, err := readState(nil, BeforePath(f.path))
	if err != nil {
		return false, err
	}
	switch {
	case f.found == f.want, f.found == f.before:
		return false, f.removeBefore(true)
	case old == f.before, old == f.want:
		return false, f.putBack(old)
	case f.journalDamaged && isUTF8(old):
		return true, f.keepBefore(old)
	}
	return true, f.discardBefore(old)
}

// removeBefore removes the file that was renamed aside, if there is one.
func (f *fileRecovery) removeBefore(aside bool) error {
	if !aside {
		return nil
	}
	if err := os.Remove(BeforePath(f.path)); fsutil.IgnoreMissing(err) != nil {
		return err
	}
	return f.view.j.syncNames(f.view.j.dataDir)
}

// putBack renames the file that was renamed aside into its place. It quarantines
// what is there, unless that is a beginning of something known.
func (f *fileRecovery) putBack(old State) error {
	quarantined := ""
	var err error
	if f.found.Text != "" && f.found != old && !f.interrupted() {
		if quarantined, err = f.quarantineFound("interrupted"); err != nil {
			return err
		}
	}
	if err := os.Rename(BeforePath(f.path), f.path); err != nil {
		return err
	}
	if err := f.view.j.syncNames(f.view.j.dataDir); err != nil {
		return err
	}
	f.view.j.cfg.Logger.Warn("a write was interrupted; the file from before it is put back", "path", f.path, "quarantine", quarantined)
	f.report.Healed++
	f.found = old
	f.id, err = f.view.j.cfg.Links.Identify(f.path)
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

// restoreWithoutJournal puts back the file that was renamed aside where the
// journal cannot say what the file should hold. What is there may be torn.
func (f *fileRecovery) restoreWithoutJournal(reason string) error {
	old, err := readState(nil, BeforePath(f.path))
	if err != nil {
		return err
	}
	f.view.j.cfg.Logger.Error("a phext that was renamed aside cannot be checked; it is taken as it is", "path", f.path, "reason", reason)
	return f.putBack(old)
}
