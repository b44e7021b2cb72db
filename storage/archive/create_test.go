package archive

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func fixedVault(t *testing.T) *Store {
	t.Helper()
	noon := time.Date(2026, 3, 4, 12, 0, 0, 5, time.UTC)
	return &Store{dir: filepath.Join(t.TempDir(), "vault"), now: func() time.Time { return noon }}
}

func filled(t *testing.T, files map[string]string) string {
	t.Helper()
	data := t.TempDir()
	fillDir(t, data, files)
	return data
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func TestStoreAndRestore(t *testing.T) {
	v, data := fixedVault(t), filled(t, someFiles)
	mtime := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	if err := os.Chtimes(filepath.Join(data, "a.phext"), mtime, mtime); err != nil {
		t.Fatal(err)
	}
	archive := mustStore(t, v, data)
	if want := filepath.Join(v.dir, "acme-20260304T120000.000000005Z.tar.gz"); archive != want {
		t.Errorf("archive %s, want %s", archive, want)
	}
	sameFiles(t, contents(t, data), nil)
	sameFiles(t, inArchives(t, v.dir), someFiles)
	wantMode(t, v.dir, fs.ModeDir|0o700)
	wantMode(t, archive, 0o600)

	n, err := v.Restore(vaultID, filepath.Base(archive), data, nil, anyName)
	if err != nil || n != len(someFiles) {
		t.Fatalf("restored %d, %v", n, err)
	}
	sameFiles(t, contents(t, data), someFiles)
	info := wantMode(t, filepath.Join(data, "a.phext"), 0o640)
	if !info.ModTime().Equal(mtime) {
		t.Errorf("mtime %v, want %v", info.ModTime(), mtime)
	}
	onlyArchives(t, v.dir, 1)
	nothingHidden(t, data)
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

func TestStoreTwiceIsTheSameArchive(t *testing.T) {
	v, data := fixedVault(t), filled(t, someFiles)
	first := mustStore(t, v, data)
	if again := mustStore(t, v, data); again != first {
		t.Errorf("the second call made %s", again)
	}
	onlyArchives(t, v.dir, 1)
}

func TestStoreOfNothing(t *testing.T) {
	v := fixedVault(t)
	archive, err := v.Create(vaultID, filepath.Join(t.TempDir(), "never-made"), nil)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "new")
	if n, err := v.Restore(vaultID, archive, data, nil, anyName); n != 0 || err != nil {
		t.Errorf("restored %d, %v", n, err)
	}
	onlyArchives(t, v.dir, 1)
}

// TestNewestIsTheLastMade has a clock that stands still and one that goes back.
func TestNewestIsTheLastMade(t *testing.T) {
	v, last := fixedVault(t), ""
	for hours := range 3 {
		at := v.now().Add(-time.Duration(hours) * time.Hour)
		v := &Store{dir: v.dir, now: func() time.Time { return at }}
		archive := mustStore(t, v, filled(t, map[string]string{"a": "x"}))
		if latest, err := v.latest(vaultID); latest != archive || archive <= last || err != nil {
			t.Errorf("latest %s, made %s after %s, %v", latest, archive, last, err)
		}
		last = archive
	}
	onlyArchives(t, v.dir, 3)
}

func TestLatestIsOfTheTenantOnly(t *testing.T) {
	v := fixedVault(t)
	if got, err := v.latest(vaultID); got != "" || err != nil {
		t.Errorf("latest without a directory: %q, %v", got, err)
	}
	mustStore(t, v, filled(t, someFiles))
	stamp := "20300101T000000.000000000Z"
	fillDir(t, v.dir, map[string]string{
		"acme-two-" + stamp + ".tar.gz": "", "acme-" + stamp + ".tar.gz.partial": "", "acme-2030.tar.gz": "",
	})
	if err := os.Mkdir(filepath.Join(v.dir, "acme-"+stamp+".tar.gz"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := v.latest(vaultID); !strings.Contains(got, "acme-2026") || err != nil {
		t.Errorf("latest %q, %v", got, err)
	}
	_, err := v.latest("../x")
	wantError(t, err, errBadArchive)
}

func TestStoreRefuses(t *testing.T) {
	data := filled(t, map[string]string{"a": "1", "b": "2"})
	if err := os.Symlink("a", filepath.Join(data, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(data, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   string
		file string
		want error
	}{
		{"acme", "../a", errNotBase},
		{"acme", "", errNotBase},
		{"acme", "..", errNotBase},
		{"acme", "link", errNotRegular},
		{"acme", "pipe", errNotRegular},
		{"acme", ".", errNotBase},
		{"acme", "absent", fs.ErrNotExist},
		{"../acme", "a", errBadArchive},
		{"", "a", errBadArchive},
		{".hidden", "a", errBadArchive},
	} {
		v := fixedVault(t)
		_, err := v.Create(c.id, data, []string{"a", c.file})
		wantError(t, err, c.want)
		sameFiles(t, contents(t, data), map[string]string{"a": "1", "b": "2"})
		if left, _ := os.ReadDir(v.dir); len(left) != 0 { // there may be no directory
			t.Errorf("%+v left %v", c, left)
		}
	}
}

// at makes a vault do something when it comes to a step for the first time.
func at(v *Store, step string, do func()) *Store {
	changed := *v
	changed.step = func(name string) {
		if name == step && do != nil {
			do()
			do = nil
		}
	}
	return &changed
}

// TestStoreOfChangingFiles has somebody write to a file between two steps: it
// is refused, the file stays, and the next call archives what is there.
func TestStoreOfChangingFiles(t *testing.T) {
	for _, step := range []string{"measured", "manifest written", "proven", "marked", "named", "published"} {
		for _, now := range []string{"longer than before", "s", "other"} {
			t.Run(step+" "+now, func(t *testing.T) {
				v, data := fixedVault(t), filled(t, map[string]string{"a": "first", "b": "short"})
				names := []string{"a", "b"}
				_, err := at(v, step, func() { fillDir(t, data, map[string]string{"b": now}) }).Create(vaultID, data, names)
				wantError(t, err, errChanged)
				if contents(t, data)["b"] != now {
					t.Error("what was written is gone")
				}
				if step == "measured" || step == "manifest written" {
					onlyArchives(t, v.dir, 0)
				}
				mustStore(t, v, data)
				sameFiles(t, inArchives(t, v.dir), map[string]string{"a": "first", "b": now})
			})
		}
	}
}

// TestStoreOfNewFilesAfterAnInterruption keeps the first archive and makes another.
func TestStoreOfNewFilesAfterAnInterruption(t *testing.T) {
	v, data := fixedVault(t), filled(t, map[string]string{"a": "1", "b": "2"})
	o := order{Dir: v.dir, DataDir: data, Kill: 1}
	for len(contents(t, data)) == 2 {
		o.run(t)
		o.Kill++
	}
	first, err := v.latest(vaultID)
	if err != nil {
		t.Fatal(err)
	}
	fillDir(t, data, map[string]string{"c": "3"})
	v.now = time.Now
	if second := mustStore(t, v, data); second == first {
		t.Error("the first archive is said to hold what came later")
	}
	sameFiles(t, inArchives(t, v.dir), map[string]string{"a": "1", "b": "2", "c": "3"})
	onlyArchives(t, v.dir, 2)
}

// TestStoreWithADamagedArchive removes nothing more on the word of a marker
// whose archive is not whole.
func TestStoreWithADamagedArchive(t *testing.T) {
	v, data := fixedVault(t), filled(t, map[string]string{"a": "1"})
	broken := at(v, "published", func() {
		path, _ := v.latest(vaultID) // "" cannot be truncated
		if err := errors.Join(os.Truncate(path, 50), os.WriteFile(filepath.Join(data, "a"), []byte("2"), 0o600)); err != nil {
			t.Error(err)
		}
	})
	_, err := broken.Create(vaultID, data, []string{"a"})
	wantError(t, err, errChanged)
	_, err = v.Create(vaultID, data, []string{"a"})
	wantError(t, err, errDamaged)
	sameFiles(t, contents(t, data), map[string]string{"a": "2"})
}

func TestStoreWithABrokenMarker(t *testing.T) {
	for _, text := range []string{"", "{", `{"archive":"../x"}`, `{"archive":"other-20260304T120000.000000005Z.tar.gz"}`} {
		v, data := fixedVault(t), filled(t, map[string]string{"a": "1"})
		if err := makeVaultDir(v.dir); err != nil {
			t.Fatal(err)
		}
		fillDir(t, v.dir, map[string]string{"acme.deleting": text})
		if _, err := v.Create(vaultID, data, []string{"a"}); err == nil {
			t.Errorf("marker %q is taken", text)
		}
		sameFiles(t, contents(t, data), map[string]string{"a": "1"})
	}
}

// fullDisk has room for some bytes.
type fullDisk struct {
	w    io.Writer
	room *int
}

func (d fullDisk) Write(p []byte) (int, error) {
	if len(p) <= *d.room {
		*d.room -= len(p)
		return d.w.Write(p)
	}
	n, err := d.w.Write(p[:*d.room])
	*d.room = 0
	return n, errors.Join(err, syscall.ENOSPC)
}

func withRoom(v *Store, room int) *Store {
	limited := *v
	limited.fault = func(w io.Writer) io.Writer { return fullDisk{w, &room} }
	return &limited
}

// untilItFits gives a call more and more room; before there is enough it must
// say ENOSPC and leave everything as it was.
func untilItFits(t *testing.T, call func(room int) error, untouched func()) {
	t.Helper()
	fails := 0
	for room := 0; ; room += 1 + room/8 {
		err := call(room)
		if err == nil {
			break
		}
		fails++
		wantError(t, err, syscall.ENOSPC)
		untouched()
	}
	if fails < 10 {
		t.Errorf("the disk was full only %d times", fails)
	}
}

// badDisk writes something else than it was given, and does not say so.
type badDisk struct{ w io.Writer }

func (d badDisk) Write(p []byte) (int, error) {
	p = bytes.Clone(p)
	p[len(p)/2] ^= 1
	return d.w.Write(p)
}

func TestStoreOnABadDisk(t *testing.T) {
	v, data := fixedVault(t), filled(t, map[string]string{"a": "1"})
	v.fault = func(w io.Writer) io.Writer { return badDisk{w} }
	_, err := v.Create(vaultID, data, []string{"a"})
	wantError(t, err, errDamaged)
	sameFiles(t, contents(t, data), map[string]string{"a": "1"})
	onlyArchives(t, v.dir, 0)
}

// TestStoreOfNamesInDisorder: a name given twice is one file.
func TestStoreOfNamesInDisorder(t *testing.T) {
	v, data := fixedVault(t), filled(t, map[string]string{"a": "1", "b": "2"})
	if _, err := v.Create(vaultID, data, []string{"b", "a", "b"}); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, inArchives(t, v.dir), map[string]string{"a": "1", "b": "2"})
	sameFiles(t, contents(t, data), nil)
}

func TestStoreOnAFullDisk(t *testing.T) {
	v, data := fixedVault(t), filled(t, someFiles)
	names, err := flatFiles(data)
	if err != nil {
		t.Fatal(err)
	}
	untilItFits(t, func(room int) error {
		_, err := withRoom(v, room).Create(vaultID, data, names)
		return err
	}, func() {
		sameFiles(t, contents(t, data), someFiles)
		onlyArchives(t, v.dir, 0)
	})
	onlyArchives(t, v.dir, 1)
	sameFiles(t, inArchives(t, v.dir), someFiles)
}

func TestRestoreOnAFullDisk(t *testing.T) {
	v, data := fixedVault(t), filled(t, someFiles)
	archive := mustStore(t, v, data)
	untilItFits(t, func(room int) error {
		_, err := withRoom(v, room).Restore(vaultID, archive, data, nil, anyName)
		return err
	}, func() {
		sameFiles(t, contents(t, data), nil)
		nothingHidden(t, data)
	})
	sameFiles(t, contents(t, data), someFiles)
}
