package tenants

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	two := func(a, b, shared string) error {
		_, err := Parse(fmt.Appendf(nil, `{"tenants": [{"id": "a", "api_key": %q, "data_dir": %q%s}, {"id": "b", "api_key": %q, "data_dir": %q%s}]}`,
			key(t), a, shared, key(t), b, shared))
		return err
	}
	if err := two(dir+"/a", dir+"/a/tenants/b", ""); err != nil {
		t.Errorf("one inside another: %v", err)
	}
	if err := two(dir+"/a", dir+"/link", ""); err == nil {
		t.Error("a symbolic link hid that two tenants have one directory")
	}
	if err := two(dir+"/a/new", dir+"/link/new", ""); err == nil {
		t.Error("a symbolic link above a directory yet to be made hid that two tenants have one")
	}
	if err := two(dir+"/a", dir+"/a", `, "shared_data_dir": true`); err != nil {
		t.Errorf("shared by both: %v", err)
	}
}
