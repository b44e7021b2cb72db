package datadir

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/tenants"
)

// mark is what a mark says.
type mark struct {
	identity string   // of the directory; toCome = there was none with phexts yet
	path     string   // of the directory, without links; "" = an earlier version has not noted it
	tenants  []string // who had it, by UniqueID; nil = an earlier version has not noted it
	written  time.Time
	beside   bool // it is in memory, since a mark of others has its place
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
	if m := d.toCome.Load(); m != nil && !d.isForgotten(m) {
		return m, nil
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

// isForgotten says whether somebody has removed the mark of others beside which another one was noted.
func (d *Dir) isForgotten(m *mark) bool {
	if m.beside {
		if _, err := os.Lstat(d.mark); errors.Is(err, fs.ErrNotExist) {
			d.toCome.Store(nil)
			return true
		}
	}
	return false
}

// isOfOthers says whether the mark is about other tenants than one, which are elsewhere now, and may come back.
func (d *Dir) isOfOthers(tenant string) bool {
	known, of := d.dirs.Tenants(), d.markedFor()
	return known != nil && !slices.Contains(of, tenant) && slices.ContainsFunc(of, func(t string) bool { _, ok := known.ByUniqueID(t); return ok })
}

// markedFor are the tenants that the mark is about, whoever has the directory now.
func (d *Dir) markedFor() []string {
	if d.mark == "" {
		return nil
	}
	text, err := fsutil.ReadFile(d.mark)
	if err != nil {
		return nil
	}
	return parseMark(text).tenants
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
	case len(m.tenants) > 0 && d.concerns(m), m.path == d.Path && j.IsNoted(owners) && len(owners.Tenants) > 0: // or have shared it since
		return true, nil
	case left:
		return false, nil
	}
	isGone := func(t string) bool { _, ok := known.ByUniqueID(t); return !ok }
	now := known.At(d.Path)
	if !slices.ContainsFunc(m.tenants, isGone) || len(now) > 0 && !slices.ContainsFunc(now, func(t *tenants.Tenant) bool { return !t.Incarnation.After(m.written) }) {
		return false, nil
	}
	if m.identity == toCome {
		return true, nil
	}
	moved := false // with another id
	err = d.dirs.eachMark(func(_ string, other *mark) error {
		same := fsutil.IsIdentity(other.identity, m.identity) || fsutil.IsIdentity(m.identity, other.identity)
		moved = moved || same && other.path != m.path
		return nil
	})
	return err == nil && !moved, err
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

// markPath is where a directory's mark is, or "" if there are no marks.
func (ds *Dirs) markPath(dir string) string {
	if ds.MarkDir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(ds.MarkDir, hex.EncodeToString(sum[:16]))
}

// MarkWritten marks the directory before a write of a phext in it is acknowledged. at is
// what Hold returned for the write. It looks each time whether the mark is there, since
// somebody may have removed the state directory. Reads do not look: with their rate, that
// would cost too much.
func (d *Dir) MarkWritten(at string) {
	d.changed.Store(changedAt(at))
	if d.mark == "" {
		return
	}
	if id := d.lastHere.Load(); id != nil && !fsutil.TellsApart(*id) && !hasPhexts(at) { // all were deleted
		_ = d.forgetMark() // if it stays, the directory is taken for missing
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
// directory, no more, until Run has marked it.
func (d *Dir) markOrWarn(at string) {
	if err := d.writeMark(at); err != nil && !d.unmarked.Swap(true) {
		d.dirs.Logger.Warn("a data directory could not be marked as seen", logkey.DataDir, d.Path, logkey.Error, err)
	}
}

// markAgain marks the directory if that has failed, and there are phexts in it.
func (d *Dir) markAgain() {
	if !d.unmarked.Load() {
		return
	}
	at, letGo, err := d.Hold()
	if err != nil {
		return // it is logged
	}
	defer letGo()
	if hasPhexts(at) && d.writeMark(at) == nil {
		d.unmarked.Store(false)
	}
}

func (d *Dir) writeMark(at string) error {
	id, err := d.dirs.identity(at)
	if err != nil {
		return err
	}
	if err := d.replaceMarks(d.marks(), id); err != nil {
		return err
	}
	d.toCome.Store(nil)
	return nil
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
	d.toCome.Store(nil)
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

// forgetMarks removes the marks of which something holds.
func (ds *Dirs) forgetMarks(of func(*mark) bool) error {
	return ds.eachMark(func(path string, m *mark) error {
		if !of(m) {
			return nil
		}
		return fsutil.IgnoreMissing(os.Remove(path))
	})
}

// eachMark has visit look at all marks, also at those of paths that nobody has any more.
func (ds *Dirs) eachMark(visit func(path string, m *mark) error) error {
	if ds.MarkDir == "" {
		return nil
	}
	entries, err := os.ReadDir(ds.MarkDir)
	err = fsutil.IgnoreMissing(err)
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") { // such as purgedFile
			continue
		}
		path := filepath.Join(ds.MarkDir, e.Name())
		if text, failed := fsutil.ReadFile(path); failed == nil {
			err = errors.Join(err, visit(path, parseMark(text)))
		}
	}
	return err
}
