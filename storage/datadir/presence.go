package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/journal"
)

// A volume that is not mounted looks like a directory without phexts: reads would
// be empty, and a write would make a second set of data underneath. So whoever has
// phexts gets a mark in the state directory, with the identity of the directory that has
// them. Later, that or one with most of them must be there, or a missing file means nothing.

var errVolumeMissing = apierror.RetryIn(10*time.Second, apierror.Unavailable,
	"this tenant's data directory is not there, as if its disk were not mounted: nothing was changed; the operator's log says more")

// Absence says why a data directory with a mark is not the one that has had phexts, as if its
// disk were not mounted, and where the mark is; "" = it is there, or has no mark. What is
// known of another tenant, which had the path before, does not count.
func (ds *Dirs) Absence(dataDir string) (reason, mark string, err error) {
	d := ds.Of(dataDir)
	m, err := d.readMark()
	if m == nil || err != nil {
		return "", "", err
	}
	_, reason, err = d.absence(d.Path, m)
	return reason, m.file, err
}

// Replaces is where the file at a path is to be replaced. If it lies behind a link, the child
// is stopped: it may open only those files there that it found when it was started.
func (d *Dir) Replaces(path string) (target string, err error) {
	target, err = d.dirs.Links.Target(path)
	if err != nil || target == path {
		return target, err
	}
	return target, d.StopChild("a file behind a link is replaced")
}

// stopTimeout is how long the end of a child is awaited.
const stopTimeout = 2 * time.Minute

// StopChild returns when no SQ writes to the directory any more. A request that ends does not
// end the wait.
func (d *Dir) StopChild(reason string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return d.dirs.StopChild(ctx, d.Path, reason)
}

// Hold opens the directory for whoever has it locked and changes its files. at is a path
// that leads to it until release is called, even if its disk is unmounted meanwhile: what
// is written there never goes to the mount point below. While there is no directory, and
// never was, at is Path. The error is that of CheckPresent.
func (d *Dir) Hold() (at string, release func(), err error) {
	at, release, err = fsutil.HoldDir(d.Path)
	opened := at
	if errors.Is(err, fs.ErrNotExist) {
		at, opened, release, err = d.Path, "", nothing, nil
	}
	if err == nil {
		if err = d.CheckIs(opened); err == nil && d.hasGoneBack(at) {
			d.MarkUnrecovered()
			err = ErrNotRecovered
		}
		if err == nil {
			return at, release, nil
		}
		release()
	}
	return "", nothing, d.noAccess(err)
}

// hasGoneBack says whether the directory is as it was before the last write: its disk was away, and has lost what it had
// not written. Then phexts may be missing, and the next change would hide that.
func (d *Dir) hasGoneBack(at string) bool {
	before := d.changed.Load()
	return before != 0 && d.recovered.Load() && changedAt(at) < before
}

// changedAt is when a directory was changed last, in ns since 1970; 0 = it is not known.
func changedAt(at string) int64 {
	var st unix.Stat_t
	if unix.Stat(at, &st) != nil {
		return 0
	}
	return st.Ctim.Nano()
}

// Holds is an error if Path does not lead to what Hold has opened as at: what was read
// since then may be another directory's.
func (d *Dir) Holds(at string) error {
	var here, held unix.Stat_t
	if at == d.Path || unix.Stat(d.Path, &here) == nil && unix.Stat(at, &held) == nil && here.Dev == held.Dev && here.Ino == held.Ino {
		return nil
	}
	return errVolumeMissing
}

// forgetSeen forgets what was seen of the directory: those who have it now are others than before, or
// had another one meanwhile.
func (d *Dir) forgetSeen() {
	d.place.Store(nil)
	d.lastHere.Store(nil)
	d.marked.Store(false)
	d.expecting.Lock()
	defer d.expecting.Unlock()
	d.expected = ""
}

// CheckPresent is asked when a file is missing, and before all files are taken
// together: it is an error if the directory was seen with phexts and is gone, or if
// an empty one is in its place.
func (d *Dir) CheckPresent() error {
	_, letGo, err := d.Hold()
	letGo()
	return err
}

// CheckIs is CheckPresent for the directory that was opened as at; "" = there was none. It is
// also an error if that is another one's. What is at a path could be one directory when it is
// identified, and another one when it is looked for phexts.
func (d *Dir) CheckIs(at string) error {
	if err := d.checkOwn(at); err != nil {
		return err
	}
	if d.dirs.MarkDir == "" {
		return nil
	}
	if last := d.lastHere.Load(); last != nil {
		if id, err := d.dirs.identity(at); err == nil && id == *last && (fsutil.TellsApart(id) || hasPhexts(at)) {
			d.missing.Store(false)
			return nil
		}
	}
	m, err := d.readMark()
	if err != nil {
		return err
	}
	if m == nil {
		d.missing.Store(false)
		return nil
	}
	id, reason, err := d.absence(at, m)
	if err != nil {
		return d.noAccess(err)
	}
	if reason == "" {
		if id != m.identity || m.path != d.Path || m.file != d.markFiles()[0] {
			d.markOrWarn(at) // it was moved, or is another tenant's
		}
		d.lastHere.Store(&id)
		d.missing.Store(false)
		return nil
	}
	if err := d.keepMark(m); err != nil && !d.missing.Load() {
		d.dirs.Logger.Warn("where a tenant without its data directory is could not be noted; do not change its id or path meanwhile", logkey.DataDir, d.Path, logkey.Error, err)
	}
	if !d.missing.Swap(true) {
		d.dirs.Logger.Error("a data directory is missing; nothing of it is served until it is back. If it is gone for good, make an empty one and remove the mark. If this is all that there is of it, remove the mark while sqgate runs",
			slog.String(logkey.DataDir, d.Path), slog.String("reason", reason), slog.String("mark", m.file))
	}
	return errVolumeMissing
}

// noAccess is what callers are told where this user may not look.
func (d *Dir) noAccess(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if !d.missing.Swap(true) {
		d.dirs.Logger.Error("a data directory may not be opened; nothing of it is served. `sqgate check` says why",
			slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
	}
	return errNoAccess
}

// knownPhexts are the names of the files that those who have the directory now had, as far as a journal knows them:
// that of the path, or that of the one that a tenant had before.
func (d *Dir) knownPhexts() ([]string, error) {
	owners := d.ownersNow()
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return nil, err
	}
	if tenant := alone(owners); tenant != "" && !j.IsNoted(owners) {
		if _, names, err := d.phextsElsewhere(tenant); len(names) > 0 || err != nil {
			return names, err
		}
	}
	if theirs, err := j.IsOf(owners); !theirs {
		return nil, err
	}
	if d.dirs.onlyLooks {
		return j.PeekPhexts()
	}
	return j.Phexts()
}

// absence says why the directory that at leads to is not the one that was marked; "" = it is. One
// that was moved has most phexts that are known. Somebody may have removed some of them by hand.
func (d *Dir) absence(at string, m *mark) (id, reason string, err error) {
	id, err = d.dirs.identity(at)
	if err == nil && fsutil.IsIdentity(id, m.identity) && (fsutil.TellsApart(id) || hasPhexts(at)) && !(m.identity == id && journal.SaysNothing(at)) {
		return id, "", nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		reason, err = "it does not exist", nil
	} else if err == nil {
		reason, err = d.lacks(at, m)
	}
	switch {
	case reason == "" || err != nil:
		return id, "", err // it was moved
	case m.path != "" && m.path != d.Path:
		return "", reason + ", and its tenant had phexts in " + m.path, nil
	case m.identity == toCome:
		return "", reason + ", and its tenant had phexts in the directory before", nil
	case id == "":
		return "", reason, nil
	case fileSystemOf(id) == fileSystemOf(m.identity):
		return id, reason + ", and another directory than before, on the same file system", nil
	}
	return id, reason + ", and on another file system than before", nil
}

// hasPhexts says whether there is a phext in a directory.
func hasPhexts(at string) bool {
	here, err := phextsIn(at)
	return err == nil && len(here) > 0
}

// lacks says what the directory that at leads to does not have of what a mark is about; "" = it has most phexts that are known. What they hold
// is not looked at: after a power cut, it may be anything.
func (d *Dir) lacks(at string, m *mark) (what string, err error) {
	here, err := phextsIn(at)
	if err != nil {
		return "", err
	}
	if len(here) == 0 {
		return "it is empty", nil
	}
	all, err := d.knownPhexts()
	missing := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return here[name] })
	if len(missing) > len(all)/2 {
		return fmt.Sprintf("it lacks %d of %d phexts, such as %s", len(missing), len(all), missing[0]), err
	}
	if of := journal.TenantAt(at); len(all) == 0 && of != "" && !slices.Contains(slices.Concat(m.tenants, d.ownersNow().Tenants), of) {
		return "it was another tenant's last", err
	}
	return "", err
}

// phextsIn are the names of the phexts' files in a directory. One that a crash has left renamed aside is
// not: it says too little of whose directory it is.
func phextsIn(path string) (map[string]bool, error) {
	entries, err := os.ReadDir(path)
	here := map[string]bool{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), phext.Extension) {
			here[e.Name()] = true
		}
	}
	return here, err
}

// PhextFiles are the names of all that is a phext, or may become one: the phexts' files in a
// directory, the copies that SQ's json-export left beside them, and those that a crash has
// left renamed aside.
func PhextFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		_, aside := journal.FileBefore(e.Name())
		if (aside || strings.HasSuffix(strings.TrimSuffix(e.Name(), ".json"), phext.Extension)) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, fsutil.IgnoreMissing(err)
}

// fileSystemOf is the file system's part of a directory's identity.
func fileSystemOf(id string) string {
	fileSystem, _, _ := strings.Cut(id, "/")
	return fileSystem
}

// IsMissing says whether the directory was found to be missing, and not to be there since.
func (d *Dir) IsMissing() bool { return d.missing.Load() }

// Missing is how many directories are missing now.
func (ds *Dirs) Missing() (n int) {
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	for _, d := range ds.byPath {
		if d.missing.Load() {
			n++
		}
	}
	return n
}
