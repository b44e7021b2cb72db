package archive

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRestoreNames(t *testing.T) {
	v := fixedVault(t)
	good := mustStore(t, v, filled(t, someFiles))
	name := filepath.Base(good)
	link := "acme-20270304T120000.000000005Z.tar.gz"
	if err := os.Symlink(name, filepath.Join(v.dir, link)); err != nil {
		t.Fatal(err)
	}
	dir := "acme-20280304T120000.000000005Z.tar.gz"
	if err := os.Mkdir(filepath.Join(v.dir, dir), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		archive string
		want    error
	}{
		{"", errBadArchive},
		{".", errBadArchive},
		{"/", errBadArchive},
		{"../" + filepath.Base(v.dir) + "/" + name, errBadArchive},
		{v.dir + "/../" + filepath.Base(v.dir) + "/" + name, errBadArchive},
		{v.dir + "//" + name, errBadArchive},
		{"/etc/" + name, errBadArchive},
		{"./" + name, errBadArchive},
		{name + ".partial", errBadArchive},
		{strings.Replace(name, "acme", "acme-two", 1), errBadArchive},
		{strings.Replace(name, "acme", "other", 1), errBadArchive},
		{"acme-20260304T120000Z.tar.gz", errBadArchive},
		{"acme-20261304T120000.000000005Z.tar.gz", errBadArchive},
		{"acme-20260304T120000.000000005Z.tar", errBadArchive},
		{"acme-20260304T120000.000000005Z.tar.gz\x00", errBadArchive},
		{link, errBadArchive},
		{dir, errBadArchive},
		{"acme-20250304T120000.000000005Z.tar.gz", errNoArchive},
	} {
		data := t.TempDir()
		_, err := v.Restore(vaultID, c.archive, data, nil, anyName)
		wantError(t, err, c.want)
		if field := new(archiveError); c.want == errBadArchive && (!errors.As(err, &field) || field.Field != "archive") {
			t.Errorf("%q: the error does not name the field: %v", c.archive, err)
		}
		untouched(t, data)
	}
}

func untouched(t testing.TB, data string) {
	t.Helper()
	if entries, err := os.ReadDir(data); len(entries) != 0 || err != nil {
		t.Errorf("data directory holds %v (%v)", entries, err)
	}
}

func TestRestoreBesideOtherFiles(t *testing.T) {
	both := map[string]string{"a": "1", "b": "2"}
	for _, c := range []struct {
		name        string
		there, want map[string]string
		untold      bool // the caller does not know of the files
		err         error
	}{
		{"a part of them", map[string]string{"a": "1"}, both, false, nil},
		{"all of them", both, both, false, nil},
		{"a part of them", map[string]string{"b": "2"}, both, true, nil},
		{"one changed", map[string]string{"a": "9"}, map[string]string{"a": "9"}, false, errNotEmpty},
		{"one changed", map[string]string{"a": "9"}, map[string]string{"a": "9"}, true, errNotEmpty},
		{"one more", map[string]string{"a": "1", "c": "3"}, map[string]string{"a": "1", "c": "3"}, false, errNotEmpty},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, data := fixedVault(t), filled(t, c.there)
			archive := mustStore(t, v, filled(t, both))
			var existing []string
			for name := range c.there {
				if !c.untold {
					existing = append(existing, name)
				}
			}
			_, err := v.Restore(vaultID, archive, data, existing, anyName)
			wantError(t, err, c.err)
			sameFiles(t, contents(t, data), c.want)
			nothingHidden(t, data)
		})
	}
}

// TestRestoreSweeps what an interrupted store had begun.
func TestRestoreSweeps(t *testing.T) {
	v, data := fixedVault(t), t.TempDir()
	archive := mustStore(t, v, filled(t, someFiles))
	fillDir(t, v.dir, map[string]string{
		archiveName(vaultID, v.now().AddDate(1, 0, 0)) + partialSuffix: "x",
		vaultID + markerSuffix + partialSuffix:                         "y",
	})
	if _, err := v.Restore(vaultID, archive, data, nil, anyName); err != nil {
		t.Fatal(err)
	}
	onlyArchives(t, v.dir, 1)
}

func TestRestoreOfNamesNotOwn(t *testing.T) {
	v, data := fixedVault(t), t.TempDir()
	archive := mustStore(t, v, filled(t, map[string]string{"acme.a": "1", "other.b": "2"}))
	_, err := v.Restore(vaultID, archive, data, nil, func(name string) bool { return strings.HasPrefix(name, "acme.") })
	wantError(t, err, errBadArchive)
	untouched(t, data)
}

// TestRestoreOfDamagedArchives flips every byte of an archive and cuts it at
// each: it is refused. A flip may by chance say the same in other words, such
// as a run of zeros copied from another place; then the files come back whole.
func TestRestoreOfDamagedArchives(t *testing.T) {
	files := map[string]string{"a.phext": strings.Repeat("text ", 50), "b.phext": "more"}
	v := fixedVault(t)
	path := mustStore(t, v, filled(t, files))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i := range whole {
		text := bytes.Clone(whole)
		text[i] ^= 0xff
		if !refused(t, v, path, text, files) {
			same++
		}
		if !refused(t, v, path, whole[:i], nil) {
			t.Errorf("cut at %d it is taken", i)
		}
	}
	if same > len(whole)/50 {
		t.Errorf("%d flips of %d change nothing", same, len(whole))
	}
	for _, tail := range [][]byte{{0}, whole, emptyGzip(t)} {
		if !refused(t, v, path, append(bytes.Clone(whole), tail...), nil) {
			t.Errorf("it is taken with %d bytes after it", len(tail))
		}
	}
}

// refused says whether an archive of these bytes is refused, the data
// directory untouched. If it is not, the files must be those.
func refused(t *testing.T, v *Store, path string, text []byte, files map[string]string) bool {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	_, err := v.Restore(vaultID, path, data, nil, anyName)
	if err == nil {
		sameFiles(t, contents(t, data), files)
		return false
	}
	// The manifest is read before its checksum: the tenant may be another.
	if !errors.Is(err, errDamaged) && !errors.Is(err, errBadArchive) {
		t.Errorf("untyped error: %v", err)
	}
	untouched(t, data)
	return true
}

func emptyGzip(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := gzip.NewWriter(&out).Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestVaultRoundTrip: what is stored comes back, whatever names and bytes.
func TestVaultRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.SliceOfN(rapid.Byte(), 1, 60)
		drawn := rapid.MapOfN(rapid.Map(name, func(b []byte) string { return string(b) }),
			rapid.SliceOfN(rapid.Byte(), 0, 3000), 0, 5).Draw(r, "files")
		files, names := map[string]string{}, []string{}
		for name, text := range drawn {
			if isBaseName(name) {
				files[name], names = string(text), append(names, name)
			}
		}
		v, data := fixedVault(t), filled(t, files)
		archive, err := v.Create(vaultID, data, names)
		if err != nil {
			r.Fatal(err)
		}
		untouched(t, data)
		if n, err := v.Restore(vaultID, archive, data, nil, anyName); n != len(files) || err != nil {
			r.Fatalf("restored %d of %d: %v", n, len(files), err)
		}
		sameFiles(t, contents(t, data), files)
	})
}

// FuzzReadArchive: whatever an archive holds, it is read or refused, and what
// is read was there.
func FuzzReadArchive(f *testing.F) {
	f.Add([]byte(`{"tenant":"acme","files":[]}`), []byte("x"))
	f.Fuzz(func(t *testing.T, first, text []byte) {
		packed := pack(t, string(first), []crafting{plain("a", string(text))}, nil)
		got := map[string]int{}
		_, err := readArchive(bytes.NewReader(packed), vaultID, func(file archivedFile, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			got[file.Name] = int(n)
			return err
		})
		if err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, errBadArchive) {
			t.Errorf("untyped error: %v", err)
		}
		if err == nil && (len(got) != 1 || got["a"] != len(text)) {
			t.Errorf("read %v of %d bytes", got, len(text))
		}
	})
}

func TestEachsOwnErrorComesBack(t *testing.T) {
	v := fixedVault(t)
	f, err := os.Open(mustStore(t, v, filled(t, someFiles)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = readArchive(f, vaultID, func(archivedFile, io.Reader) error { return fs.ErrPermission })
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, errDamaged) {
		t.Errorf("error %v", err)
	}
}
