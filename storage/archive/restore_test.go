package archive

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRestoreNames(t *testing.T) {
	s := newStore(t)
	good := mustCreate(t, s, filled(t, someFiles))
	name := filepath.Base(good)
	link := "acme-20270304T120000.000000005Z.tar.gz"
	if err := os.Symlink(name, filepath.Join(s.dir, link)); err != nil {
		t.Fatal(err)
	}
	dir := "acme-20280304T120000.000000005Z.tar.gz"
	if err := os.Mkdir(filepath.Join(s.dir, dir), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		archive string
		want    error
	}{
		{"", errBadRequest},
		{".", errBadRequest},
		{"/", errBadRequest},
		{"../" + filepath.Base(s.dir) + "/" + name, errBadRequest},
		{s.dir + "/../" + filepath.Base(s.dir) + "/" + name, errBadRequest},
		{s.dir + "//" + name, errBadRequest},
		{"/etc/" + name, errBadRequest},
		{"./" + name, errBadRequest},
		{name + ".partial", errBadRequest},
		{strings.Replace(name, "acme", "acme-two", 1), errBadRequest},
		{strings.Replace(name, "acme", "other", 1), errBadRequest},
		{"acme-20260304T120000Z.tar.gz", errBadRequest},
		{"acme-20261304T120000.000000005Z.tar.gz", errBadRequest},
		{"acme-20260304T120000.000000005Z.tar", errBadRequest},
		{"acme-20260304T120000.000000005Z.tar.gz\x00", errBadRequest},
		{link, errBadRequest},
		{dir, errBadRequest},
		{"acme-20250304T120000.000000005Z.tar.gz", errNoArchive},
	} {
		t.Run(test.archive, func(t *testing.T) {
			data := t.TempDir()
			_, err := s.Restore(tenantID, test.archive, data, nil, anyName)
			wantError(t, err, test.want)
			if test.want == errBadRequest && !strings.Contains(err.Error(), `field "archive" `) {
				t.Errorf("the error does not name the field: %v", err)
			}
			untouched(t, data)
		})
	}
}

func TestRestoreBesideOtherFiles(t *testing.T) {
	both := map[string]string{"a": "1", "b": "2"}
	for _, test := range []struct {
		name        string
		there, want map[string]string
		unknown     bool // the caller does not know of the files
		err         error
	}{
		{"one of them", map[string]string{"a": "1"}, both, false, nil},
		{"all of them", both, both, false, nil},
		{"one of them, unknown", map[string]string{"b": "2"}, both, true, nil},
		{"one changed", map[string]string{"a": "9"}, map[string]string{"a": "9"}, false, errNotEmpty},
		{"one changed, unknown", map[string]string{"a": "9"}, map[string]string{"a": "9"}, true, errNotEmpty},
		{"one more", map[string]string{"a": "1", "c": "3"}, map[string]string{"a": "1", "c": "3"}, false, errNotEmpty},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, data := newStore(t), filled(t, test.there)
			archive := mustCreate(t, s, filled(t, both))
			var existing []string
			for name := range test.there {
				if !test.unknown {
					existing = append(existing, name)
				}
			}
			_, err := s.Restore(tenantID, archive, data, existing, anyName)
			wantError(t, err, test.err)
			sameFiles(t, contents(t, data), test.want)
			nothingHidden(t, data)
		})
	}
}

func TestRestoreRemovesPartialFiles(t *testing.T) {
	s, data := newStore(t), t.TempDir()
	archive := mustCreate(t, s, filled(t, someFiles))
	fillDir(t, s.dir, map[string]string{
		archiveName(tenantID, s.now().AddDate(1, 0, 0)) + partialSuffix: "x",
		tenantID + markerSuffix + partialSuffix:                         "y",
	})
	if _, err := s.Restore(tenantID, archive, data, nil, anyName); err != nil {
		t.Fatal(err)
	}
	onlyArchives(t, s.dir, 1)
}

func TestRestoreOfNamesNotOwn(t *testing.T) {
	s, data := newStore(t), t.TempDir()
	archive := mustCreate(t, s, filled(t, map[string]string{"acme.a": "1", "other.b": "2"}))
	_, err := s.Restore(tenantID, archive, data, nil, func(name string) bool { return strings.HasPrefix(name, "acme.") })
	wantError(t, err, errBadRequest)
	untouched(t, data)
}

// TestRestoreOfDamagedArchives flips every byte of an archive, and cuts the
// archive at every byte. Each must be refused, except for the few flips that
// happen to encode the same content in another way; then the files must come
// back whole.
func TestRestoreOfDamagedArchives(t *testing.T) {
	files := map[string]string{"a.phext": strings.Repeat("text ", 50), "b.phext": "more"}
	s := newStore(t)
	path := mustCreate(t, s, filled(t, files))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i := range whole {
		text := bytes.Clone(whole)
		text[i] ^= 0xff
		if !refused(t, s, path, text, files) {
			same++
		}
		if !refused(t, s, path, whole[:i], nil) {
			t.Errorf("cut at %d it is restored", i)
		}
	}
	if same > len(whole)/50 {
		t.Errorf("%d flips of %d change nothing", same, len(whole))
	}
	for _, tail := range [][]byte{{0}, whole, emptyGzip(t)} {
		if !refused(t, s, path, append(bytes.Clone(whole), tail...), nil) {
			t.Errorf("it is restored with %d bytes after it", len(tail))
		}
	}
}

// refused says whether an archive of these bytes is refused and the data
// directory left untouched. If it is restored, the files must be those given.
func refused(t *testing.T, s *Store, path string, text []byte, files map[string]string) bool {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	_, err := s.Restore(tenantID, path, data, nil, anyName)
	if err == nil {
		sameFiles(t, contents(t, data), files)
		return false
	}
	// The manifest is used before its checksum is known: it may name another tenant.
	if !isError(err, errDamaged) && !isError(err, errBadRequest) {
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

// TestRoundTrip archives and restores files of arbitrary names and bytes.
func TestRoundTrip(t *testing.T) {
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
		s, data := newStore(t), filled(t, files)
		archive, err := s.Create(tenantID, data, names, noted)
		if err != nil {
			r.Fatal(err)
		}
		untouched(t, data)
		if n, err := s.Restore(tenantID, archive, data, nil, anyName); n != len(files) || err != nil {
			r.Fatalf("restored %d of %d: %v", n, len(files), err)
		}
		sameFiles(t, contents(t, data), files)
	})
}
