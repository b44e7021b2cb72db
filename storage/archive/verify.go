package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
)

// gzipStart is how every archive begins. gzip's checksum does not cover it, so
// it is compared.
var gzipStart = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// readArchive reads a whole archive of tenant id and answers its manifest, if
// every byte is as store wrote it. Memory is bounded whatever the archive
// says: nothing is read beyond the sizes of the manifest.
//
// each, unless nil, gets the files as they pass, and what it leaves unread is
// read for it. What it got is proven only once readArchive has returned nil.
// Its own errors come back as they are; all others are errDamaged or
// errBadArchive.
func readArchive(f io.Reader, id string, each func(archivedFile, io.Reader) error) (*manifest, error) {
	src := bufio.NewReader(f)
	zr, err := unzip(src)
	if err != nil {
		return nil, err
	}
	tr := tar.NewReader(zr)
	m, err := readManifest(tr, id)
	if err != nil {
		return nil, err
	}
	for i := range m.Files {
		if err := readEntry(tr, &m.Files[i], each); err != nil {
			return nil, err
		}
	}
	return m, atEnd(tr, zr, src)
}

func unzip(src *bufio.Reader) (*gzip.Reader, error) {
	start, err := src.Peek(len(gzipStart))
	if err != nil {
		return nil, damaged("it is too short: %w", err)
	}
	if !bytes.Equal(start, gzipStart) {
		return nil, damaged("it does not begin as archives do")
	}
	zr, err := gzip.NewReader(src)
	if err != nil {
		return nil, damaged("%w", err)
	}
	zr.Multistream(false) // what follows the first stream is not ours
	return zr, nil
}

func readManifest(tr *tar.Reader, id string) (*manifest, error) {
	h, err := nextEntry(tr, manifestName)
	if err != nil {
		return nil, err
	}
	if h.Size > manifestLimit {
		return nil, damaged("its manifest says to have %d bytes", h.Size)
	}
	text, err := io.ReadAll(tr)
	if err != nil {
		return nil, damaged("manifest: %w", err)
	}
	return decodeManifest(text, id)
}

// nextEntry is the next entry, which must be the named regular file.
func nextEntry(tr *tar.Reader, name string) (*tar.Header, error) {
	h, err := tr.Next()
	if err != nil {
		return nil, damaged("in place of %q: %w", name, err)
	}
	if h.Name != name {
		return nil, damaged("%q in place of %q", h.Name, name)
	}
	if h.Typeflag != tar.TypeReg || !plainRecords(h) {
		return nil, damaged("%q: %w", name, errNotRegular)
	}
	return h, nil
}

// plainRecords refuses what store does not write: among it the sparse files,
// which are far larger than what is read for them.
func plainRecords(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if key != "path" && key != "mtime" && key != "size" {
			return false
		}
	}
	return true
}

func readEntry(tr *tar.Reader, want *archivedFile, each func(archivedFile, io.Reader) error) error {
	h, err := nextEntry(tr, want.Name)
	if err != nil {
		return err
	}
	if h.Size != want.Size || !h.ModTime.Equal(want.MTime) {
		return damaged("file %q: its entry is not what the manifest says", want.Name)
	}
	want.mode = h.FileInfo().Mode().Perm()
	sum := sha256.New()
	r := io.TeeReader(entryReader{tr}, sum)
	if each != nil {
		if err := each(*want, r); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != want.SHA256 {
		return damaged("file %q: its checksum is not the manifest's", want.Name)
	}
	return nil
}

// entryReader tells the errors of the archive from those of whom it is copied to.
type entryReader struct{ tr *tar.Reader }

func (r entryReader) Read(p []byte) (int, error) {
	n, err := r.tr.Read(p)
	if err != nil && err != io.EOF {
		err = damaged("%w", err)
	}
	return n, err
}

// atEnd reads to the end of each layer: only there does gzip compare its
// checksum, and nothing may follow.
func atEnd(tr *tar.Reader, zr *gzip.Reader, src *bufio.Reader) error {
	if h, err := tr.Next(); err == nil {
		return damaged("%q is not in its manifest", h.Name)
	} else if err != io.EOF {
		return damaged("%w", err)
	}
	if err := ended(zr); err != nil {
		return err
	}
	return ended(src)
}

func ended(r io.Reader) error {
	switch n, err := io.ReadFull(r, make([]byte, 1)); {
	case n != 0:
		return damaged("something follows its end")
	case !errors.Is(err, io.EOF):
		return damaged("%w", err)
	}
	return nil
}
