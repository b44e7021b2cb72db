package archive

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCreateAndRestore(t *testing.T) {
	s, data := newStore(t), filled(t, someFiles)
	mtime := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	if err := os.Chtimes(filepath.Join(data, "a.phext"), mtime, mtime); err != nil {
		t.Fatal(err)
	}
	archive := mustCreate(t, s, data)
	if want := filepath.Join(s.dir, "acme-20260304T120000.000000005Z.tar.gz"); archive != want {
		t.Errorf("archive %s, want %s", archive, want)
	}
	sameFiles(t, contents(t, data), nil)
	sameFiles(t, inArchives(t, s.dir), someFiles)
	wantMode(t, s.dir, fs.ModeDir|0o700)
	wantMode(t, archive, 0o600)

	n, err := s.Restore(tenantID, filepath.Base(archive), data, nil, anyName)
	if err != nil || n != len(someFiles) {
		t.Fatalf("restored %d, %v", n, err)
	}
	sameFiles(t, contents(t, data), someFiles)
	info := wantMode(t, filepath.Join(data, "a.phext"), 0o640)
	if !info.ModTime().Equal(mtime) {
		t.Errorf("mtime %v, want %v", info.ModTime(), mtime)
	}
	onlyArchives(t, s.dir, 1)
	nothingHidden(t, data)
}

func TestCreateTwiceIsTheSameArchive(t *testing.T) {
	s, data := newStore(t), filled(t, someFiles)
	first := mustCreate(t, s, data)
	if again := mustCreate(t, s, data); again != first {
		t.Errorf("the second call made %s", again)
	}
	onlyArchives(t, s.dir, 1)
}

func TestCreateOfNothing(t *testing.T) {
	s := newStore(t)
	archive, err := s.Create(tenantID, filepath.Join(t.TempDir(), "never-made"), nil, noted)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "new")
	if n, err := s.Restore(tenantID, archive, data, nil, anyName); n != 0 || err != nil {
		t.Errorf("restored %d, %v", n, err)
	}
	onlyArchives(t, s.dir, 1)
}

// TestNewestIsTheLastMade has a clock that stands still and one that goes back.
func TestNewestIsTheLastMade(t *testing.T) {
	s, last := newStore(t), ""
	for hours := range 3 {
		at := s.now().Add(-time.Duration(hours) * time.Hour)
		s := &Store{dir: s.dir, now: func() time.Time { return at }}
		archive := mustCreate(t, s, filled(t, map[string]string{"a": "x"}))
		if latest, err := s.Latest(tenantID); latest != archive || archive <= last || err != nil {
			t.Errorf("latest %s, made %s after %s, %v", latest, archive, last, err)
		}
		last = archive
	}
	onlyArchives(t, s.dir, 3)
}

func TestLatestIsOfTheTenantOnly(t *testing.T) {
	s := newStore(t)
	if got, err := s.Latest(tenantID); got != "" || err != nil {
		t.Errorf("latest without a directory: %q, %v", got, err)
	}
	mustCreate(t, s, filled(t, someFiles))
	stamp := "20300101T000000.000000000Z"
	fillDir(t, s.dir, map[string]string{
		"acme-two-" + stamp + ".tar.gz": "", "acme-" + stamp + ".tar.gz.partial": "", "acme-2030.tar.gz": "",
	})
	if err := os.Mkdir(filepath.Join(s.dir, "acme-"+stamp+".tar.gz"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Latest(tenantID); !strings.Contains(got, "acme-2026") || err != nil {
		t.Errorf("latest %q, %v", got, err)
	}
	_, err := s.Latest("../x")
	wantError(t, err, errBadRequest)
}

func TestCreateRefuses(t *testing.T) {
	data := filled(t, map[string]string{"a": "1", "b": "2"})
	if err := os.Symlink("a", filepath.Join(data, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(data, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
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
		{"../acme", "a", errBadRequest},
		{"", "a", errBadRequest},
		{".hidden", "a", errBadRequest},
	} {
		t.Run(test.id+" "+test.file, func(t *testing.T) {
			s := newStore(t)
			_, err := s.Create(test.id, data, []string{"a", test.file}, noted)
			wantError(t, err, test.want)
			sameFiles(t, contents(t, data), map[string]string{"a": "1", "b": "2"})
			if left, _ := os.ReadDir(s.dir); len(left) != 0 { // there may be no directory
				t.Errorf("it left %v", left)
			}
		})
	}
}

// at returns a Store that calls do when it reaches a step for the first time.
func at(s *Store, step string, do func()) *Store {
	changed := *s
	changed.step = func(name string) {
		if name == step && do != nil {
			do()
			do = nil
		}
	}
	return &changed
}

// TestCreateOfChangingFiles writes to a file between two steps of Create. It has
// to fail and keep the file; the next call archives what is there.
func TestCreateOfChangingFiles(t *testing.T) {
	for _, step := range []string{"measured", "manifest written", "verified", "marked", "named", "published"} {
		for _, now := range []string{"longer than before", "s", "other"} {
			t.Run(step+" "+now, func(t *testing.T) {
				s, data := newStore(t), filled(t, map[string]string{"a": "first", "b": "short"})
				names := []string{"a", "b"}
				_, err := at(s, step, func() { fillDir(t, data, map[string]string{"b": now}) }).Create(tenantID, data, names, noted)
				wantError(t, err, errChanged)
				if contents(t, data)["b"] != now {
					t.Error("what was written is gone")
				}
				if step == "measured" || step == "manifest written" {
					onlyArchives(t, s.dir, 0)
				}
				mustCreate(t, s, data)
				sameFiles(t, inArchives(t, s.dir), map[string]string{"a": "first", "b": now})
			})
		}
	}
}

// TestCreateOfNewFilesAfterAnInterruption expects two archives: the first does
// not hold the new file.
func TestCreateOfNewFilesAfterAnInterruption(t *testing.T) {
	s, data := newStore(t), filled(t, map[string]string{"a": "1", "b": "2"})
	o := order{Dir: s.dir, DataDir: data, Kill: 1}
	for len(contents(t, data)) == 2 {
		o.run(t)
		o.Kill++
	}
	first, err := s.Latest(tenantID)
	if err != nil {
		t.Fatal(err)
	}
	fillDir(t, data, map[string]string{"c": "3"})
	s.now = time.Now
	if second := mustCreate(t, s, data); second == first {
		t.Error("the first archive is said to hold what came later")
	}
	sameFiles(t, inArchives(t, s.dir), map[string]string{"a": "1", "b": "2", "c": "3"})
	onlyArchives(t, s.dir, 2)
}

// TestCreateWithADamagedArchive expects that nothing is removed because of a
// marker whose archive is damaged.
func TestCreateWithADamagedArchive(t *testing.T) {
	s, data := newStore(t), filled(t, map[string]string{"a": "1"})
	broken := at(s, "published", func() {
		path, _ := s.Latest(tenantID) // "" cannot be truncated
		if err := errors.Join(os.Truncate(path, 50), os.WriteFile(filepath.Join(data, "a"), []byte("2"), 0o600)); err != nil {
			t.Error(err)
		}
	})
	_, err := broken.Create(tenantID, data, []string{"a"}, noted)
	wantError(t, err, errChanged)
	_, err = s.Create(tenantID, data, []string{"a"}, noted)
	wantError(t, err, errDamaged)
	sameFiles(t, contents(t, data), map[string]string{"a": "2"})
}

// TestCreateWithADamagedMarker goes on with the newest archive, if that has the files that are
// left. Before there is any, nothing was removed.
func TestCreateWithADamagedMarker(t *testing.T) {
	for _, text := range []string{"", "{", `{"archive":"../x"}`, `{"archive":"other-20260304T120000.000000005Z.tar.gz"}`} {
		t.Run(text, func(t *testing.T) {
			s, data := newStore(t), filled(t, map[string]string{"a": "1", "b": "2"})
			damage := map[string]string{"acme.deleting": text}
			if err := makeDir(s.dir); err != nil {
				t.Fatal(err)
			}
			fillDir(t, s.dir, damage)
			if path, err := s.Deleting(tenantID); path != "" || err != nil {
				t.Errorf("without an archive: %q, %v", path, err)
			}
			cut := errors.New("cut off")
			path, err := s.Create(tenantID, data, []string{"a", "b"}, func([]string) error { return cut })
			wantError(t, err, cut)
			fillDir(t, s.dir, damage)
			fillDir(t, data, map[string]string{"b": "2"})
			if unfinished, err := s.Deleting(tenantID); unfinished != path || err != nil {
				t.Errorf("Deleting is %q, %v, want %q", unfinished, err, path)
			}
			if again, err := s.Create(tenantID, data, []string{"b"}, noted); again != path || err != nil {
				t.Errorf("Create again is %q, %v, want %q", again, err, path)
			}
			sameFiles(t, contents(t, data), nil)
			sameFiles(t, inArchives(t, s.dir), map[string]string{"a": "1", "b": "2"})
			onlyArchives(t, s.dir, 1)
		})
	}
}

// fullDisk takes some bytes and then fails.
type fullDisk struct {
	w    io.Writer
	room *int // bytes
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

func withRoom(s *Store, room int) *Store {
	limited := *s
	limited.fault = func(w io.Writer) io.Writer { return fullDisk{w, &room} }
	return &limited
}

// untilItFits repeats a call with more and more room. Until there is enough, the
// call must fail with ENOSPC and leave everything as it was.
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

// badDisk changes what it writes and returns no error.
type badDisk struct{ w io.Writer }

func (d badDisk) Write(p []byte) (int, error) {
	p = bytes.Clone(p)
	p[len(p)/2] ^= 1
	return d.w.Write(p)
}

func TestCreateOnABadDisk(t *testing.T) {
	s, data := newStore(t), filled(t, map[string]string{"a": "1"})
	s.fault = func(w io.Writer) io.Writer { return badDisk{w} }
	_, err := s.Create(tenantID, data, []string{"a"}, noted)
	wantError(t, err, errDamaged)
	sameFiles(t, contents(t, data), map[string]string{"a": "1"})
	onlyArchives(t, s.dir, 0)
}

func TestCreateSortsNames(t *testing.T) {
	s, data := newStore(t), filled(t, map[string]string{"a": "1", "b": "2"})
	if _, err := s.Create(tenantID, data, []string{"b", "a", "b"}, noted); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, inArchives(t, s.dir), map[string]string{"a": "1", "b": "2"})
	sameFiles(t, contents(t, data), nil)
}

func TestCreateOnAFullDisk(t *testing.T) {
	s, data := newStore(t), filled(t, someFiles)
	names, err := flatFiles(data)
	if err != nil {
		t.Fatal(err)
	}
	untilItFits(t, func(room int) error {
		_, err := withRoom(s, room).Create(tenantID, data, names, noted)
		return err
	}, func() {
		sameFiles(t, contents(t, data), someFiles)
		onlyArchives(t, s.dir, 0)
	})
	onlyArchives(t, s.dir, 1)
	sameFiles(t, inArchives(t, s.dir), someFiles)
}

func TestRestoreOnAFullDisk(t *testing.T) {
	s, data := newStore(t), filled(t, someFiles)
	archive := mustCreate(t, s, data)
	untilItFits(t, func(room int) error {
		_, err := withRoom(s, room).Restore(tenantID, archive, data, nil, anyName)
		return err
	}, func() {
		sameFiles(t, contents(t, data), nil)
		nothingHidden(t, data)
	})
	sameFiles(t, contents(t, data), someFiles)
}

// TestDeletingUntilItIsNoted looks between any two steps, as after a crash: where files are
// gone, and that is not noted yet, Deleting says so.
func TestDeletingUntilItIsNoted(t *testing.T) {
	s, data := newStore(t), filled(t, someFiles)
	look, isNoted, found := New(s.dir, s.now), false, 0
	s.step = func(step string) {
		archive, err := look.Deleting(tenantID)
		if err != nil {
			t.Errorf("%s: %v", step, err)
		}
		if archive != "" {
			found++
		} else if len(contents(t, data)) < len(someFiles) && !isNoted {
			t.Errorf("%s: nobody knows that files are gone", step)
		}
	}
	names, err := flatFiles(data)
	if err != nil {
		t.Fatal(err)
	}
	var gone []string
	path, err := s.Create(tenantID, data, names, func(files []string) error {
		gone, isNoted = files, true
		return errNotBase
	})
	if deleting, e := look.Deleting(tenantID); !errors.Is(err, errNotBase) || deleting != path || e != nil || found == 0 {
		t.Errorf("not noted: %v; deleting into %q, not %q, %v", err, deleting, path, e)
	}
	if slices.Sort(names); !slices.Equal(gone, names) {
		t.Errorf("%q are gone, not %q", gone, names)
	}
	gone = nil
	again, err := s.Create(tenantID, data, nil, func(files []string) error { gone = files; return nil })
	if err != nil || again != path || !slices.Equal(gone, names) {
		t.Errorf("again: %s, not %s, %v, %q are gone", again, path, err, gone)
	}
	if deleting, err := look.Deleting(tenantID); deleting != "" || err != nil {
		t.Errorf("noted, and still deleting into %q, %v", deleting, err)
	}
}

func TestLatestSince(t *testing.T) {
	s := newStore(t)
	path := mustCreate(t, s, filled(t, someFiles))
	for since, want := range map[time.Time]string{{}: path, s.now().Add(time.Minute): ""} {
		if got, err := s.LatestSince(tenantID, since); got != want || err != nil {
			t.Errorf("since %s: %q, %v, not %q", since, got, err, want)
		}
	}
	if got, err := s.LatestSince("other", time.Time{}); got != "" || err != nil {
		t.Errorf("of another: %q, %v", got, err)
	}
	mustCreate(t, s, t.TempDir()) // the same archive
	s = newStore(t)
	mustCreate(t, s, t.TempDir())
	if got, err := s.LatestSince(tenantID, time.Time{}); got != "" || err != nil {
		t.Errorf("of nothing: %q, %v", got, err)
	}
}
