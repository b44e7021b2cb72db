package fsutil

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBirthOf tells a directory from a copy of it.
func TestBirthOf(t *testing.T) {
	dir := t.TempDir()
	first, err := BirthOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first == (Birth{}) {
		t.Skip("the file system does not keep it")
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := BirthOf(dir); again != first || err != nil {
		t.Errorf("%s, %v, want %s", again, err, first)
	}
	if other, err := BirthOf("."); other == first || err != nil {
		t.Errorf("another directory: %s, %v", other, err)
	}
	if none, err := BirthOf(filepath.Join(dir, "none")); none != (Birth{}) || err != nil {
		t.Errorf("nothing: %q, %v", none, err)
	}
}

// TestBirthOnOverlayfs is that of the same directory before and after the first change in it.
func TestBirthOnOverlayfs(t *testing.T) {
	at := t.TempDir()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("nothing can be mounted: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	in := func(parts ...string) string { return filepath.Join(append([]string{at}, parts...)...) }
	for _, dir := range []string{in("lower", "data"), in("upper"), in("work"), in("merged")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", in("merged"), "overlay", 0, "lowerdir="+in("lower")+",upperdir="+in("upper")+",workdir="+in("work")); err != nil {
		t.Skip("there is no overlayfs: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(in("merged"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	data := in("merged", "data")
	before, err := BirthOf(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if after, err := BirthOf(data); after != before || err != nil {
		t.Errorf("%q, %v, want %q", after, err, before)
	}
}

// TestPlace is what the two others say, in one.
func TestPlace(t *testing.T) {
	dir := t.TempDir()
	birth, err := BirthOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if node, born := Place(dir); node != NodeOf(dir) || birth != (Birth{}) && born != birth {
		t.Errorf("%+v born %v, and not %+v born %v", node, born, NodeOf(dir), birth)
	}
	if node, _ := Place(filepath.Join(dir, "none")); node != (Node{}) {
		t.Errorf("nothing has %+v", node)
	}
}
