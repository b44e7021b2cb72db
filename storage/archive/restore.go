package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Restore puts the files of an archive back into dataDir and keeps the archive.
// It returns how many files the archive has; all of them are in dataDir then.
//
//   - archive is a base name, or the path that Create returned.
//   - existing are the files of tenant id that are in dataDir now.
//   - own says whether a file name can belong to the tenant. An archive with
//     another name in it is refused.
//
// Nothing is changed in dataDir before the whole archive was read and found
// good, and no file is overwritten: one that is not what the archive holds is an
// error. After an error or a kill, the same call goes on.
func (s *Store) Restore(id, archive, dataDir string, existing []string, own func(name string) bool) (files int, err error) {
	m, err := s.restore(id, archive, dataDir, existing, own)
	if err != nil {
		return 0, fmt.Errorf("restoring tenant %q: %w", id, err)
	}
	return len(m.Files), nil
}

func (s *Store) restore(id, archive, dataDir string, existing []string, own func(string) bool) (m *manifest, err error) {
	f, err := s.open(id, archive)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if m, err = readArchive(f, id, nil); err != nil {
		return nil, err
	}
	restored, err := s.restored(m, dataDir, existing, own)
	if err != nil {
		return nil, err
	}
	s.reached("checked")
	if err := s.removePartial(id); err != nil {
		return nil, err
	}
	// Until all files are back, the next Create has to go on with this archive.
	if err := s.writeMarker(id, archive); err != nil {
		return nil, err
	}
	if err := s.bringBack(f, id, dataDir, restored); err != nil {
		return nil, err
	}
	return m, s.removeMarker(id)
}

// restored are the files of the archive that are in dataDir already, as an
// interrupted restore leaves them.
func (s *Store) restored(m *manifest, dataDir string, existing []string, own func(string) bool) (map[string]bool, error) {
	for _, f := range m.Files {
		if !own(f.Name) {
			return nil, badArchive("holds %q, which cannot be a file of this tenant", f.Name)
		}
	}
	files, restored := m.byName(), make(map[string]bool, len(existing))
	for _, name := range existing {
		if !isBaseName(name) {
			return nil, fmt.Errorf("file %q: %w", name, errNotBase)
		}
		archived, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("file %q: %w", name, errNotEmpty)
		}
		if err := s.checkSame(archived, dataDir); err != nil {
			return nil, err
		}
		restored[name] = true
	}
	return restored, nil
}

// checkSame is an error if the file of this name in dataDir has another content.
func (s *Store) checkSame(f archivedFile, dataDir string) error {
	now, err := s.measure(dataDir, f.Name)
	if err != nil {
		return err
	}
	if !now.sameContent(f) {
		return fmt.Errorf("file %q: %w", f.Name, errNotEmpty)
	}
	return nil
}

// stagingDir is where files are extracted to. It is in dataDir, because a file
// can be linked only within its file system, and hidden, because a tenant's
// files are all directly in dataDir.
func stagingDir(id, dataDir string) string { return filepath.Join(dataDir, ".restoring-"+id) }

// bringBack extracts the missing files to the staging directory, and links them
// into dataDir when every one of them is whole and on the disk.
func (s *Store) bringBack(f *os.File, id, dataDir string, restored map[string]bool) (err error) {
	staging := stagingDir(id, dataDir)
	if err := makeDir(dataDir); err != nil {
		return err
	}
	if err := os.RemoveAll(staging); err != nil {
		return err
	}
	if err := os.Mkdir(staging, 0o700); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(staging))
		s.reached("staging removed")
	}()
	s.reached("staging made")
	m, err := s.extract(f, id, staging, restored)
	if err != nil {
		return err
	}
	s.reached("all extracted")
	for _, file := range m.Files {
		if restored[file.Name] {
			continue
		}
		if err := s.place(file, staging, dataDir); err != nil {
			return err
		}
		s.reached("placed")
	}
	err = fsutil.SyncDir(dataDir)
	s.reached("all placed")
	return err
}

// extract reads the archive a second time and verifies it again. The first
// reading kept a damaged archive from changing anything in dataDir.
func (s *Store) extract(f *os.File, id, staging string, restored map[string]bool) (*manifest, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return readArchive(f, id, func(file archivedFile, r io.Reader) error {
		if restored[file.Name] {
			return nil
		}
		err := s.extractFile(filepath.Join(staging, file.Name), file, r)
		s.reached("extracted")
		return err
	})
}

func (s *Store) extractFile(path string, file archivedFile, r io.Reader) error {
	return s.writeFile(path, func(f *os.File, w io.Writer) error {
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		if err := f.Chmod(file.mode); err != nil {
			return err
		}
		return os.Chtimes(path, file.MTime, file.MTime)
	})
}

// place moves a file from the staging directory into dataDir. It makes a link,
// which unlike a rename never replaces another file.
func (s *Store) place(file archivedFile, staging, dataDir string) error {
	from := filepath.Join(staging, file.Name)
	err := os.Link(from, filepath.Join(dataDir, file.Name))
	if errors.Is(err, fs.ErrExist) {
		err = s.checkSame(file, dataDir)
	}
	if err != nil {
		return err
	}
	s.reached("linked")
	return os.Remove(from)
}
