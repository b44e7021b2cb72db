package datadir

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// A tenant that has had phexts has a mark, which says in which directory. It goes with the tenant from path to
// path. Those who share a directory have one together, which stays with the path.

// mark is what a mark says.
type mark struct {
	identity string   // of the directory; toCome = nobody has seen it
	path     string   // of the directory, without links; "" = an earlier version has not noted it
	tenants  []string // whose it is, by UniqueID; nil = an earlier version has not noted it
	kind     string   // ofTenant or ofPath; "" = an earlier version has written it
	at       []string // the paths where its tenants were last, also those that lead there through links
	written  time.Time
	file     string // where the mark is
}

const (
	ofTenant = "tenant"
	ofPath   = "path"
)

// toCome is in place of the identity of a directory of which only a journal knows.
const toCome = "to come"

func (m *mark) text() string {
	return strings.Join(append([]string{m.identity, m.path, strings.Join(m.tenants, " "), m.kind}, m.at...), "\n") + "\n"
}

// readMark reads what text has made. Earlier versions wrote fewer lines. It is nil if there is no mark.
func readMark(file string) (*mark, error) {
	var st unix.Stat_t
	if unix.Lstat(file, &st) == unix.ENOENT { // as often, and this takes no memory
		return nil, nil
	}
	text, err := fsutil.ReadFile(file)
	if err != nil {
		return nil, fsutil.IgnoreMissing(err)
	}
	lines := append(strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), "", "", "")
	at := slices.DeleteFunc(lines[4:], func(path string) bool { return path == "" })
	return &mark{lines[0], lines[1], strings.Fields(lines[2]), lines[3], at, time.Unix(st.Mtim.Unix()), file}, nil
}

// paths are where the tenants of a mark were last, as far as it says that.
func (m *mark) paths() []string {
	if len(m.at) == 0 {
		return []string{m.path}
	}
	return m.at
}

// readMark is the mark that counts for those who have the directory now, or nil.
func (d *Dir) readMark() (*mark, error) {
	if d.dirs.MarkDir == "" {
		return nil, nil
	}
	if file := d.markFiles()[0]; file != d.pathsMark {
		m, err := readMark(file)
		if err != nil || m != nil && (d.dirs.TakeOver == nil || m.path == d.Path) { // from a bucket, phexts come by themselves
			return m, err
		}
	}
	m, err := readMark(d.pathsMark)
	if m != nil && d.dirs.Tenants() != nil && m.path != "" {
		theirs, err := d.isTheirs(m)
		if theirs || err != nil {
			return m, err
		}
		m = nil
	}
	if m == nil && err == nil {
		m, err = d.markFromBefore()
	}
	return m, err
}

// isTheirs says whether the mark of the path is of some of those who have it now.
func (d *Dir) isTheirs(m *mark) (bool, error) {
	owners := d.ownersNow()
	j, err := d.dirs.JournalOf(d)
	switch {
	case err != nil:
		return false, err
	case len(m.tenants) == 0:
		return j.IsOf(owners)
	case slices.ContainsFunc(owners.Tenants, func(t string) bool { return slices.Contains(m.tenants, t) }):
		return true, nil
	case m.path == d.Path && j.IsNoted(owners) && d.hasEarlier(m): // they have come to share it since
		return true, nil
	}
	return d.haveOtherIDs(m), nil
}

// markFromBefore is the mark of one of those who share the directory, from when it was alone there, or of a tenant that
// had it, and whose id is gone. It takes a while where many share, so it looks once after each reload.
func (d *Dir) markFromBefore() (*mark, error) {
	known := d.dirs.Tenants()
	if known == nil || d.unmarkedIn.Load() == known {
		return nil, nil
	}
	owners := d.ownersAt(known)
	if alone(owners) == "" {
		for _, tenant := range owners.Tenants {
			if m, err := readMark(d.dirs.markPath(tenant)); err != nil || m != nil && slices.Contains(m.paths(), d.Path) {
				return m, err
			}
		}
	}
	paths := []string{d.Path}
	for _, t := range known.At(d.Path) {
		paths = append(paths, t.Configured)
	}
	index, err := d.dirs.markIndex()
	for _, path := range paths {
		for _, file := range index.at(path) {
			m, failed := readMark(file)
			if err = errors.Join(err, failed); m != nil && slices.Contains(m.paths(), path) && m.kind != ofPath && file != d.dirs.markPath(m.path) && d.haveOtherIDs(m) {
				return m, nil
			}
		}
	}
	if err == nil {
		d.unmarkedIn.Store(known)
	}
	return nil, err
}

// haveOtherIDs says whether those who have the directory now may be those of a mark, with other ids, which are gone.
func (d *Dir) haveOtherIDs(m *mark) bool {
	known := d.dirs.Tenants()
	return slices.ContainsFunc(m.tenants, func(t string) bool { return isGone(t, known) }) && (len(known.At(d.Path)) == 0 || d.hasEarlier(m))
}

// hasEarlier says whether somebody has the directory who was there when a mark was written.
func (d *Dir) hasEarlier(m *mark) bool {
	return slices.ContainsFunc(d.dirs.Tenants().At(d.Path), func(t *tenants.Tenant) bool { return !t.Incarnation.After(m.written) })
}

func isGone(tenant string, known *tenants.Snapshot) bool {
	_, exists := known.ByUniqueID(tenant)
	return !exists
}

// AssignMarks gives each tenant the mark that an earlier version has written for its path, or for the last one that it
// had. It is called at the start.
func (ds *Dirs) AssignMarks() error {
	known := ds.Tenants()
	of := map[*tenants.Tenant][]*mark{}
	err := ds.eachMark(func(m *mark) error {
		if m.kind == "" && len(m.tenants) == 1 && m.file == ds.markPath(m.path) {
			j, err := ds.Journal.Of(m.path)
			if t, ok := known.ByUniqueID(m.tenants[0]); err == nil && ok && !t.SharedDataDir && !j.WasShared() {
				of[t] = append(of[t], m)
			}
			return err
		}
		return nil
	})
	for t, marks := range of {
		last := marks[0]
		for _, m := range marks {
			if m.path == t.DataDir || last.path != t.DataDir && m.written.After(last.written) {
				last = m
			}
		}
		own := ds.markPath(t.UniqueID())
		if _, missing := os.Lstat(own); missing != nil {
			err = errors.Join(err, os.Rename(last.file, own))
		}
		for _, m := range marks {
			err = errors.Join(err, fsutil.IgnoreMissing(os.Remove(m.file)))
		}
	}
	return err
}

// alone is the tenant that has a directory for itself, by UniqueID; "" = there is none.
func alone(owners journal.Owners) string {
	if owners.Shared || len(owners.Tenants) != 1 {
		return ""
	}
	return owners.Tenants[0]
}

// markPath is where a mark is: that of a tenant, by UniqueID, or that of a path.
func (ds *Dirs) markPath(of string) string { return filepath.Join(ds.MarkDir, hashOf(of)) }

// markFiles are where the mark of those who have the directory now is, first of all. A directory that is shared has
// others for the paths that lead to it through links: without the disk that has such a link, the path would be one
// of a directory that nobody has seen.
func (d *Dir) markFiles() []string {
	known := d.dirs.Tenants()
	if m := d.marks.Load(); m != nil && m.in == known {
		return m.files
	}
	files := []string{d.pathsMark}
	if known != nil {
		if tenant := alone(d.ownersAt(known)); tenant != "" {
			files = []string{d.dirs.markPath(tenant)}
		} else {
			for _, t := range known.At(d.Path) {
				if t.Configured != d.Path {
					files = append(files, d.dirs.markPath(t.Configured))
				}
			}
		}
	}
	d.marks.Store(&marks{known, files})
	return files
}

// marks are what markFiles has found.
type marks struct {
	in    *tenants.Snapshot
	files []string
}

// MarkWritten marks the directory before a write of a phext in it is acknowledged. at is
// what Hold returned for the write. It looks each time whether the mark is there, since
// somebody may have removed the state directory. Reads do not look: with their rate, that
// would cost too much.
func (d *Dir) MarkWritten(at string) {
	d.changed.Store(changedAt(at))
	if d.dirs.MarkDir == "" {
		return
	}
	if id := d.lastHere.Load(); id != nil && !fsutil.TellsApart(*id) && !hasPhexts(at) { // all were deleted
		_ = d.forgetMark() // if it stays, the directory is taken for missing
		return
	}
	if _, err := os.Lstat(d.markFiles()[0]); errors.Is(err, fs.ErrNotExist) {
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
	before, _ := d.readMark() // one that cannot be read is put right
	err = d.replaceMarks(&mark{identity: id, path: d.Path})
	if err == nil && before != nil && !slices.Contains(d.markFiles(), before.file) && !d.isOfOthers(before) {
		err = fsutil.IgnoreMissing(os.Remove(before.file))
	}
	return err
}

// keepMark has the mark of a tenant whose directory is missing say where the tenant is, and with what id.
func (d *Dir) keepMark(m *mark) error {
	if alone(d.ownersNow()) == "" || m.path == "" || d.isOfOthers(m) {
		return nil
	}
	before := m.file
	err := d.replaceMarks(&mark{identity: m.identity, path: m.path})
	if m.file = d.markFiles()[0]; err == nil && before != m.file {
		err = os.Remove(before)
	}
	if err == nil {
		err = os.Chtimes(m.file, time.Time{}, m.written) // nobody has seen it since
	}
	return err
}

// forgetFormerID removes the mark of a tenant whose directory this is, as it says itself, and whose id is gone: it is
// here with another id, at whatever path it was.
func (d *Dir) forgetFormerID() error {
	known, of := d.dirs.Tenants(), journal.TenantAt(d.Path)
	if d.dirs.MarkDir == "" || of == "" || known == nil || !isGone(of, known) {
		return nil
	}
	m, err := readMark(d.dirs.markPath(of))
	if m == nil || err != nil {
		return err
	}
	if id, err := d.dirs.identity(d.Path); err != nil || !fsutil.IsIdentity(id, m.identity) {
		return err
	}
	if err := d.writeMark(d.Path); err != nil {
		return err
	}
	return fsutil.IgnoreMissing(os.Remove(m.file))
}

// isOfOthers says whether a mark is also of tenants that are not here.
func (d *Dir) isOfOthers(m *mark) bool {
	known := d.dirs.Tenants()
	here := d.ownersNow().Tenants
	return known != nil && slices.ContainsFunc(m.tenants, func(t string) bool { return !isGone(t, known) && !slices.Contains(here, t) })
}

// replaceMarks has the marks of those who have the directory now say something.
func (d *Dir) replaceMarks(m *mark) error {
	m.tenants, m.kind, m.at = d.ownersNow().Tenants, ofPath, []string{d.Path}
	if d.markFiles()[0] != d.pathsMark {
		m.kind = ofTenant
		m.at = append(m.at, d.dirs.Tenants().At(d.Path)[0].Configured)
	}
	text := m.text()
	stale := slices.DeleteFunc(slices.Clone(d.markFiles()), func(file string) bool {
		now, err := fsutil.ReadFile(file)
		return err == nil && string(now) == text
	})
	if len(stale) == 0 {
		return nil
	}
	// A power cut must not leave the mark without the directory: recovery would not
	// make that again. The parent may be one that sqgate must not read.
	_ = d.dirs.syncDir(filepath.Dir(d.Path))
	err := os.MkdirAll(d.dirs.MarkDir, 0o700)
	for _, file := range stale {
		err = errors.Join(err, fsutil.Replace(file, text, 0o600, true))
	}
	d.unmarkedIn.Store(nil)
	index, failed := d.dirs.markIndex()
	for _, file := range stale {
		index.add(m, file)
	}
	return errors.Join(err, failed)
}

// Forget removes the mark of a tenant whose phexts were removed on purpose, and, if there are none of others, that of the
// directory.
func (d *Dir) Forget(tenant string) error {
	if d.dirs.MarkDir == "" {
		return nil
	}
	if err := fsutil.IgnoreMissing(os.Remove(d.dirs.markPath(tenant))); err != nil {
		return err
	}
	if here, err := phextsIn(d.Path); len(here) > 0 || fsutil.IgnoreMissing(err) != nil {
		return err
	}
	return d.forgetMark()
}

// forgetMark removes what marks say of the directory to those who have it.
func (d *Dir) forgetMark() error {
	d.marked.Store(false)
	d.lastHere.Store(nil)
	if d.dirs.MarkDir == "" {
		return nil
	}
	for _, file := range d.markFiles() {
		if err := fsutil.IgnoreMissing(os.Remove(file)); err != nil {
			return err
		}
	}
	m, err := d.readMark() // an earlier version has written one for the path
	if m == nil || err != nil {
		return err
	}
	return fsutil.IgnoreMissing(os.Remove(m.file))
}

// forgetMarks removes the marks of which something holds.
func (ds *Dirs) forgetMarks(of func(*mark) bool) error {
	return ds.eachMark(func(m *mark) error {
		if !of(m) {
			return nil
		}
		return fsutil.IgnoreMissing(os.Remove(m.file))
	})
}

// eachMark has visit look at all marks, also at those of paths and tenants that are gone.
func (ds *Dirs) eachMark(visit func(*mark) error) error {
	if ds.MarkDir == "" {
		return nil
	}
	entries, err := os.ReadDir(ds.MarkDir)
	err = fsutil.IgnoreMissing(err)
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") { // such as purgedFile
			continue
		}
		if m, failed := readMark(filepath.Join(ds.MarkDir, e.Name())); m != nil && failed == nil {
			err = errors.Join(err, visit(m))
		}
	}
	return err
}

// markIndex says which files may have marks of tenants that were at a path.
type markIndex struct {
	mu     sync.Mutex
	byPath map[string]map[string]bool
}

// markIndex is made of what is there when it is asked for first.
func (ds *Dirs) markIndex() (*markIndex, error) {
	var err error
	ds.indexOnce.Do(func() {
		ds.index = &markIndex{byPath: map[string]map[string]bool{}}
		err = ds.eachMark(func(m *mark) error { ds.index.add(m, m.file); return nil })
	})
	return ds.index, err
}

func (x *markIndex) add(m *mark, file string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, path := range m.paths() {
		if x.byPath[path] == nil {
			x.byPath[path] = map[string]bool{}
		}
		x.byPath[path][file] = true
	}
}

func (x *markIndex) at(path string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Keys(x.byPath[path]))
}
