package datadir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// A volume that is not mounted looks like a directory without phexts: reads would
// be empty, and a write would make a second set of data underneath. So each
// directory that has phexts gets a mark in the state directory, with its identity.
// Later, such a directory must be there, or a missing file means nothing. A directory
// without phexts to which a tenant with phexts has moved gets a mark, too.

var errVolumeMissing = apierror.RetryIn(10*time.Second, apierror.Unavailable,
	"this tenant's data directory is not there, as if its disk were not mounted: nothing was changed; the operator's log says more")

// markPath is where a directory's mark is, or "" if there are no marks.
func (ds *Dirs) markPath(dir string) string {
	if ds.MarkDir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(ds.MarkDir, hex.EncodeToString(sum[:16]))
}

// Absence says why a data directory with a mark is not the one that has had phexts, as if its
// disk were not mounted, and where the mark is; "" = it is there, or has no mark. What is
// known of another tenant, which had the path before, does not count.
func (ds *Dirs) Absence(dataDir string) (reason, mark string, err error) {
	d := ds.Of(dataDir)
	m, err := d.readMark()
	if m == nil || err != nil {
		return "", d.mark, err
	}
	_, reason, err = d.absence(d.Path, m)
	return reason, d.mark, err
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

// MarkWritten marks the directory before a write of a phext in it is acknowledged. at is
// what Hold returned for the write. It looks each time whether the mark is there, since
// somebody may have removed the state directory. Reads do not look: with their rate, that
// would cost too much.
func (d *Dir) MarkWritten(at string) {
	if d.mark == "" {
		return
	}
	if _, err := os.Lstat(d.mark); errors.Is(err, fs.ErrNotExist) {
		d.marked.Store(false)
	}
	if d.marked.Load() || d.marked.Swap(true) {
		return
	}
	d.markOrWarn(at)
}

// markOrWarn marks the directory. If that fails, a missing volume is not told from an empty
// directory, no more.
func (d *Dir) markOrWarn(at string) {
	if err := d.writeMark(at); err != nil {
		d.dirs.Logger.Warn("a data directory could not be marked as seen", logkey.DataDir, d.Path, logkey.Error, err)
	}
}

func (d *Dir) writeMark(at string) error {
	id, err := d.dirs.identity(at)
	if err != nil {
		return err
	}
	return d.replaceMarks(d.marks(), id)
}

// replaceMarks writes an identity into the marks that say something else.
func (d *Dir) replaceMarks(marks []string, identity string) error {
	m := mark{identity: identity, path: d.Path}
	if known := d.dirs.Tenants(); known != nil {
		m.tenants = d.ownersAt(known).Tenants
	}
	text := m.text()
	stale := slices.DeleteFunc(marks, func(mark string) bool {
		now, err := fsutil.ReadFile(mark)
		return err == nil && string(now) == text
	})
	if len(stale) == 0 {
		return nil
	}
	// A power cut must not leave the mark without the directory: recovery would not
	// make that again. The parent may be one that sqgate must not read.
	_ = d.dirs.syncDir(filepath.Dir(d.Path))
	err := os.MkdirAll(d.dirs.MarkDir, 0o700)
	for _, mark := range stale {
		err = errors.Join(err, fsutil.Replace(mark, text, 0o600, true))
	}
	return err
}

// NoteMoved is called for tenants that have other data directories than before, or may have
// moved while sqgate was stopped. A power cut must not take back how a directory came to its path:
// the tenants file says already that it is there. And without its disk it must not be taken for one
// of a new tenant, also if nobody has asked for it yet.
func (ds *Dirs) NoteMoved(of []*tenants.Tenant) {
	synced, dirs := map[string]bool{}, map[string]string{}
	for _, t := range of {
		dirs[t.UniqueID()] = t.DataDir
		for _, path := range []string{t.DataDir, t.Configured} {
			if parent := filepath.Dir(path); !synced[parent] {
				synced[parent] = ds.syncDir(parent) == nil
			}
			if !synced[filepath.Dir(path)] { // sqgate may have no right to read it
				_ = ds.syncDir(path) // which is on the disk with its name then, if it is there
			}
		}
	}
	moved, err := ds.Journal.HaveMoved(dirs)
	if err != nil {
		return // whoever asks for a directory is told
	}
	for tenant, dir := range dirs {
		if moved[tenant] {
			ds.Of(dir).markUnasked()
		}
	}
}

// markUnasked marks a directory for which nobody has asked since its tenants came to it.
func (d *Dir) markUnasked() {
	if d.mark == "" {
		return
	}
	at, letGo, err := d.Hold()
	if err != nil {
		return // it is logged
	}
	defer letGo()
	if here, err := phextsIn(at); err == nil && len(here) > 0 {
		d.markOrWarn(at)
		return
	}
	if err := d.expect(d.ownersAt(d.dirs.Tenants())); err != nil {
		d.dirs.Logger.Warn("whether a tenant has brought its phexts to its data directory cannot be told", logkey.DataDir, d.Path, logkey.Error, err)
	}
}

// expect marks a directory without phexts to which a tenant with phexts has come: they are on a
// disk that is not mounted, or nobody has moved them. If somebody removes the mark, the tenant
// begins without them.
func (d *Dir) expect(owners journal.Owners) error {
	if d.mark == "" || d.dirs.TakeOver != nil || owners.Shared || len(owners.Tenants) != 1 {
		return nil // from a bucket, they come by themselves
	}
	tenant := owners.Tenants[0]
	if last := d.expected.Load(); last != nil && *last == tenant {
		return nil
	}
	here, err := phextsIn(d.Path)
	if err = fsutil.IgnoreMissing(err); err == nil && len(here) == 0 {
		err = d.expectFromElsewhere(tenant)
	}
	if err == nil {
		d.expected.Store(&tenant)
	}
	return err
}

func (d *Dir) expectFromElsewhere(tenant string) error {
	if m, err := d.readMark(); m != nil || err != nil {
		return err
	}
	if j, err := d.dirs.JournalOf(d); err != nil || j.IsNoted(journal.Owners{Tenants: []string{tenant}}) {
		return err
	}
	left, err := d.dirs.Journal.NotedElsewhere(tenant, d.Path)
	for _, path := range left {
		j, e := d.dirs.Journal.Of(path)
		var phexts []string
		if e == nil {
			phexts, e = j.PeekPhexts()
		}
		if len(phexts) > 0 {
			return errors.Join(err, e, d.replaceMarks([]string{d.mark}, toCome))
		}
		err = errors.Join(err, e)
	}
	return err
}

// marks are that of the directory, and those of the paths that lead to it through links: without
// the disk that has such a link, the path would be one of a directory that nobody has seen.
func (d *Dir) marks() []string {
	all := []string{d.mark}
	if known := d.dirs.Tenants(); known != nil {
		for _, t := range known.At(d.Path) {
			if t.Configured != d.Path {
				all = append(all, d.dirs.markPath(t.Configured))
			}
		}
	}
	return all
}

// Forget removes the mark of a directory that was emptied on purpose, unless it has phexts of
// others.
func (d *Dir) Forget() error {
	if d.mark == "" {
		return nil
	}
	if here, err := phextsIn(d.Path); len(here) > 0 || fsutil.IgnoreMissing(err) != nil {
		return err
	}
	return d.forgetMark()
}

// forgetOthersMark removes a mark that says nothing of those who have the directory now.
func (d *Dir) forgetOthersMark() error {
	m, err := d.readMark()
	if err == nil && (m == nil || len(m.tenants) == 0) {
		return d.forgetMark()
	}
	d.marked.Store(false)
	d.lastHere.Store(nil)
	return err
}

// forgetMark removes the mark, which says nothing of this directory any more.
func (d *Dir) forgetMark() error {
	d.marked.Store(false)
	d.lastHere.Store(nil)
	if d.mark == "" {
		return nil
	}
	for _, mark := range d.marks() {
		if err := fsutil.IgnoreMissing(os.Remove(mark)); err != nil {
			return err
		}
	}
	return nil
}

// Hold opens the directory for whoever has it locked and changes its files. at is a path
// that leads to it until release is called, even if its disk is unmounted meanwhile: what
// is written there never goes to the mount point below. While there is no directory, and
// never was, at is Path. The error is that of CheckPresent.
func (d *Dir) Hold() (at string, release func(), err error) {
	at, release, err = fsutil.HoldDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		at, release, err = d.Path, nothing, nil
	}
	if err == nil {
		if err = d.CheckIs(at); err == nil {
			return at, release, nil
		}
		release()
	}
	return "", nothing, d.noAccess(err)
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

// CheckPresent is asked when a file is missing, and before all files are taken
// together: it is an error if the directory was seen with phexts and is gone, or if
// an empty one is in its place.
func (d *Dir) CheckPresent() error {
	return d.CheckIs(d.Path)
}

// CheckIs is CheckPresent for what at leads to: Path, or the directory that was opened
// there. It is also an error if that is another one's.
func (d *Dir) CheckIs(at string) error {
	if err := d.checkOwn(at); err != nil {
		return err
	}
	if d.mark == "" {
		return nil
	}
	if last := d.lastHere.Load(); last != nil {
		if id, err := d.dirs.identity(at); err == nil && id == *last {
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
		if id != m.identity || !d.concerns(m) {
			d.markOrWarn(at) // it was moved, and what it was may be another's now
		}
		d.lastHere.Store(&id)
		d.missing.Store(false)
		return nil
	}
	if !d.missing.Swap(true) {
		d.dirs.Logger.Error("a data directory is missing; nothing of it is served until it is back. If it is gone for good, make an empty one and remove the mark. If this is all that there is of it, remove the mark",
			slog.String(logkey.DataDir, d.Path), slog.String("reason", reason), slog.String("mark", d.mark))
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

// mark is what a mark says.
type mark struct {
	identity string   // of the directory; toCome = there was none with phexts yet
	path     string   // of the directory, without links; "" = an earlier version has not noted it
	tenants  []string // who had it, by UniqueID; nil = an earlier version has not noted it
	written  time.Time
}

// toCome is in place of the identity of a directory whose tenant's phexts have not come yet.
const toCome = "to come"

func (m *mark) text() string {
	return strings.Join([]string{m.identity, m.path, strings.Join(m.tenants, " ")}, "\n") + "\n"
}

// parseMark reads what text has made. Earlier versions wrote fewer lines.
func parseMark(text []byte) *mark {
	lines := append(strings.Split(string(text), "\n"), "", "")
	return &mark{identity: lines[0], path: lines[1], tenants: strings.Fields(lines[2])}
}

// readMark is nil if there is no mark, or if those who have the directory now cannot miss what it is
// about.
func (d *Dir) readMark() (*mark, error) {
	if d.mark == "" {
		return nil, nil
	}
	text, err := fsutil.ReadFile(d.mark)
	if err != nil {
		return nil, fsutil.IgnoreMissing(err)
	}
	m := parseMark(text)
	if info, err := os.Lstat(d.mark); err == nil {
		m.written = info.ModTime()
	}
	known := d.dirs.Tenants()
	if m.path == "" || known == nil {
		return m, nil
	}
	if theirs, err := d.isTheirs(m, known); err != nil || !theirs {
		return nil, err
	}
	return m, nil
}

// isTheirs says whether those who have the directory now may be those whose phexts were seen: the
// same, or one that was only given another id. The path may be new to them, where the ones before
// have other directories now, or where they themselves were added later.
func (d *Dir) isTheirs(m *mark, known *tenants.Snapshot) (bool, error) {
	j, err := d.dirs.Journal.Of(m.path)
	if err != nil {
		return false, err
	}
	owners := d.ownersAt(known)
	switch left, err := j.IsLeft(owners); {
	case err != nil:
		return false, err
	case len(m.tenants) == 0 && !left:
		return j.IsOf(owners)
	case len(m.tenants) > 0 && d.concerns(m):
		return true, nil
	case left:
		return false, nil
	}
	isKnown, now := map[string]bool{}, known.At(d.Path)
	for _, t := range known.All() {
		isKnown[t.UniqueID()] = true
	}
	return slices.ContainsFunc(m.tenants, func(t string) bool { return !isKnown[t] }) &&
		(len(now) == 0 || slices.ContainsFunc(now, func(t *tenants.Tenant) bool { return !t.Incarnation.After(m.written) })), nil
}

// concerns says whether any of those who have the directory now had it when the mark was written, as
// far as it says who did.
func (d *Dir) concerns(m *mark) bool {
	known := d.dirs.Tenants()
	if known == nil || len(m.tenants) == 0 {
		return true
	}
	return slices.ContainsFunc(d.ownersAt(known).Tenants, func(t string) bool { return slices.Contains(m.tenants, t) })
}

// knownPhexts are the names of the files that the journal knows.
func (d *Dir) knownPhexts() ([]string, error) {
	j, err := d.dirs.JournalOf(d)
	if err != nil {
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
	was, known := m.identity, d.knownPhexts
	if was == toCome || !d.concerns(m) {
		known = func() ([]string, error) { return nil, nil } // what the journal knows is not theirs
	}
	id, err = d.dirs.identity(at)
	if err == nil && was != toCome {
		if id == was || fileSystemOf(id) == was {
			return id, "", nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		reason, err = "it does not exist", nil
	} else if err == nil {
		reason, err = lacks(at, known)
	}
	switch {
	case reason == "" || err != nil:
		return id, "", err // it was moved
	case was == toCome:
		return "", reason + ", and its tenant had phexts in the directory before", nil
	case id == "":
		return "", reason, nil
	case fileSystemOf(id) == fileSystemOf(was):
		return id, reason + ", and another directory than before, on the same file system", nil
	}
	return id, reason + ", and on another file system than before", nil
}

// lacks says what phexts a directory does not have; "" = it has most of them. What they hold
// is not looked at: after a power cut, it may be anything.
func lacks(path string, known func() ([]string, error)) (what string, err error) {
	here, err := phextsIn(path)
	if err != nil {
		return "", err
	}
	if len(here) == 0 {
		return "it is empty", nil
	}
	all, err := known()
	missing := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return here[name] })
	if len(missing) > len(all)/2 {
		return fmt.Sprintf("it lacks %d of %d phexts, such as %s", len(missing), len(all), missing[0]), err
	}
	return "", err
}

// phextsIn are the names of the phexts' files in a directory.
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
