package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Create archives files of tenant id and removes them. The files are base names
// of regular files directly in dataDir. Create returns the path of the archive,
// also when only the removal failed.
//
// The order is: write the archive under a partial name, read it back, write the
// marker, give the archive its name, remove the files, call done, remove the marker.
// Each step is on the disk before the next begins. done gets the names of all files
// that are gone, and notes whatever else is to be known of that. Until it has, the
// deletion is not finished: see Deleting.
//
// After an error or a kill, call it again with the files that are left. It goes
// on with the same archive if that holds all of them, and makes another one if
// not. Called without files, it returns the newest archive, and makes an empty
// one only if there is none.
func (s *Store) Create(id, dataDir string, files []string, done func(files []string) error) (path string, err error) {
	files, err = s.prepare(id, files)
	if err != nil {
		return "", fmt.Errorf("archiving tenant %q: %w", id, err)
	}
	a, err := s.resume(id, dataDir, files)
	if err == nil && a == nil {
		a, err = s.create(id, dataDir, files)
	}
	if err != nil {
		return "", fmt.Errorf("archiving tenant %q: %w", id, err)
	}
	if err := s.removeFiles(id, dataDir, files, a); err != nil {
		return a.path, fmt.Errorf("removing the archived files of tenant %q: %w", id, err)
	}
	if err := done(slices.Sorted(maps.Keys(a.files))); err != nil {
		return a.path, err
	}
	s.reached("done")
	return a.path, s.removeMarker(id)
}

// Deleting is the archive of a Create for tenant id that is not finished, or "": of its
// files, all or some may be in that archive alone.
func (s *Store) Deleting(id string) (path string, err error) {
	if err := errors.Join(checkID(id), s.CheckPresent()); err != nil {
		return "", err
	}
	d, err := s.readDeletion(id)
	if d == nil || err != nil {
		return "", err
	}
	f, err := s.open(id, d.Archive)
	if errors.Is(err, errNoArchive) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("marker %s: %w", s.markerPath(id), err)
	}
	return f.Name(), f.Close()
}

// finished is an archive that has its name.
type finished struct {
	path  string
	files map[string]archivedFile // by name; proven to be in the archive
}

// prepare checks the arguments, removes what an interrupted call left, and
// returns the files sorted.
func (s *Store) prepare(id string, files []string) ([]string, error) {
	if err := errors.Join(checkID(id), s.CheckPresent()); err != nil {
		return nil, err
	}
	for _, name := range files {
		if !isBaseName(name) {
			return nil, fmt.Errorf("file %q: %w", name, errNotBase)
		}
	}
	if err := makeDir(s.dir); err != nil {
		return nil, err
	}
	err := s.removePartial(id)
	s.reached("prepared")
	return slices.Compact(slices.Sorted(slices.Values(files))), err
}

// resume returns the archive of an interrupted call if it holds all files that
// are left. It returns nil if a new archive is needed.
func (s *Store) resume(id, dataDir string, files []string) (*finished, error) {
	a, err := s.readMarker(id)
	switch {
	case err != nil:
		return nil, err
	case a == nil && len(files) == 0:
		path, err := s.Latest(id)
		if err != nil || path == "" {
			return nil, err
		}
		return &finished{path: path}, nil
	case a == nil:
		return nil, nil
	}
	if all, err := s.holds(a, dataDir, files); err != nil || !all {
		return nil, err
	}
	return a, nil
}

// holds says whether the archive has each of the files as it is now. A file
// that is gone does not count.
func (s *Store) holds(a *finished, dataDir string, files []string) (bool, error) {
	for _, name := range files {
		archived, ok := a.files[name]
		if !ok {
			return false, nil
		}
		now, err := s.measure(dataDir, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return false, err
		case !now.sameContent(archived):
			return false, nil
		}
	}
	return true, nil
}

// create makes a new archive, verifies it and writes the marker. If it fails
// before the archive has its name, all it may leave is a marker without an
// archive, which says that nothing was removed.
func (s *Store) create(id, dataDir string, files []string) (*finished, error) {
	created, err := s.nextTime(id)
	if err != nil {
		return nil, err
	}
	m := &manifest{Tenant: id, Created: created, Files: []archivedFile{}}
	for _, name := range files {
		f, err := s.measure(dataDir, name)
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, f)
	}
	s.reached("measured")
	path := filepath.Join(s.dir, archiveName(id, created))
	if err := s.publish(path, dataDir, m); err != nil {
		return nil, errors.Join(err, remove(path+partialSuffix))
	}
	return &finished{path: path, files: m.byName()}, nil
}

// nextTime is the time now, or just after the newest archive of the tenant if
// the clock stands still or goes back: no archive takes the name of another, and
// the newest by name is the last made.
func (s *Store) nextTime(id string) (time.Time, error) {
	now := s.now().UTC().Round(0)
	last, err := s.Latest(id)
	if err != nil || last == "" {
		return now, err
	}
	if t, _ := archiveTime(id, filepath.Base(last)); !now.After(t) {
		return t.Add(time.Nanosecond), nil
	}
	return now, nil
}

func (s *Store) publish(path, dataDir string, m *manifest) error {
	partial := path + partialSuffix
	if err := s.write(partial, dataDir, m); err != nil {
		return err
	}
	s.reached("written")
	if err := verify(partial, m); err != nil {
		return err
	}
	s.reached("verified")
	if err := s.writeMarker(m.Tenant, path); err != nil {
		return err
	}
	s.reached("marked")
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	s.reached("named")
	err := fsutil.SyncDir(s.dir)
	s.reached("published")
	return errors.Join(err, s.mark())
}

// verify reads back what was written. It must hold the files of the manifest,
// all of them and no other.
func verify(path string, want *manifest) error {
	f, _, err := openRegular(nil, path)
	if err != nil {
		return err
	}
	m, err := readArchive(f, want.Tenant, nil)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if !slices.Equal(m.names(), want.names()) {
		return damaged("it holds %d files and not the %d asked for", len(m.Files), len(want.Files))
	}
	return nil
}

// removeFiles removes the archived files. It returns when they are gone from the disk,
// because the marker, which goes later, says that the removal is unfinished.
func (s *Store) removeFiles(id, dataDir string, files []string, a *finished) error {
	for _, name := range files {
		if err := s.removeFile(a, dataDir, name); err != nil {
			return err
		}
		s.reached("removed")
	}
	// An interrupted restore may have left copies of archived files.
	if err := os.RemoveAll(stagingDir(id, dataDir)); err != nil {
		return err
	}
	// A tenant that never wrote has no data directory.
	if err := fsutil.IgnoreMissing(fsutil.SyncDir(dataDir)); err != nil {
		return err
	}
	s.reached("all removed")
	return nil
}

// removeFile removes a file if it still is what the archive holds.
func (s *Store) removeFile(a *finished, dataDir, name string) error {
	now, err := s.measure(dataDir, name)
	if err != nil {
		return fsutil.IgnoreMissing(err)
	}
	if archived, ok := a.files[name]; !ok || !now.sameContent(archived) {
		return fmt.Errorf("file %q: %w", name, errChanged)
	}
	return os.Remove(filepath.Join(dataDir, name))
}

// deletion is the text of the marker. It says that the files of a tenant are moved into
// this archive, or back from it: each may be in the archive alone, or in both places.
// Create writes it before the archive has its name: otherwise a finished archive could
// stand there that the next call does not know of, and would make again. If the
// archive of a marker does not exist, nothing was removed yet.
type deletion struct {
	Archive string `json:"archive"` // base name
}

func (s *Store) markerPath(id string) string { return filepath.Join(s.dir, id+markerSuffix) }

// writeMarker replaces an earlier marker, whose archive does not hold all files.
// The partial file has a name of this tenant, unlike one of fsutil.Replace, so
// that removePartial can tell it from those of tenants that are being archived
// at the same time.
func (s *Store) writeMarker(id, archive string) error {
	text, err := json.Marshal(deletion{Archive: filepath.Base(archive)})
	if err != nil {
		return err
	}
	partial := s.markerPath(id) + partialSuffix
	err = s.writeFile(partial, func(_ *os.File, w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	s.reached("marker written")
	if err == nil {
		err = os.Rename(partial, s.markerPath(id))
	}
	if err != nil {
		return errors.Join(err, remove(partial))
	}
	s.reached("marker in place")
	return fsutil.SyncDir(s.dir)
}

// readMarker returns the archive that the marker names, read to its end. It
// returns nil if there is no marker, or if the archive never got its name. A
// damaged archive is an error and no reason to make a new one: it may hold
// files that are gone.
func (s *Store) readMarker(id string) (*finished, error) {
	d, err := s.readDeletion(id)
	if d == nil || err != nil {
		return nil, err
	}
	a, err := s.readFinished(id, d.Archive)
	if errors.Is(err, errNoArchive) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("marker %s: %w", s.markerPath(id), err)
	}
	return a, nil
}

// readDeletion is what the marker says; nil = there is none. One that is damaged counts as
// that of the newest archive, as almost all are.
func (s *Store) readDeletion(id string) (*deletion, error) {
	f, _, err := openRegular(nil, s.markerPath(id))
	if err != nil {
		return nil, fsutil.IgnoreMissing(err)
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var d deletion
	if err := json.Unmarshal(text, &d); err == nil {
		if _, ok := archiveTime(id, d.Archive); ok {
			return &d, nil
		}
	}
	newest, err := s.Latest(id)
	if newest == "" || err != nil {
		return nil, err
	}
	return &deletion{Archive: filepath.Base(newest)}, nil
}

func (s *Store) readFinished(id, archive string) (*finished, error) {
	f, err := s.open(id, archive)
	if err != nil {
		return nil, err
	}
	m, err := readArchive(f, id, nil)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return &finished{path: f.Name(), files: m.byName()}, nil
}

func (s *Store) removeMarker(id string) error {
	if err := os.Remove(s.markerPath(id)); err != nil {
		return fsutil.IgnoreMissing(err)
	}
	s.reached("marker removed")
	return fsutil.SyncDir(s.dir)
}
