package journal

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// A phext that may not be opened after a crash, or in whose place lies a link that is not
// followed, cannot be compared with what it should hold. The other phexts do not wait for it, and
// the journal goes on. So what it should hold is kept in a file of its name in unopenedDir, until a
// recovery can open it.

const unopenedDir = "unopened"

func (j *Journal) unopened() string { return filepath.Join(j.dir, unopenedDir) }

// Unopened are the names of the files that could not be opened when they were to be recovered.
func (j *Journal) Unopened() (names []string, err error) {
	entries, err := os.ReadDir(j.unopened())
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), phext.Extension) { // else it is a temporary file
			names = append(names, e.Name())
		}
	}
	return names, fsutil.IgnoreMissing(err)
}

// IsUnfit says whether an error is that of a file that may not be opened, or is no phext's file.
func IsUnfit(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, fsutil.ErrNotRegular)
}

// leaveUnfit leaves alone what is no phext's file, such as a link that is not followed, and what
// may not be opened. Nothing reads or writes it until somebody puts that right. The other files
// of the directory are none the worse for it. What it should hold is kept if a crash may have
// damaged it. Its mutations have ended then: they may have been acknowledged.
func (f *fileRecovery) leaveUnfit(cause error) error {
	f.view.j.cfg.Logger.Error("something lies in the place of a phext that cannot be one, or may not be opened; it is left alone until it can be", "path", f.path, "error", f.named(cause))
	if f.log == nil {
		return nil
	}
	inDoubt := len(f.log.pending) > 0 || f.log.mustRollBack || !f.sameBoot && !f.cleanStop
	if f.standing == returned || !inDoubt {
		return f.recordEnd(record{kind: aborted})
	}
	err := f.replay()
	if errors.Is(err, ErrDamaged) { // nobody can say what it should hold
		return f.recordEnd(record{kind: aborted})
	}
	if err == nil && f.want.Exists {
		err = f.unopenedBy.keepUnopened(f.name, f.want)
	}
	if err != nil {
		return err
	}
	return f.recordEnd(record{kind: done})
}

func (j *Journal) keepUnopened(name string, want State) error {
	if err := j.makeUnopened(); err != nil {
		return err
	}
	return j.cfg.replace(filepath.Join(j.unopened(), name), want, 0o600, true)
}

func (j *Journal) makeUnopened() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.establishDir(false); err != nil {
		return err
	}
	return makeDir(j.unopened())
}

// setAsideOthers moves what is kept of files that are others' now, or were written elsewhere since, to the
// quarantine.
func (j *Journal) setAsideOthers(c *claim) error {
	names, err := j.Unopened()
	for _, name := range names {
		if !c.keeps(name) {
			err = errors.Join(err, j.setAside(name, &Report{}))
		}
	}
	return err
}

// setAside moves what is kept of one to the quarantine.
func (j *Journal) setAside(name string, report *Report) error {
	kept := filepath.Join(j.unopened(), name)
	state, err := OpenState(nil, kept)
	if err != nil {
		return err
	}
	quarantined, err := j.quarantine(copied{state}, unopenedDir, name)
	if err != nil {
		return err
	}
	report.Quarantined = append(report.Quarantined, quarantined)
	j.cfg.Logger.Warn("what was kept of a phext that could not be opened is not made any more: somebody has removed or changed it, or it is another tenant's", "path", filepath.Join(j.dataDir, name), "quarantine", quarantined)
	return errors.Join(os.Remove(kept), j.cfg.syncDir(j.unopened()))
}

// recoverUnopened recovers those that can be opened now, in the data_dir to which the path at
// leads, and which c is about. The others are left to the journal of that, if it is another one.
func (j *Journal) recoverUnopened(ctx context.Context, at string, by *Journal, c *claim, report *Report) (err error) {
	names, err := j.Unopened()
	r := j.recovery(&view{j: j}, at, report)
	for _, name := range names {
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if c.keeps(name) { // else setAsideOthers deals with it
			err = errors.Join(err, r.recoverUnopened(name, by))
		}
	}
	return err
}

// keeps says whether a file is still that of those of whom something was kept, and was not written
// elsewhere since. A copy in the place of the directory may be how it can be opened.
func (c *claim) keeps(file string) bool {
	if c == nil {
		return true
	}
	if c.anew {
		return false
	}
	now := *c
	now.replaced = c.written
	s := now.of(file)
	return s != foreign && s != returned
}

func (r *recovery) recoverUnopened(name string, by *Journal) (err error) {
	j := r.view.j
	f := &fileRecovery{recovery: r, name: name, path: filepath.Join(by.dataDir, name), place: filepath.Join(r.dataDir, name), log: &fileLog{}}
	kept := filepath.Join(j.unopened(), name)
	if f.id, err = j.cfg.Links.Identify(f.place); err == nil {
		f.found, err = OpenState(j.cfg.Links, f.place)
	}
	switch {
	case IsUnfit(err) && by != j:
		if err := by.makeUnopened(); err != nil {
			return err
		}
		err := os.Rename(kept, filepath.Join(by.unopened(), name))
		return errors.Join(err, j.cfg.syncDir(by.unopened()))
	case IsUnfit(err):
		j.cfg.Logger.Error("a phext that a crash may have damaged is not served, and not repaired, until it can be opened", "path", f.path, "error", r.named(err))
		return nil
	case err == nil && !f.found.Exists && by != j:
		return nil // it was not moved, or not yet
	case err != nil:
		return err
	case !f.found.Exists:
		return j.setAside(name, r.report)
	}
	if err := f.makeWanted(kept); err != nil {
		return err
	}
	return errors.Join(os.Remove(kept), j.cfg.syncDir(j.unopened()))
}

// makeWanted makes a file that can be opened now what it should hold. It may be torn, or be an
// older state, or a copy of one, and nobody can tell that from an edit.
func (f *fileRecovery) makeWanted(kept string) (err error) {
	if f.want, err = OpenState(nil, kept); err != nil {
		return err
	}
	if !f.found.Equals(f.want) {
		quarantined, err := f.quarantineFound("torn")
		if err == nil {
			err = f.put()
		}
		if err != nil {
			f.dropCopy(quarantined)
			return err
		}
		f.report.Healed++
		f.view.j.cfg.Logger.Warn("a phext that can be opened now is made what it should hold after a crash", "path", f.path, "quarantine", quarantined)
	}
	_, err = f.view.j.syncPhext(f.dataDir, f.name) // no journal has it any more
	return err
}
