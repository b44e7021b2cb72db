package archive

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/testtmp"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	if carriedOutOrder() {
		return
	}
	goleak.VerifyTestMain(m)
}

const tenantID = "acme"

func anyName(string) bool { return true }

func noted([]string) error { return nil }

// flatFiles are the regular files directly in a directory.
func flatFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !e.Type().IsRegular() })
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// newStore makes a Store whose clock stands still.
func newStore(t *testing.T) *Store {
	t.Helper()
	noon := time.Date(2026, 3, 4, 12, 0, 0, 5, time.UTC)
	return &Store{dir: filepath.Join(t.TempDir(), "archives"), now: func() time.Time { return noon }}
}

// filled makes a data directory with files.
func filled(t *testing.T, files map[string]string) string {
	t.Helper()
	data := t.TempDir()
	fillDir(t, data, files)
	return data
}

// errBadRequest stands for every error that is answered with 400.
var errBadRequest = errors.New("a bad request")

func isError(err, want error) bool {
	if want == errBadRequest {
		e := apierror.From(err)
		return e != nil && e.Kind == apierror.BadRequest
	}
	return errors.Is(err, want)
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !isError(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func mustCreate(t *testing.T, s *Store, data string) string {
	t.Helper()
	names, err := flatFiles(data)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := s.Create(tenantID, data, names, noted)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func mustRestore(t *testing.T, storing, restoring *Store, data string) {
	t.Helper()
	archive := mustCreate(t, storing, data)
	if _, err := restoring.Restore(tenantID, archive, data, nil, anyName); err != nil {
		t.Fatal(err)
	}
}

func wantMode(t *testing.T, path string, want fs.FileMode) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("%s: mode %v, want %v", path, info.Mode(), want)
	}
	return info
}

func untouched(t testing.TB, data string) {
	t.Helper()
	if entries, err := os.ReadDir(data); len(entries) != 0 || err != nil {
		t.Errorf("data directory holds %v (%v)", entries, err)
	}
}

// inArchives are the files in all finished archives, which must be whole.
func inArchives(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(dir, "*"+archiveSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = readArchive(f, tenantID, func(file archivedFile, r io.Reader) error {
			text, err := io.ReadAll(r)
			all[file.Name] = string(text)
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		_ = f.Close() // it was only read
	}
	return all
}

// onlyArchives checks that nothing unfinished is left beside n archives.
func onlyArchives(t *testing.T, dir string, n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != n {
		t.Errorf("%v: want %d archives", entries, n)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), archiveSuffix) {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func nothingHidden(t *testing.T, data string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(data, ".*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}

// someFiles have more than one block, no content, and a name that JSON and old
// tar formats cannot hold.
var someFiles = map[string]string{
	"a.phext":     strings.Repeat("scroll\x17", 30_000),
	"empty.phext": "",
	"ключ \xff" + strings.Repeat("n", 200): "\x00\x01\xfe\xff",
}

func fillDir(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := flatFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	return files
}

func sameFiles(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, text := range want {
		if g, ok := got[name]; !ok || g != text {
			t.Errorf("file %q: there %v, %d bytes, want %d", name, ok, len(g), len(text))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}
