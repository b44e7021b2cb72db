package archive

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// writeBuffer, in bytes: gzip writes some 240 bytes at a time.
const writeBuffer = 256 << 10

// archive makes a new archive of the files, proves it and writes the marker.
// Whatever fails before it has its name leaves nothing behind but a marker
// without an archive, which says nothing was removed.
func (v *Store) archive(id, dataDir string, files []string) (*stored, error) {
	created, err := v.stamp(id)
	if err != nil {
		return nil, err
	}
	m, err := measureAll(id, created, dataDir, files)
	if err != nil {
		return nil, err
	}
	v.at("measured")
	path := filepath.Join(v.dir, archiveName(id, created))
	if err := v.publish(path, dataDir, m, files); err != nil {
		return nil, errors.Join(err, removeIfThere(path+partialSuffix))
	}
	return &stored{path: path, files: m.byName()}, nil
}

// stamp is now, but always later than the newest archive, whatever the clock
// does: no archive takes another's name, and the newest is the last made.
func (v *Store) stamp(id string) (time.Time, error) {
	now := v.now().UTC().Round(0)
	last, err := v.latest(id)
	if err != nil || last == "" {
		return now, err
	}
	if t, _ := archiveTime(id, filepath.Base(last)); !now.After(t) {
		return t.Add(time.Nanosecond), nil
	}
	return now, nil
}

func measureAll(id string, created time.Time, dataDir string, files []string) (*manifest, error) {
	m := &manifest{Tenant: id, Created: created, Files: []archivedFile{}}
	for _, name := range files {
		f, err := measureFile(dataDir, name)
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, f)
	}
	return m, nil
}

func (v *Store) publish(path, dataDir string, m *manifest, files []string) error {
	if err := v.write(path+partialSuffix, dataDir, m); err != nil {
		return err
	}
	v.at("written")
	if err := proveArchive(path+partialSuffix, m.Tenant, files); err != nil {
		return err
	}
	v.at("proven")
	if err := v.mark(m.Tenant, path); err != nil {
		return err
	}
	v.at("marked")
	if err := os.Rename(path+partialSuffix, path); err != nil {
		return err
	}
	v.at("named")
	err := syncVaultDir(v.dir)
	v.at("published")
	return err
}

// proveArchive reads back what was written: it must hold the files, all and no other.
func proveArchive(path, id string, files []string) error {
	f, _, err := openRegular(path)
	if err != nil {
		return err
	}
	m, err := readArchive(f, id, nil)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if !slices.Equal(m.names(), files) {
		return damaged("it holds %d files and not the %d asked for", len(m.Files), len(files))
	}
	return nil
}

func (v *Store) write(path, dataDir string, m *manifest) error {
	return v.create(path, func(_ *os.File, w io.Writer) error {
		v.at("partial created")
		buf := bufio.NewWriterSize(w, writeBuffer)
		zw := gzip.NewWriter(buf)
		tw := tar.NewWriter(zw)
		if err := v.fill(tw, dataDir, m); err != nil {
			return err
		}
		for _, finish := range []func() error{tw.Close, zw.Close, buf.Flush} {
			if err := finish(); err != nil {
				return err
			}
		}
		return nil
	})
}

func (v *Store) fill(tw *tar.Writer, dataDir string, m *manifest) error {
	if err := writeManifest(tw, m); err != nil {
		return err
	}
	v.at("manifest written")
	for _, want := range m.Files {
		if err := copyIn(tw, dataDir, want); err != nil {
			return fmt.Errorf("file %q: %w", want.Name, err)
		}
		v.at("copied")
	}
	return nil
}

func writeManifest(tw *tar.Writer, m *manifest) error {
	text, err := m.encode()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(entryHeader(manifestName, int64(len(text)), 0o600, m.Created)); err != nil {
		return err
	}
	_, err = tw.Write(text)
	return err
}

func entryHeader(name string, size, mode int64, mtime time.Time) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: mode, ModTime: mtime,
		Format: tar.FormatPAX, // the only one with nanoseconds and any name
	}
}

// copyIn adds one file, which must still be what the manifest says.
func copyIn(tw *tar.Writer, dataDir string, want archivedFile) (err error) {
	f, _, err := openRegular(filepath.Join(dataDir, want.Name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := tw.WriteHeader(entryHeader(want.Name, want.Size, int64(want.mode), want.MTime)); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tw, h), io.LimitReader(f, want.Size))
	if err != nil {
		return err
	}
	more, err := io.CopyN(io.Discard, f, 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n != want.Size || more != 0 || hex.EncodeToString(h.Sum(nil)) != want.SHA256 {
		return errChanged
	}
	return nil
}
