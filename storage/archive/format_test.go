package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// craftedArchive is one that Create would not write.
type craftedArchive struct {
	name    string
	want    error
	change  func(m *manifest, entries []craftedEntry) []craftedEntry
	trailer []byte
}

type craftedEntry struct {
	tar.Header
	text string
}

func TestRestoreOfCraftedArchives(t *testing.T) {
	same := func(_ *manifest, e []craftedEntry) []craftedEntry { return e }
	named := func(name string) func(*manifest, []craftedEntry) []craftedEntry {
		return func(m *manifest, e []craftedEntry) []craftedEntry {
			m.Files[0].Name, e[0].Name = name, name
			return e
		}
	}
	typed := func(flag byte) func(*manifest, []craftedEntry) []craftedEntry {
		return func(m *manifest, e []craftedEntry) []craftedEntry {
			e[0].Typeflag, e[0].Linkname, e[0].Size, m.Files[0].Size = flag, "b", 0, 0
			e[0].text, m.Files[0].SHA256 = "", sumOf("")
			return e
		}
	}
	for _, test := range []craftedArchive{
		{name: "as it should be", change: same},
		{name: "traversal", want: errDamaged, change: named("../a")},
		{name: "separator", want: errDamaged, change: named("x/a")},
		{name: "absolute", want: errDamaged, change: named("/a")},
		{name: "parent", want: errDamaged, change: named("..")},
		{name: "duplicate", want: errDamaged, change: named("b")},
		{name: "symlink", want: errDamaged, change: typed(tar.TypeSymlink)},
		{name: "hard link", want: errDamaged, change: typed(tar.TypeLink)},
		{name: "device", want: errDamaged, change: typed(tar.TypeChar)},
		{name: "pipe", want: errDamaged, change: typed(tar.TypeFifo)},
		{name: "directory", want: errDamaged, change: typed(tar.TypeDir)},
		{name: "other tenant", want: errBadRequest, change: func(m *manifest, e []craftedEntry) []craftedEntry {
			m.Tenant = "other"
			return e
		}},
		{name: "not in the manifest", want: errDamaged, change: func(_ *manifest, e []craftedEntry) []craftedEntry {
			return append(e, plain("c", "3"))
		}},
		{name: "missing", want: errDamaged, change: func(_ *manifest, e []craftedEntry) []craftedEntry { return e[:1] }},
		{name: "other order", want: errDamaged, change: func(_ *manifest, e []craftedEntry) []craftedEntry {
			e[0], e[1] = e[1], e[0]
			return e
		}},
		{name: "larger than said", want: errDamaged, change: func(_ *manifest, e []craftedEntry) []craftedEntry {
			e[0] = plain("a", strings.Repeat("1", 1<<20))
			return e
		}},
		{name: "smaller than said", want: errDamaged, change: func(m *manifest, e []craftedEntry) []craftedEntry {
			m.Files[0].Size = 1 << 40
			return e
		}},
		{name: "negative size", want: errDamaged, change: func(m *manifest, e []craftedEntry) []craftedEntry {
			m.Files[0].Size = -1
			return e
		}},
		{name: "other checksum", want: errDamaged, change: func(m *manifest, e []craftedEntry) []craftedEntry {
			m.Files[0].SHA256 = sumOf("2")
			return e
		}},
		{name: "no checksum", want: errDamaged, change: func(m *manifest, e []craftedEntry) []craftedEntry {
			m.Files[0].SHA256 = ""
			return e
		}},
		{name: "more records", want: errDamaged, change: func(_ *manifest, e []craftedEntry) []craftedEntry {
			e[0].Format, e[0].PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr.user.x": "y"}
			return e
		}},
		{name: "bytes after the end", want: errDamaged, change: same, trailer: make([]byte, 1<<20)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, data := newStore(t), t.TempDir()
			path := filepath.Join(s.dir, archiveName(tenantID, s.now()))
			test.write(t, path)
			_, err := s.Restore(tenantID, path, data, nil, anyName)
			if test.want == nil && err == nil {
				sameFiles(t, contents(t, data), map[string]string{"a": "1", "b": "2"})
				return
			}
			wantError(t, err, test.want)
			untouched(t, data)
		})
	}
}

func plain(name, text string) craftedEntry {
	return craftedEntry{tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o600}, text}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (c craftedArchive) write(t *testing.T, path string) {
	t.Helper()
	entries := []craftedEntry{plain("a", "1"), plain("b", "2")}
	m := &manifest{Tenant: tenantID}
	for _, e := range entries {
		m.Files = append(m.Files, archivedFile{Name: e.Name, Size: e.Size, SHA256: sumOf(e.text), MTime: e.ModTime})
	}
	for i := range m.Files {
		entries[i].ModTime = newStore(t).now().Truncate(1e9)
		m.Files[i].MTime = entries[i].ModTime
	}
	entries = c.change(m, entries)
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, pack(t, string(text), entries, c.trailer), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func pack(t *testing.T, first string, entries []craftedEntry, trailer []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for _, e := range append([]craftedEntry{plain(manifestName, first)}, entries...) {
		if err := tw.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.text); err != nil {
			t.Fatal(err)
		}
	}
	err := tw.Close()
	_, late := zw.Write(trailer)
	if err = errors.Join(err, late, zw.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// FuzzReadArchive packs any manifest and one file. The archive is refused, or
// the file is read as it is.
func FuzzReadArchive(f *testing.F) {
	f.Add([]byte(`{"tenant":"acme","files":[]}`), []byte("x"))
	f.Add([]byte(`{"tenant":"acme","files":[{"name":"a","size":1,"sha256":"`+sumOf("x")+`","mtime":"1970-01-01T00:00:00Z"}]}`), []byte("x"))
	f.Fuzz(func(t *testing.T, first, text []byte) {
		packed := pack(t, string(first), []craftedEntry{plain("a", string(text))}, nil)
		got := map[string]int{}
		_, err := readArchive(bytes.NewReader(packed), tenantID, func(file archivedFile, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			got[file.Name] = int(n)
			return err
		})
		if err != nil && !isError(err, errDamaged) && !isError(err, errBadRequest) {
			t.Errorf("untyped error: %v", err)
		}
		if err == nil && (len(got) != 1 || got["a"] != len(text)) {
			t.Errorf("read %v of %d bytes", got, len(text))
		}
	})
}

// TestErrorOfEach expects that an error of writing a copy is not taken for damage.
func TestErrorOfEach(t *testing.T) {
	s := newStore(t)
	f, err := os.Open(mustCreate(t, s, filled(t, someFiles)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = readArchive(f, tenantID, func(archivedFile, io.Reader) error { return fs.ErrPermission })
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, errDamaged) {
		t.Errorf("error %v", err)
	}
}

// TestAManifestOfNothing has a million files without a name. They are refused at
// the first, before there is memory for the others.
func TestAManifestOfNothing(t *testing.T) {
	text := `{"tenant":"acme","files":[` + strings.Repeat("{},", 1<<20) + `{}]}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decodeManifest(strings.NewReader(text), tenantID)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, errDamaged) || took > 1<<20 {
		t.Errorf("%d bytes, %v", took, err)
	}
	for _, text := range []string{``, `[]`, `{"tenant":"acme"`, `{"tenant":"acme","files":[]} {}`, `{"tenant":"acme","files":null}`, `{"tenant":1}`} {
		if m, err := decodeManifest(strings.NewReader(text), tenantID); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %+v, %v", text, m, err)
		}
	}
}
