package archive

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStoreKilled kills store at each of its steps, and its repetition at some
// step too: nothing is lost at any moment, and the last call ends the job.
func TestStoreKilled(t *testing.T) {
	t.Parallel()
	for kill := range stepsOf(t, func(v *Store, data string) { mustStore(t, v, data) }) {
		t.Run(fmt.Sprint(kill+1), func(t *testing.T) {
			t.Parallel()
			o := order{Dir: filepath.Join(t.TempDir(), "vault"), DataDir: t.TempDir(), Kill: kill + 1}
			fillDir(t, o.DataDir, someFiles)
			killTwice(t, o, kill, func() { safe(t, o, someFiles) })
			sameFiles(t, contents(t, o.DataDir), nil)
			onlyArchives(t, o.Dir, 1)
			sameFiles(t, inArchives(t, o.Dir), someFiles)
		})
	}
}

// TestRestoreKilled is the same for restore; what stands in the data directory
// is moreover never a part of a file.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	steps := stepsOf(t, func(v *Store, data string) { mustRestore(t, &Store{dir: v.dir, now: v.now}, v, data) })
	for kill := range steps {
		t.Run(fmt.Sprint(kill+1), func(t *testing.T) {
			t.Parallel()
			o := order{Dir: t.TempDir(), DataDir: t.TempDir(), Kill: kill + 1}
			fillDir(t, o.DataDir, someFiles)
			o.Restore = mustStore(t, &Store{dir: o.Dir, now: time.Now}, o.DataDir)
			killTwice(t, o, kill, func() {
				safe(t, o, someFiles)
				for name, text := range contents(t, o.DataDir) {
					if someFiles[name] != text {
						t.Errorf("after a kill %q holds %d bytes that are not its own", name, len(text))
					}
				}
			})
			sameFiles(t, contents(t, o.DataDir), someFiles)
			onlyArchives(t, o.Dir, 1)
			nothingHidden(t, o.DataDir)
		})
	}
}

// TestRestoreAfterKilledStore gives a deletion up that was killed half-way.
func TestRestoreAfterKilledStore(t *testing.T) {
	t.Parallel()
	for kill := range stepsOf(t, func(v *Store, data string) { mustStore(t, v, data) }) {
		t.Run(fmt.Sprint(kill+1), func(t *testing.T) {
			t.Parallel()
			o := order{Dir: filepath.Join(t.TempDir(), "vault"), DataDir: t.TempDir(), Kill: kill + 1}
			fillDir(t, o.DataDir, someFiles)
			o.run(t)
			archive, err := New(o.Dir, nil).latest(vaultID)
			if err != nil {
				t.Fatal(err)
			}
			if archive == "" {
				sameFiles(t, contents(t, o.DataDir), someFiles)
				return
			}
			o.Restore, o.Kill = archive, 0
			o.run(t)
			sameFiles(t, contents(t, o.DataDir), someFiles)
			onlyArchives(t, o.Dir, 1)
			nothingHidden(t, o.DataDir)
		})
	}
}

// TestStoreAfterKilledRestore gives a restore up: what was placed goes, and
// what was not placed yet stays in the archive it came from.
func TestStoreAfterKilledRestore(t *testing.T) {
	t.Parallel()
	steps := stepsOf(t, func(v *Store, data string) { mustRestore(t, &Store{dir: v.dir, now: v.now}, v, data) })
	for kill := range steps {
		t.Run(fmt.Sprint(kill+1), func(t *testing.T) {
			t.Parallel()
			o := order{Dir: t.TempDir(), DataDir: t.TempDir(), Kill: kill + 1}
			fillDir(t, o.DataDir, someFiles)
			o.Restore = mustStore(t, &Store{dir: o.Dir, now: time.Now}, o.DataDir)
			o.run(t)
			o.Restore, o.Kill = "", 0
			o.run(t)
			sameFiles(t, contents(t, o.DataDir), nil)
			nothingHidden(t, o.DataDir)
			safe(t, o, someFiles)
		})
	}
}

// killTwice runs the order to its death, again to an earlier or later one, and
// then to its end.
func killTwice(t *testing.T, o order, kill int, check func()) {
	t.Helper()
	if !o.run(t) {
		t.Fatalf("was not killed at step %d", o.Kill)
	}
	check()
	o.Kill = kill*5%11 + 1
	o.run(t)
	check()
	o.Kill = 0
	o.run(t)
}

// stepsOf is how many steps an undisturbed call takes.
func stepsOf(t *testing.T, call func(v *Store, data string)) int {
	t.Helper()
	data, steps := t.TempDir(), 0
	fillDir(t, data, someFiles)
	call(&Store{dir: filepath.Join(t.TempDir(), "vault"), now: time.Now, step: func(string) { steps++ }}, data)
	if steps < 10 {
		t.Fatalf("%d steps are too few", steps)
	}
	return steps
}

func mustStore(t *testing.T, v *Store, data string) string {
	t.Helper()
	names, err := flatFiles(data)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := v.Create(vaultID, data, names)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func mustRestore(t *testing.T, storing, restoring *Store, data string) {
	t.Helper()
	archive := mustStore(t, storing, data)
	if _, err := restoring.Restore(vaultID, archive, data, nil, anyName); err != nil {
		t.Fatal(err)
	}
}

// safe checks that each file is in the data directory or in a whole archive.
func safe(t *testing.T, o order, want map[string]string) {
	t.Helper()
	have := inArchives(t, o.Dir)
	maps.Copy(have, contents(t, o.DataDir))
	sameFiles(t, have, want)
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
		_, err = readArchive(f, vaultID, func(file archivedFile, r io.Reader) error {
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

// someFiles cover more than one block, none at all, and names that JSON or an
// old tar would change.
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
