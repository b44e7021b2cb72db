package archive

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"time"
	"unicode/utf8"
)

const (
	manifestName = "MANIFEST.json"
	// manifestLimit, in bytes, bounds the only entry that is held in memory:
	// some 300,000 files.
	manifestLimit = 64 << 20
)

// manifest is the first entry of an archive and says what the others are, in
// their order.
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

	mode fs.FileMode // stands in the entry's own header
}

func (f archivedFile) same(g archivedFile) bool {
	return f.Size == g.Size && f.SHA256 == g.SHA256
}

func (m *manifest) encode() ([]byte, error) {
	for i, f := range m.Files {
		if !utf8.ValidString(f.Name) {
			m.Files[i].Raw = []byte(f.Name)
		}
	}
	text, err := json.Marshal(m)
	if err == nil && len(text) > manifestLimit {
		err = fmt.Errorf("the manifest is larger than %d bytes: too many files", manifestLimit)
	}
	return text, err
}

func decodeManifest(text []byte, id string) (*manifest, error) {
	m := new(manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, damaged("manifest: %w", err)
	}
	for i, f := range m.Files {
		if f.Raw != nil {
			m.Files[i].Name = string(f.Raw)
		}
	}
	return m, m.check(id)
}

func (m *manifest) check(id string) error {
	if m.Tenant != id {
		return badArchive("is of tenant %q", m.Tenant)
	}
	seen := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		if seen[f.Name] {
			return damaged("manifest: file %q stands in it twice", f.Name)
		}
		seen[f.Name] = true
		if err := f.check(); err != nil {
			return damaged("manifest: file %q: %w", f.Name, err)
		}
	}
	return nil
}

func (f archivedFile) check() error {
	if !isBaseName(f.Name) {
		return errNotBase
	}
	if f.Size < 0 {
		return fmt.Errorf("size %d", f.Size)
	}
	if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != 32 {
		return fmt.Errorf("checksum %q", f.SHA256)
	}
	return nil
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
