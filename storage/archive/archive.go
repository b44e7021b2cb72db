package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Store keeps the files of deleted tenants, each deletion a verified tar.gz of
// its own. Nothing in it overwrites or removes a finished archive. There must
// be one call at a time for a tenant, and nobody may write to its files
// meanwhile; a file that changes all the same is never removed.
type Store struct {
	dir   string                    // of the archives; created 0700 as needed
	now   func() time.Time          // names the archives
	step  func(name string)         // called between any two steps; nil = nothing
	fault func(io.Writer) io.Writer // stands before each file written; nil = nothing
}

// New makes a Store of the archives in dir. now names the archives.
func New(dir string, now func() time.Time) *Store { return &Store{dir: dir, now: now} }

// stored is a finished archive and, by name, the files proven to be in it.
type stored struct {
	path  string
	files map[string]archivedFile
}

// Create archives the files (base names of regular files directly in dataDir)
// of tenant id, and removes them when the archive is proven to hold them. The
// answer is the archive's path, also with the error of a removal.
//
// After an error or a kill at any moment the same call goes on: with the same
// archive, if it holds every file that is left. Without files, and with an
// archive from before, there is nothing left to do and that is the answer.
func (v *Store) Create(id, dataDir string, files []string) (archive string, err error) {
	files, err = v.prepare(id, files)
	if err != nil {
		return "", fmt.Errorf("archiving tenant %q: %w", id, err)
	}
	s, err := v.resume(id, dataDir, files)
	if err == nil && s == nil {
		s, err = v.archive(id, dataDir, files)
	}
	if err != nil {
		return "", fmt.Errorf("archiving tenant %q: %w", id, err)
	}
	if err := v.empty(id, dataDir, files, s); err != nil {
		return s.path, fmt.Errorf("removing the archived files of tenant %q: %w", id, err)
	}
	return s.path, nil
}

// prepare checks what is asked for, and clears what an interrupted call left.
func (v *Store) prepare(id string, files []string) ([]string, error) {
	if err := checkVaultID(id); err != nil {
		return nil, err
	}
	for _, name := range files {
		if !isBaseName(name) {
			return nil, fmt.Errorf("file %q: %w", name, errNotBase)
		}
	}
	if err := makeVaultDir(v.dir); err != nil {
		return nil, err
	}
	err := v.sweep(id)
	v.at("swept")
	return slices.Compact(slices.Sorted(slices.Values(files))), err
}

// resume is the archive of an interrupted call that holds all that is left of
// the files, nil if a new one is needed.
func (v *Store) resume(id, dataDir string, files []string) (*stored, error) {
	s, err := v.marked(id)
	switch {
	case err != nil:
		return nil, err
	case s == nil && len(files) == 0:
		return v.finished(id)
	case s == nil:
		return nil, nil
	}
	all, err := s.holds(dataDir, files)
	if err != nil || !all {
		return nil, err
	}
	return s, nil
}

// finished is what the last call left that ended well.
func (v *Store) finished(id string) (*stored, error) {
	path, err := v.latest(id)
	if err != nil || path == "" {
		return nil, err
	}
	return &stored{path: path}, nil
}

// holds says whether each file, unless it is gone, is in the archive as it is.
func (s *stored) holds(dataDir string, files []string) (bool, error) {
	for _, name := range files {
		want, ok := s.files[name]
		if !ok {
			return false, nil
		}
		got, err := measureFile(dataDir, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return false, err
		case !got.same(want):
			return false, nil
		}
	}
	return true, nil
}

// empty removes the archived files, and then the marker: in this order on the
// disk too, for the marker is what says that the removal is not finished.
func (v *Store) empty(id, dataDir string, files []string, s *stored) error {
	for _, name := range files {
		if err := s.remove(dataDir, name); err != nil {
			return err
		}
		v.at("removed")
	}
	if err := clearStaging(id, dataDir); err != nil {
		return err
	}
	v.at("emptied")
	return v.unmark(id)
}

// remove removes one file, if it is to this moment what the archive holds.
func (s *stored) remove(dataDir, name string) error {
	got, err := measureFile(dataDir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if want, ok := s.files[name]; !ok || !got.same(want) {
		return fmt.Errorf("file %q: %w", name, errChanged)
	}
	return os.Remove(filepath.Join(dataDir, name))
}

// latest is the path of the newest archive of tenant id, "" if there is none.
func (v *Store) latest(id string) (string, error) {
	if err := checkVaultID(id); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	// Sorted by name: for one tenant that is by time.
	for _, e := range slices.Backward(entries) {
		if _, ok := archiveTime(id, e.Name()); ok && e.Type().IsRegular() {
			return filepath.Join(v.dir, e.Name()), nil
		}
	}
	return "", nil
}

func (v *Store) at(step string) {
	if v.step != nil {
		v.step(step)
	}
}
