package fsutil

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenRegular opens what may lie at the path of a phext. Where a FIFO were
// opened as a file is, the test would not end.
func TestOpenRegular(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.WriteFile(path("file"), []byte("text"), 0o600), os.WriteFile(path("secret"), []byte("key"), 0o600), os.Mkdir(path("directory"), 0o700),
		unix.Mkfifo(path("fifo"), 0o600), os.Symlink("file", path("link")), os.Symlink("secret", path("leak")), os.Symlink("nothing", path("lost")),
		os.Symlink("link", path("twice")), os.Symlink("fifo", path("link to a fifo")), os.Symlink("circle", path("circle")),
	); err != nil {
		t.Fatal(err)
	}
	onlyFile := Links(func(link, target string, _ FileID) bool { return filepath.Dir(link) == dir && target == path("file") })
	for _, test := range []struct {
		name     string
		links    Links
		want     error
		identify error // where it is another
	}{
		{"file", nil, nil, nil},
		{"none", nil, fs.ErrNotExist, nil},
		{"directory", nil, ErrNotRegular, ErrNotRegular},
		{"fifo", nil, ErrNotRegular, ErrNotRegular},
		{"link", nil, ErrLink, ErrLink},
		{"lost", nil, ErrLink, ErrLink},
		{"fifo", onlyFile, ErrNotRegular, ErrNotRegular},
		{"link", onlyFile, nil, nil},
		{"twice", onlyFile, nil, nil},
		{"leak", onlyFile, ErrLink, ErrLink},
		{"lost", onlyFile, ErrLink, ErrLink},
		{"link to a fifo", func(string, string, FileID) bool { return true }, ErrNotRegular, ErrNotRegular},
		{"circle", onlyFile, ErrLink, ErrLink},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, id, err := test.links.Open(path(test.name))
			if !errors.Is(err, test.want) {
				t.Fatalf("Open: %v, want %v", err, test.want)
			}
			found, identified := test.links.Identify(path(test.name))
			if !errors.Is(identified, test.identify) || found != id {
				t.Errorf("Identify: %v %v, want %v %v", found, identified, id, test.identify)
			}
			if f == nil {
				return
			}
			text, err := io.ReadAll(f)
			if err := errors.Join(err, f.Close()); err != nil || string(text) != "text" {
				t.Errorf("%q, %v", text, err)
			}
			if target, err := test.links.Target(path(test.name)); err != nil || target != path("file") {
				t.Errorf("the target is %q, %v", target, err)
			}
		})
	}
}

// TestOpenAFileThatIsMounted by itself, directly and behind a link.
func TestOpenAFileThatIsMounted(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(path("secret"), []byte("text"), 0o600), os.WriteFile(path("file"), nil, 0o600), os.Symlink("file", path("link"))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(path("secret"), path("file"), "", unix.MS_BIND, ""); err != nil {
		t.Skip("nothing can be mounted: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path("file"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if st, err := stat(unix.AT_FDCWD, path("file"), 0); err != nil || st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		t.Skip("the kernel does not say what is a mount: ", err)
	}
	all := Links(func(string, string, FileID) bool { return true })
	for name, want := range map[string]error{"secret": nil, "file": ErrMount, "link": ErrMount} {
		f, _, err := all.Open(path(name))
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		_, identified := all.Identify(path(name))
		_, targeted := all.Target(path(name))
		for _, got := range []error{err, identified, targeted} {
			if !errors.Is(got, want) {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
	if text, err := ReadFile(path("file")); err != nil || string(text) != "text" {
		t.Errorf("a file of sqgate's own: %q, %v", text, err)
	}
}

// TestIdentifyWithoutStatx says the same as with it.
func TestIdentifyWithoutStatx(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(path, []byte("text"), 0o600), os.Link(path, path+" too")); err != nil {
		t.Fatal(err)
	}
	var old unix.Stat_t
	if err := unix.Lstat(path, &old); err != nil {
		t.Fatal(err)
	}
	st := asStatx(&old)
	without, err := Links(nil).idOf(path, &st)
	with, failed := Identify(path)
	if err := errors.Join(err, failed); err != nil || without != with || st.Nlink != 2 {
		t.Errorf("%v with %d names, and %v: %v", without, st.Nlink, with, err)
	}
}

// TestOpenOwn opens what may lie in the place of a file of sqgate's own. Where a FIFO were opened as
// a file or a directory is, the test would not end.
func TestOpenOwn(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(path("file"), []byte("text"), 0o600), os.Mkdir(path("directory"), 0o700),
		unix.Mkfifo(path("fifo"), 0o600), os.Symlink("file", path("link")), os.Symlink("/dev/zero", path("zero"))); err != nil {
		t.Fatal(err)
	}
	if text, err := ReadFile(path("file")); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := ReadFile(path("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	for _, name := range []string{"directory", "fifo", "link", "zero"} {
		var with *fs.PathError
		if _, err := ReadFile(path(name)); !errors.Is(err, ErrNotRegular) || !errors.As(err, &with) || with.Path != path(name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := errors.Join(SyncDir(dir), SyncDir(path("directory"))); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"file", "fifo"} {
		if err := SyncDir(path(name)); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s, synced as a directory: %v", name, err)
		}
	}
}
