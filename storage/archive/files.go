package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// openRegular opens a file for reading if it is a regular one.
func openRegular(links fsutil.Links, path string) (*os.File, fs.FileInfo, error) {
	f, _, err := links.Open(path)
	if errors.Is(err, fsutil.ErrNotRegular) {
		err = fmt.Errorf("%s: %w", path, errNotRegular)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// measure reads a file of the data directory for its size and checksum.
func (s *Store) measure(dataDir, name string) (archivedFile, error) {
	f, info, err := openRegular(s.Links, filepath.Join(dataDir, name))
	if err != nil {
		return archivedFile{}, err
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return archivedFile{}, err
	}
	return archivedFile{
		Name: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil)),
		MTime: info.ModTime().UTC(), mode: info.Mode().Perm(),
	}, nil
}

// writeFile makes a new file with what fill writes, and returns when the content
// is on the disk.
func (s *Store) writeFile(path string, fill func(*os.File, io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	var w io.Writer = f
	if s.fault != nil {
		w = s.fault(f)
	}
	if err = fill(f, w); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// makeDir makes a directory unless it exists.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return fsutil.SyncDir(filepath.Dir(dir))
}

// remove removes a file if it exists.
func remove(path string) error { return fsutil.IgnoreMissing(os.Remove(path)) }
