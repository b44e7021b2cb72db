package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// An archive is a gzipped tar file. Its first entry is the manifest, and the
// others are the files that the manifest lists, in its order and with the same
// sizes, times and checksums. Nothing follows them.
const (
	manifestName = "MANIFEST.json"
	// maxManifest is in bytes and enough for some 300,000 files. What the manifest
	// says is all of an archive that is held in memory.
	maxManifest = 64 << 20
	// writeBuffer is in bytes. Without it, gzip makes writes of some 240 bytes.
	writeBuffer = 256 << 10
)

// manifest lists what is in an archive.
type manifest struct {
	Tenant  string         `json:"tenant"`
	Created time.Time      `json:"created"`
	Files   []archivedFile `json:"files"`
}

type archivedFile struct {
	Name   string    `json:"name"`
	Raw    []byte    `json:"raw_name,omitempty"` // the name, if it is not UTF-8 and JSON would change it
	Size   int64     `json:"size"`               // in bytes
	SHA256 string    `json:"sha256"`             // in hexadecimal
	MTime  time.Time `json:"mtime"`

	mode fs.FileMode // kept in the header of the entry
}

func (f archivedFile) sameContent(g archivedFile) bool {
	return f.Size == g.Size && f.SHA256 == g.SHA256
}

func (m *manifest) names() []string {
	names := make([]string, 0, len(m.Files))
	for _, f := range m.Files {
		names = append(names, f.Name)
	}
	return names
}

func (m *manifest) byName() map[string]archivedFile {
	files := make(map[string]archivedFile, len(m.Files))
	for _, f := range m.Files {
		files[f.Name] = f
	}
	return files
}

func (m *manifest) encode() ([]byte, error) {
	for i, f := range m.Files {
		if !utf8.ValidString(f.Name) {
			m.Files[i].Raw = []byte(f.Name)
		}
	}
	text, err := json.Marshal(m)
	if err == nil && len(text) > maxManifest {
		err = fmt.Errorf("the manifest is larger than %d bytes: too many files", maxManifest)
	}
	return text, err
}

// decodeManifest reads a manifest of tenant id. Each file is checked before the
// next is read: a list of millions of empty files would take far more memory
// than its text.
func decodeManifest(r io.Reader, id string) (*manifest, error) {
	m, d := new(manifest), json.NewDecoder(r)
	if err := expect(d, json.Delim('{')); err != nil {
		return nil, err
	}
	for d.More() {
		field, err := d.Token()
		switch {
		case err != nil:
		case field == "tenant":
			err = d.Decode(&m.Tenant)
		case field == "created":
			err = d.Decode(&m.Created)
		case field == "files":
			if err := m.decodeFiles(d); err != nil {
				return nil, err
			}
		default:
			err = d.Decode(new(json.RawMessage))
		}
		if err != nil {
			return nil, damaged("manifest: %w", err)
		}
	}
	if err := expect(d, json.Delim('}')); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, damaged("manifest: something follows its end")
	}
	if m.Tenant != id {
		return nil, badArchive("is of tenant %q", m.Tenant)
	}
	return m, nil
}

func expect(d *json.Decoder, want json.Token) error {
	got, err := d.Token()
	switch {
	case err != nil:
		return damaged("manifest: %w", err)
	case got != want:
		return damaged("manifest: %v in place of %v", got, want)
	}
	return nil
}

func (m *manifest) decodeFiles(d *json.Decoder) error {
	if err := expect(d, json.Delim('[')); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		seen[f.Name] = true
	}
	for d.More() {
		var f archivedFile
		if err := d.Decode(&f); err != nil {
			return damaged("manifest: %w", err)
		}
		if f.Raw != nil {
			f.Name = string(f.Raw)
		}
		if seen[f.Name] {
			return damaged("manifest: file %q stands in it twice", f.Name)
		}
		seen[f.Name] = true
		if err := f.check(); err != nil {
			return damaged("manifest: file %q: %w", f.Name, err)
		}
		m.Files = append(m.Files, f)
	}
	return expect(d, json.Delim(']'))
}

func (f archivedFile) check() error {
	if !isBaseName(f.Name) {
		return errNotBase
	}
	if f.Size < 0 {
		return fmt.Errorf("size %d", f.Size)
	}
	if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("checksum %q", f.SHA256)
	}
	return nil
}

// write makes a new archive at path of the files of dataDir that m lists, each
// of which must still be what m says.
func (s *Store) write(path, dataDir string, m *manifest) error {
	return s.writeFile(path, func(_ *os.File, w io.Writer) error {
		s.reached("partial created")
		buf := bufio.NewWriterSize(w, writeBuffer)
		zw := gzip.NewWriter(buf)
		tw := tar.NewWriter(zw)
		if err := s.writeEntries(tw, dataDir, m); err != nil {
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

func (s *Store) writeEntries(tw *tar.Writer, dataDir string, m *manifest) error {
	text, err := m.encode()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(entryHeader(manifestName, int64(len(text)), 0o600, m.Created)); err != nil {
		return err
	}
	if _, err := tw.Write(text); err != nil {
		return err
	}
	s.reached("manifest written")
	for _, f := range m.Files {
		if err := s.writeEntry(tw, dataDir, f); err != nil {
			return fmt.Errorf("file %q: %w", f.Name, err)
		}
		s.reached("copied")
	}
	return nil
}

func entryHeader(name string, size, mode int64, mtime time.Time) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: mode, ModTime: mtime,
		Format: tar.FormatPAX, // no other format has nanoseconds and any name
	}
}

func (s *Store) writeEntry(tw *tar.Writer, dataDir string, want archivedFile) (err error) {
	f, _, err := openRegular(s.Links, filepath.Join(dataDir, want.Name))
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

// gzipStart is how every archive begins. gzip's checksum does not cover it.
var gzipStart = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// readArchive reads a whole archive of tenant id and returns its manifest if
// every byte is as Create wrote it. Memory is bounded whatever the archive
// says: nothing is read beyond the sizes in the manifest.
//
// each, unless it is nil, is given every file; what it does not read is read for
// it. What it was given is verified only when readArchive returns nil. Errors of
// each come back as they are. All others are errDamaged or made by badArchive.
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
	return m, checkEnd(tr, zr, src)
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
	zr.Multistream(false) // an archive is one stream
	return zr, nil
}

func readManifest(tr *tar.Reader, id string) (*manifest, error) {
	h, err := nextEntry(tr, manifestName)
	if err != nil {
		return nil, err
	}
	if h.Size > maxManifest {
		return nil, damaged("its manifest says to have %d bytes", h.Size)
	}
	return decodeManifest(tr, id)
}

// nextEntry goes to the next entry, which must be a regular file of this name.
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

// plainRecords is false if the entry has records that Create does not write.
// Among them are those of sparse files, which are far larger than what is read
// for them.
func plainRecords(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if key != "path" && key != "mtime" && key != "size" {
			return false
		}
	}
	return true
}

// readEntry reads and verifies the next file, and sets its mode.
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

// entryReader marks errors of reading the archive, to tell them from errors of
// writing the copy.
type entryReader struct{ tr *tar.Reader }

func (r entryReader) Read(p []byte) (int, error) {
	n, err := r.tr.Read(p)
	if err != nil && err != io.EOF {
		err = damaged("%w", err)
	}
	return n, err
}

// checkEnd reads each layer to its end: only there does gzip compare its
// checksum, and nothing may follow.
func checkEnd(tr *tar.Reader, zr *gzip.Reader, src *bufio.Reader) error {
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
