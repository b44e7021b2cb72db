package datadir

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
)

// View is a phext and the names of its coordinates, as they stood at one moment.
type View struct {
	Phext, Names *cache.Version
}

// MissingView is the view of a phext without a file.
func (ds *Dirs) MissingView() View { return View{ds.missing, ds.missing} }

// File is a phext's file as readers may see it now. A file that is not fit to
// be read or given to SQ is an error that names the reason.
func (ds *Dirs) File(path string) (*cache.Version, error) {
	v, err := ds.Cache.Read(path)
	return v, ds.unfitFor(err)
}

// NewestFile is File for whoever has the directory locked to change it: readers may not
// see that version yet.
func (ds *Dirs) NewestFile(path string) (*cache.Version, error) {
	v, err := ds.Cache.ReadNewest(path)
	return v, ds.unfitFor(err)
}

// Identify looks at a phext's file, and does not read it. Errors are as those of
// File; no file is the zero FileID.
func (ds *Dirs) Identify(path string) (fsutil.FileID, error) {
	id, err := ds.Links.Identify(path)
	return id, ds.unfitFor(err)
}

// unfitFor makes the errors of files that are not fit those that callers are told of.
func (ds *Dirs) unfitFor(err error) error {
	if errors.Is(err, cache.ErrNoMemory) {
		return ErrBusy
	}
	for _, reason := range []error{cache.ErrNotText, cache.ErrTooLarge, cache.ErrTooManyScrolls, fsutil.ErrLink, fsutil.ErrHardLink, fsutil.ErrMount, fsutil.ErrNotRegular} {
		if errors.Is(err, reason) {
			return Unfit(reason.Error())
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		ds.Logger.Error("a phext may not be opened", slog.Any(logkey.Error, err))
		return errNoAccess
	}
	return err
}

// Unfit is a phext's file that is not given to SQ: how says what is wrong with it.
func Unfit(how string) error {
	return apierror.New(apierror.BackendFailed,
		"the file of this phext %s, so it was not given to SQ and nothing was changed: the operator can put it right", how)
}

// attempts is how often a view is tried while its names, or the directory's
// state, change.
const attempts = 100

// View reads a phext and its names. A name is never looked up in one state and
// its scroll in another, since the coordinate may have become another's.
func (d *Dir) View(call *rewrite.Call) (View, error) { return d.view(call, d.dirs.File) }

// NewestView is View for whoever has the directory locked to change it: readers may not
// see those versions yet.
func (d *Dir) NewestView(call *rewrite.Call) (View, error) {
	v, err := d.view(call, d.dirs.NewestFile)
	if err == nil && d.isUnopened(call) {
		return View{}, ErrNotRecovered
	}
	return v, err
}

func (d *Dir) view(call *rewrite.Call, read func(path string) (*cache.Version, error)) (v View, err error) {
	path, namesPath := call.FilePath(d.Path), filepath.Join(d.Path, call.NamesFileName())
	if v.Names, err = read(namesPath); err != nil {
		return v, err
	}
	done, err := d.Use(View{Names: v.Names}) // while the phext is waited for, the cache may let go of them
	if err != nil {
		return v, err
	}
	defer done()
	for range attempts {
		if v.Phext, err = d.readPhext(path, read); err != nil {
			return v, err
		}
		again, err := read(namesPath)
		if err != nil {
			return v, err
		}
		if again == v.Names || again.ID == v.Names.ID {
			return v, nil
		}
		v.Names = again
	}
	return v, ErrBusy
}

// RecoveredView is a view of files that were recovered when it was taken: a
// write that failed meanwhile leaves files that nobody may see. Names are read
// only for a call that uses or shows them. Scrolls that the caller may not know of are
// not in it.
func (d *Dir) RecoveredView(ctx context.Context, call *rewrite.Call) (View, error) {
	for range attempts {
		failures := d.failures.Load()
		if err := d.recoverFor(ctx, call); err != nil {
			return View{}, err
		}
		r := d.replica.Load()
		v, err := d.viewFor(call)
		if err == nil && d.isUnopened(call) {
			err = ErrNotRecovered
		}
		if err == nil && !call.ShowsAll() {
			v, err = d.restrict(ctx, v, call)
		}
		if d.failures.Load() == failures && d.owned() && d.replica.Load() == r {
			return v, err
		}
	}
	return View{}, ErrNotRecovered
}

func (d *Dir) viewFor(call *rewrite.Call) (v View, err error) {
	if call.NeedsNames() {
		return d.View(call)
	}
	v.Names = d.dirs.missing
	v.Phext, err = d.readPhext(call.FilePath(d.Path), d.dirs.File)
	return v, err
}

// readPhext reads a phext's file. If it is missing, the directory must have been there if it was seen with
// phexts, and not only before or afterwards. It marks a directory with phexts, once for each process.
func (d *Dir) readPhext(path string, read func(path string) (*cache.Version, error)) (*cache.Version, error) {
	for range attempts {
		v, err := read(path)
		if err != nil {
			return nil, err
		}
		if v.Exists() {
			d.markSeen()
			return v, nil
		}
		if missing, err := d.isMissing(path); err != nil || missing || d.dirs.Cache.IsFrozen(path) {
			return v, err
		}
	}
	return nil, ErrBusy
}

// isMissing says whether there is no file in the directory, which is there. Another directory may have been at its
// path for a moment, when the file was not found.
func (d *Dir) isMissing(path string) (bool, error) {
	at, letGo, err := d.Hold()
	if err != nil {
		return false, err
	}
	defer letGo()
	id, err := d.dirs.Links.Identify(filepath.Join(at, filepath.Base(path)))
	if err != nil || id.Exists() {
		return false, d.dirs.unfitFor(fsutil.Named(err, at, d.Path))
	}
	return true, d.checkSeen(at, filepath.Base(path), id)
}

// checkSeen is an error if a file is as it was before it was seen last. The directory is recovered then.
func (d *Dir) checkSeen(at, file string, id fsutil.FileID) error {
	j, err := d.dirs.JournalOf(d)
	if err == nil && d.recovered.Load() && j.WentBack(at, file, id) {
		d.MarkUnrecovered()
		return ErrNotRecovered
	}
	return err
}

// markSeen marks a directory that has phexts.
func (d *Dir) markSeen() {
	if d.dirs.MarkDir == "" || d.marked.Load() && !d.missing.Load() {
		return
	}
	at, letGo, err := d.Hold()
	if err == nil {
		d.MarkWritten(at)
	}
	letGo()
}

// Resolve finds the coordinates that a reading call gives by name.
func (v View) Resolve(call *rewrite.Call) error {
	if call.Name != "" {
		at, ok := v.Names.Find(call.Name, call.Pace)
		if ok {
			_, ok = v.Phext.Phext.Select(at)
		}
		if !ok {
			return ErrNoName(call.Name)
		}
		call.Resolve(at)
	}
	v.resolveManifest(call)
	return nil
}

// perName is what looking for a name counts as, in bytes of work.
const perName = 128

// resolveManifest leaves a name that stands for nothing as it is: there is no
// coordinate at which it could be reported missing.
func (v View) resolveManifest(call *rewrite.Call) {
	for i := range call.Manifest {
		line := &call.Manifest[i]
		call.Pace.Did(perName)
		if line.Name == "" {
			continue
		}
		if at, ok := v.Names.Find(line.Name, call.Pace); ok {
			line.At, line.Name = at, ""
		}
	}
}

// StateOf is a version of a file as the journal has it. The text of a large one is not
// made, but written where it is wanted.
func StateOf(v *cache.Version) journal.State {
	if v.Size() > journal.Small {
		return journal.State{Source: v, Exists: v.Exists()}
	}
	return journal.State{Text: v.Text(), Exists: v.Exists()}
}

// RecordEdit journals the present state of a file, unless it is the one that
// the journal knows: somebody else has changed the file, and that is to be part
// of its history.
func RecordEdit(j *journal.Journal, file string, now *cache.Version) error {
	return recordEdit(j, file, func() journal.State { return StateOf(now) }, now.ID)
}

// RecordEditOf is RecordEdit for a state of the file that was not read into memory.
func RecordEditOf(j *journal.Journal, file string, now journal.State, id fsutil.FileID) error {
	return recordEdit(j, file, func() journal.State { return now }, id)
}

func recordEdit(j *journal.Journal, file string, now func() journal.State, id fsutil.FileID) error {
	last, known := j.LastSeen(file)
	switch {
	case !known:
		return j.NoteIdentity(file, id)
	case last == id:
		return nil
	}
	return j.RecordEdit(file, now(), id)
}

// SizeOf is the size of a version's file in bytes, or -1 if there is none.
func SizeOf(v *cache.Version) int64 {
	if !v.Exists() {
		return -1
	}
	return v.Size()
}

// Phexts are the names of the phexts of a call's tenant that its caller may know of,
// sorted, without those that hold the names of coordinates.
func (d *Dir) Phexts(ctx context.Context, call *rewrite.Call) ([]string, error) {
	for range attempts {
		failures := d.failures.Load()
		if err := d.Recover(ctx); err != nil {
			return nil, err
		}
		names, err := d.phexts(call)
		if d.failures.Load() == failures { // else it was found out meanwhile that some may be missing
			return names, err
		}
	}
	return nil, ErrNotRecovered
}

func (d *Dir) phexts(call *rewrite.Call) ([]string, error) {
	fetching, coming := d.fetching(), []string(nil)
	if fetching != nil {
		coming = fetching.coming(call) // before the directory is read: a phext that comes in between is in both
	}
	at, letGo, err := d.Hold()
	if err != nil {
		return nil, err
	}
	defer letGo()
	entries, err := os.ReadDir(at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fsutil.Named(err, at, d.Path)
	}
	var names []string
	for _, e := range entries {
		file := e.Name()
		if before, ok := journal.FileBefore(file); ok { // it is being written
			file = before
		}
		name, ok := call.PhextOf(file)
		if !ok || strings.HasSuffix(name, rewrite.NamesSuffix) {
			continue
		}
		if _, err := d.dirs.Links.Identify(filepath.Join(at, e.Name())); errors.Is(err, fsutil.ErrLink) || errors.Is(err, fsutil.ErrNotRegular) {
			continue
		}
		names = append(names, name)
	}
	if fetching != nil {
		names = append(fetching.kept(names, call), coming...)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !call.ShowsPhext(name) })
	slices.Sort(names)
	return slices.Compact(names), nil
}
