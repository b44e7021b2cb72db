package fsutil

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReplaceByAUserWhoMayNotChown replaces a missing file as a user who may write
// to its directory, but may not give files to the owner of the directory.
func TestReplaceByAUserWhoMayNotChown(t *testing.T) {
	const nobody = 65534
	if path := os.Getenv("PUT_BACK"); path != "" {
		if err := Replace(path, "what it held", NewFileMode, false); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	dir, err := os.MkdirTemp("", "owned")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "n.phext")
	cmd := exec.Command(program, "-test.run=TestReplaceByAUser")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PUT_BACK="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != nobody || info.Mode() != NewFileMode&^Umask() {
		t.Errorf("owner %d, mode %v", st.Uid, info.Mode())
	}
}

// TestDirectoryThatChangesNewFiles has a directory whose group new files get.
func TestDirectoryThatChangesNewFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory to another group")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "n.phext")
	if err := os.WriteFile(path, nil, NewFileMode); err != nil {
		t.Fatal(err)
	}
	if !CanBeRecreated(path) {
		t.Error("a file in a plain directory cannot be recreated")
	}
	if err := os.Chown(dir, -1, 4242); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if CanBeRecreated(path) {
		t.Error("the new file would have another group")
	}
}

// TestCanBeRecreated says no to every file that a new one would differ from.
func TestCanBeRecreated(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(dir, path string) error
	}{
		{"another mode", func(_, path string) error { return os.Chmod(path, 0o600) }},
		{"a second name", func(dir, path string) error { return os.Link(path, filepath.Join(dir, "b.phext")) }},
		{"a symbolic link", func(_, path string) error {
			return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		}},
		{"no file", func(_, path string) error { return os.Remove(path) }},
		{"a directory", func(_, path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o777)) }},
		{"an attribute", func(_, path string) error {
			if unix.Setxattr(path, "user.note", []byte("x"), 0) != nil {
				return os.Remove(path) // this file system has no attributes
			}
			return nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "n.phext")
			if err := os.WriteFile(path, []byte("x"), NewFileMode); err != nil {
				t.Fatal(err)
			}
			if !CanBeRecreated(path) {
				t.Fatal("not even a file that was just made")
			}
			if err := test.change(dir, path); err != nil {
				t.Fatal(err)
			}
			if CanBeRecreated(path) {
				t.Error("it would not be the same")
			}
		})
	}
}

// TestInMemory has the numbers that statfs(2) gives. That of ramfs is negative where
// its field has 32 bits.
func TestInMemory(t *testing.T) {
	for magic, want := range map[uint32]bool{unix.TMPFS_MAGIC: true, unix.RAMFS_MAGIC: true, unix.EXT4_SUPER_MAGIC: false, unix.BTRFS_SUPER_MAGIC: false} {
		var fs unix.Statfs_t
		setNumber(&fs.Type, magic)
		if InMemory(&fs) != want || FileSystemType(&fs) != magic {
			t.Errorf("%x: in memory %v, as %x", magic, InMemory(&fs), FileSystemType(&fs))
		}
	}
}

func setNumber[T int32 | int64](field *T, number uint32) { *field = T(number) }
