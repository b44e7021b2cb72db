package tenants

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// parseTenants makes a snapshot of entries, each with a key of its own.
func parseTenants(t *testing.T, entries ...map[string]any) *Snapshot {
	t.Helper()
	for _, e := range entries {
		key, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		e["api_key"] = key
	}
	text, err := json.Marshal(map[string]any{"tenants": entries})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// saysNothing is of directories that do not say whose they are.
func saysNothing(string, *Snapshot) *Tenant { return nil }

func TestFollowLinks(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(path string) string { return filepath.Join(root, path) }
	for _, dir := range []string{"data/will", "data/bob", "shared", "etc", "state", "disk"} {
		if err := os.MkdirAll(at(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"will": "data/will", "config": "etc/tenants.json", "state link": "state"} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("etc/tenants.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := parseTenants(t,
		map[string]any{"id": "default", "data_dir": at("data"), "follow_links": true},
		map[string]any{"id": "will", "data_dir": at("will"), "follow_links": true},
		map[string]any{"id": "bob", "data_dir": at("data/bob")},
		map[string]any{"id": "one", "data_dir": at("shared"), "follow_links": true, "shared_data_dir": true},
		map[string]any{"id": "two", "data_dir": at("shared"), "follow_links": true, "shared_data_dir": true},
	)
	links := FollowLinks(func() *Snapshot { return s }, saysNothing, at("config"), at("state link"), "", at("archive"))
	for _, test := range []struct {
		link, target string
		want         bool
	}{
		{"will/a.phext", "disk/a.phext", true},
		{"data/will/a.phext", "disk/a.phext", true},
		{"data/will/a.phext", "data/will/a.phext.old", true},
		{"data/will/a.phext", "data/will/big/a.phext", true},
		{"data/a.phext", "data/big/a.phext", true},
		{"shared/one.a.phext", "disk/a.phext", true},
		{"data/bob/a.phext", "disk/a.phext", false},
		{"nobody/a.phext", "disk/a.phext", false},
		{"data/will/a.phext", "etc/tenants.json", false},
		{"data/will/a.phext", "etc/tenants.json.before-sqgate", false},
		{"data/will/a.phext", "state/journal/1/a.phext", false},
		{"data/will/a.phext", "archive/bob.tar.gz", false},
		{"data/will/a.phext", "archives.phext", true},
		{"data/will/a.phext", "data/bob/a.phext", false},
		{"data/a.phext", "data/bob/a.phext", false},
		{"data/will/a.phext", "data/a.phext", false},
		{"data/will/a.phext", "shared/one.a.phext", false},
		{"shared/one.a.phext", "shared/two.a.phext", false},
	} {
		if got := links(at(test.link), at(test.target), fsutil.FileID{}); got != test.want {
			t.Errorf("%s -> %s: %v", test.link, test.target, got)
		}
	}
}

// TestALinkToWhatIsMounted leads to directories by the path that a bind mount has them from, or
// has given them.
func TestALinkToWhatIsMounted(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(path string) string { return filepath.Join(root, path) }
	for _, dir := range []string{"will", "bob", "sub", "etc", "state", "disk/will", "disk/bob/sub", "disk/etc", "disk/state/journal", "shared", "shared too", "mounted"} {
		if err := os.MkdirAll(at(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"disk/etc/tenants.json", "mounted/file.phext"} {
		if err := os.WriteFile(at(file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, mount := range [][2]string{{"disk/will", "will"}, {"disk/bob", "bob"}, {"disk/bob/sub", "sub"}, {"disk/etc", "etc"}, {"disk/state", "state"}, {"shared", "shared too"}, {"disk/etc/tenants.json", "mounted/file.phext"}} {
		if err := unix.Mount(at(mount[0]), at(mount[1]), "", unix.MS_BIND, ""); err != nil {
			t.Skip("nothing can be mounted: ", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(at(mount[1]), unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	s := parseTenants(t,
		map[string]any{"id": "will", "data_dir": at("will"), "follow_links": true},
		map[string]any{"id": "bob", "data_dir": at("bob")},
		map[string]any{"id": "carol", "data_dir": at("sub"), "follow_links": true},
		map[string]any{"id": "one", "data_dir": at("shared"), "follow_links": true, "shared_data_dir": true},
		map[string]any{"id": "two", "data_dir": at("shared"), "follow_links": true, "shared_data_dir": true},
	)
	links := FollowLinks(func() *Snapshot { return s }, saysNothing, at("etc/tenants.json"), at("state"))
	for _, test := range []struct {
		link, target string
		want         bool
	}{
		{"will/a.phext", "disk/a.phext", true},
		{"will/a.phext", "will/b.phext", true},
		{"will/a.phext", "disk/will/b.phext", true},
		{"will/a.phext", "bob/a.phext", false},
		{"will/a.phext", "disk/bob/a.phext", false},
		{"will/a.phext", "disk/bob/sub/a.phext", false},
		{"sub/a.phext", "disk/bob/sub/b.phext", true},
		{"sub/a.phext", "disk/bob/b.phext", false},
		{"will/a.phext", "disk/etc/tenants.json.before", false},
		{"will/a.phext", "disk/state/journal/a.phext", false},
		{"will/a.phext", "mounted/file.phext", false},
		{"will/a.phext", "mounted/other.phext", true},
		{"will/a.phext", "shared too/one.a.phext", false},
		{"shared/one.a.phext", "shared too/two.a.phext", false},
	} {
		if got := links(at(test.link), at(test.target), fsutil.FileID{}); got != test.want {
			t.Errorf("%s -> %s: %v", test.link, test.target, got)
		}
	}
}

// TestALinkToADirectoryThatIsNotAtItsPath, but says whose it is.
func TestALinkToADirectoryThatIsNotAtItsPath(t *testing.T) {
	s := parseTenants(t,
		map[string]any{"id": "will", "data_dir": "/data/will", "follow_links": true},
		map[string]any{"id": "bob", "data_dir": "/data/bob"})
	says := map[string]string{"/away/bob": "bob", "/away/will": "will", "/away/gone": "gone", "/data": "bob"}
	tenantOf := func(dir string, known *Snapshot) *Tenant {
		tenant, _ := known.ByUniqueID(says[dir])
		return tenant
	}
	links := FollowLinks(func() *Snapshot { return s }, tenantOf, "/etc/tenants.json")
	for target, want := range map[string]bool{
		"/away/bob/a.phext":      false,
		"/away/bob/sub/a.phext":  false,
		"/away/will/a.phext":     true,
		"/away/gone/a.phext":     true,
		"/away/a.phext":          true,
		"/data/will/sub/a.phext": true, // of directories inside each other, the innermost counts
	} {
		if got := links("/data/will/a.phext", target, fsutil.FileID{}); got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
}

func TestOneDirectoryFollowsLinksOrDoesNot(t *testing.T) {
	text := []byte(`{"tenants": [
		{"id": "one", "api_key": "pmb-v1-00112233445566778899aabbccddeeff", "data_dir": "/d", "shared_data_dir": true, "follow_links": true},
		{"id": "two", "api_key": "pmb-v1-10112233445566778899aabbccddeeff", "data_dir": "/d", "shared_data_dir": true}]}`)
	if _, err := Parse(text); err == nil {
		t.Error("two tenants of one directory differ in follow_links")
	}
}
