package fsutil

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func TestReplaceKeepsTheModeAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "notes.phext")
	if err := Replace(path, "one", 0o644, true); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := Identify(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, "two", 0o644, false); err != nil {
		t.Fatal(err)
	}
	after, err := Identify(path)
	if err != nil || after == before || !after.Exists() || after.Size != 3 {
		t.Errorf("identity after: %+v, %v; before %+v", after, err, before)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// TestReplaceKeepsExtendedAttributes, as an operator's access list is one.
func TestReplaceKeepsExtendedAttributes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.phext")
	if err := Replace(path, "one", 0o644, false); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, "user.note", []byte("kept"), 0); err == unix.ENOTSUP {
		t.Skip("the file system has no such attributes")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, "two", 0o644, false); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 8)
	if n, err := unix.Getxattr(path, "user.note", value); err != nil || string(value[:n]) != "kept" {
		t.Errorf("%q, %v", value, err)
	}
}

func TestReplacePrivateTakesRightsAwayAndKeepsTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	if err := os.WriteFile(path, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	owner := os.Geteuid()
	if owner == 0 { // only root can give a file away
		owner = 4242
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := ReplacePrivate(path, "two"); err != nil {
		t.Fatal(err)
	}
	mustBe(t, path, "two", 0o600)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != owner {
		t.Errorf("it belongs to %d now, and to %d before", st.Uid, owner)
	}
}

// TestReplaceAFileOfAGroupOfOthers as a user who may not give files to its group: that
// counts for nothing if the group has no rights.
func TestReplaceAFileOfAGroupOfOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT ROOT: becoming another user takes its rights")
	}
	const other = 4001
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.Chown(path, other, 0), os.Chown(dir, other, 0), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	asOther := func(do func() error) error {
		result := make(chan error)
		go func() {
			runtime.LockOSThread() // to its end: it is that user's for good
			_, err := unix.SetfsgidRetGid(other)
			_, err2 := unix.SetfsuidRetUid(other)
			result <- errors.Join(err, err2, do())
		}()
		return <-result
	}
	if err := asOther(func() error { return Replace(path, "new", 0o600, false) }); err != nil {
		t.Errorf("mode 0600: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "new" {
		t.Errorf("%q, %v", text, err)
	}
	if err := errors.Join(os.Chown(path, other, 0), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	if err := asOther(func() error { return Replace(path, "newer", 0o600, false) }); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("mode 0640: %v", err)
	}
}

func TestCreatePrivateNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tenants.json")
	if err := CreatePrivate(path, "one"); err != nil {
		t.Fatal(err)
	}
	if err := CreatePrivate(path, "two"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	mustBe(t, path, "one", 0o600)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestReplacePrivateFromKeepsTheOldFileIfReadingFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "backup.tar")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the connection broke")
	if _, err := ReplacePrivateFrom(path, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	mustBe(t, path, "old", 0o644)
	if size, err := ReplacePrivateFrom(path, strings.NewReader("whole")); err != nil || size != 5 {
		t.Errorf("%d bytes, %v", size, err)
	}
	mustBe(t, path, "whole", 0o600)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestRenameNoReplace(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, path := range []string{from, to} {
		if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RenameNoReplace(from, to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the name is taken: %v", err)
	}
	mustBe(t, from, from, 0o600)
	mustBe(t, to, to, 0o600)
	free := filepath.Join(dir, "free")
	if err := RenameNoReplace(from, free); err != nil {
		t.Fatal(err)
	}
	mustBe(t, free, from, 0o600)
	if err := RenameNoReplace(from, free); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was renamed already: %v", err)
	}
}

func mustBe(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != mode {
		t.Errorf("mode %v", info.Mode())
	}
}

// TestResolve has symbolic links in front of parts that cannot be followed.
func TestResolve(t *testing.T) {
	dir := Resolve(t.TempDir())
	for name, to := range map[string]string{"link": "real", "loop": "loop", "away": "disk/data", "far": "link/../away"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"link":           "real",
		"link/new/one":   "real/new/one",
		"link/file/none": "real/file/none",
		"loop":           "loop",
		"away":           "disk/data", // of a disk that is not mounted
		"far/new":        "disk/data/new",
	} {
		if got := Resolve(filepath.Join(dir, path)); got != filepath.Join(dir, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestIdentifyOfNothingAndOfADirectory(t *testing.T) {
	dir := t.TempDir()
	if id, err := Identify(filepath.Join(dir, "none")); err != nil || id.Exists() {
		t.Errorf("no file: %+v, %v", id, err)
	}
	if _, err := Identify(dir); err == nil {
		t.Error("a directory was taken for a file")
	}
}

func TestAFailedReplaceChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, "text", 0o644, true); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestReservedSpaceIsUsedOrReleased(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "notes.phext")
	if err := os.WriteFile(path, []byte("torn"), 0o640); err != nil {
		t.Fatal(err)
	}
	s, err := ReserveSpace(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(path, strings.NewReader("whole"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Release()
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "whole" {
		t.Errorf("%q, %v", text, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if s, err = ReserveSpace(path, 100); err != nil {
		t.Fatal(err)
	}
	s.Release()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}
