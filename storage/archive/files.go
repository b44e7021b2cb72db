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

	"golang.org/x/sys/unix"
)

// openRegular opens a file to read, and nothing but a regular one: no link is
// followed, and a pipe does not make it wait.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, errNotRegular)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// measureFile reads a file of the data directory for its size and checksum.
func measureFile(dataDir, name string) (archivedFile, error) {
	f, info, err := openRegular(filepath.Join(dataDir, name))
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

// create writes a new file through the fault, to the disk before it returns.
func (v *Store) create(path string, fill func(*os.File, io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	var w io.Writer = f
	if v.fault != nil {
		w = v.fault(f)
	}
	if err = fill(f, w); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func makeVaultDir(dir string) error {
	_, err := os.Stat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncVaultDir(filepath.Dir(dir))
}

// sweep removes what an interrupted call left half written.
func (v *Store) sweep(id string) error {
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if isPartial(id, e.Name()) {
			err = errors.Join(err, removeIfThere(filepath.Join(v.dir, e.Name())))
		}
	}
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncVaultDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// clearStaging removes what an interrupted restore left: copies out of an
// archive. What was removed in dataDir is then so on the disk too. There need
// not be a dataDir: a tenant that never wrote has none.
func clearStaging(id, dataDir string) error {
	if err := os.RemoveAll(stagingDir(id, dataDir)); err != nil {
		return err
	}
	if err := syncVaultDir(dataDir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
