package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Restore puts the files of an archive back into dataDir and leaves the
// archive where it is. archive is a base name or what store or latest said;
// existing are the tenant's files there now, and own says whether a name may
// be this tenant's. The answer is how many files the archive has, all of which
// now stand in dataDir.
//
// After an error or a kill at any moment the same call goes on. A file that is
// not what the archive holds is never overwritten: errNotEmpty.
func (v *Store) Restore(id, archive, dataDir string, existing []string, own func(name string) bool) (restored int, err error) {
	m, err := v.restoreFrom(id, archive, dataDir, existing, own)
	if err != nil {
		return 0, fmt.Errorf("restoring tenant %q: %w", id, err)
	}
	return len(m.Files), nil
}

func (v *Store) restoreFrom(id, archive, dataDir string, existing []string, own func(string) bool) (m *manifest, err error) {
	f, err := v.open(id, archive)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if m, err = readArchive(f, id, nil); err != nil {
		return nil, err
	}
	there, err := m.admit(dataDir, existing, own)
	if err != nil {
		return nil, err
	}
	v.at("admitted")
	if err := v.bring(f, id, dataDir, there); err != nil {
		return nil, err
	}
	// Only now: until all is back, a marker's archive is the one to go on with.
	if err := v.unmark(id); err != nil {
		return nil, err
	}
	return m, v.sweep(id)
}

// admit says which of the files are in dataDir already, as an interrupted
// restore leaves them.
func (m *manifest) admit(dataDir string, existing []string, own func(string) bool) (map[string]bool, error) {
	for _, f := range m.Files {
		if !own(f.Name) {
			return nil, badArchive("holds %q, which cannot be a file of this tenant", f.Name)
		}
	}
	files, there := m.byName(), make(map[string]bool, len(existing))
	for _, name := range existing {
		if !isBaseName(name) {
			return nil, fmt.Errorf("file %q: %w", name, errNotBase)
		}
		want, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("file %q: %w", name, errNotEmpty)
		}
		if err := isAlready(dataDir, want); err != nil {
			return nil, err
		}
		there[name] = true
	}
	return there, nil
}

// isAlready is nil if the file in dataDir is the archived one.
func isAlready(dataDir string, want archivedFile) error {
	got, err := measureFile(dataDir, want.Name)
	if err != nil {
		return err
	}
	if !got.same(want) {
		return fmt.Errorf("file %q: %w", want.Name, errNotEmpty)
	}
	return nil
}

// bring extracts the files that are not there yet beside their places, on the
// same file system, and moves them when every one is whole and on the disk.
func (v *Store) bring(f *os.File, id, dataDir string, there map[string]bool) (err error) {
	staging := stagingDir(id, dataDir)
	if err := newStaging(staging, dataDir); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(staging))
		v.at("staging removed")
	}()
	v.at("staging")
	m, err := v.extract(f, id, staging, there)
	if err != nil {
		return err
	}
	v.at("all extracted")
	if err := v.placeAll(m, staging, dataDir, there); err != nil {
		return err
	}
	err = syncVaultDir(dataDir)
	v.at("all placed")
	return err
}

func newStaging(staging, dataDir string) error {
	if err := makeVaultDir(dataDir); err != nil {
		return err
	}
	if err := os.RemoveAll(staging); err != nil {
		return err
	}
	return os.Mkdir(staging, 0o700)
}

// extract reads the archive again, and proves it again: the first time was
// for leaving dataDir untouched if it is damaged.
func (v *Store) extract(f *os.File, id, staging string, there map[string]bool) (*manifest, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return readArchive(f, id, func(file archivedFile, r io.Reader) error {
		if there[file.Name] {
			return nil
		}
		err := v.extractFile(filepath.Join(staging, file.Name), file, r)
		v.at("extracted")
		return err
	})
}

func (v *Store) extractFile(path string, file archivedFile, r io.Reader) error {
	return v.create(path, func(f *os.File, w io.Writer) error {
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		if err := f.Chmod(file.mode); err != nil {
			return err
		}
		return os.Chtimes(path, file.MTime, file.MTime)
	})
}

func (v *Store) placeAll(m *manifest, staging, dataDir string, there map[string]bool) error {
	for _, file := range m.Files {
		if there[file.Name] {
			continue
		}
		if err := v.place(file, staging, dataDir); err != nil {
			return err
		}
		v.at("placed")
	}
	return nil
}

// place moves a file to its place by a link, which, unlike a rename, never
// takes another file's place.
func (v *Store) place(file archivedFile, staging, dataDir string) error {
	from := filepath.Join(staging, file.Name)
	err := os.Link(from, filepath.Join(dataDir, file.Name))
	if errors.Is(err, fs.ErrExist) {
		err = isAlready(dataDir, file)
	}
	if err != nil {
		return err
	}
	v.at("linked")
	return os.Remove(from)
}
