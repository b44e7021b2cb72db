package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLinksInADataDirectory has phexts that are symbolic links: to the tenants
// file, to another tenant's phext, and to a file on another disk.
func TestLinksInADataDirectory(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "bob")
		elsewhere := filepath.Join(t.TempDir(), "big.phext")
		if err := os.WriteFile(elsewhere, []byte("big"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"will", "bob"} {
			if err := os.MkdirAll(g.dataDir(id), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		secret := filepath.Join(g.dataDir("bob"), "secret.phext")
		if err := os.WriteFile(secret, []byte("bob's"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, target := range map[string]string{"leak": g.configPath(), "bob": secret, "big": elsewhere} {
			if err := os.Symlink(target, filepath.Join(g.dataDir("will"), name+".phext")); err != nil {
				t.Fatal(err)
			}
		}
		journal := filepath.Join(g.dir, "a disk of its own") // and a file in it by either path
		if err := errors.Join(os.MkdirAll(filepath.Join(g.dir, "state"), 0o700), os.Mkdir(journal, 0o700), os.Symlink(journal, filepath.Join(g.dir, "state", "journal")),
			os.WriteFile(filepath.Join(journal, "file"), []byte("bob's"), 0o600),
			os.Symlink(filepath.Join(journal, "file"), filepath.Join(g.dataDir("will"), "journal.phext")),
			os.Symlink(filepath.Join(g.dir, "state", "journal", "file"), filepath.Join(g.dataDir("will"), "state.phext"))); err != nil {
			t.Fatal(err)
		}
		g.start()
		refused := func(name string) {
			t.Helper()
			for _, r := range []reply{
				g.must("will", "GET", "/api/v2/get?p="+name, "", 502), g.must("will", "POST", at("insert", name, origin), "mine", 502),
				g.must("will", "GET", at("select", name, origin), "", 502), g.must("will", "GET", "/api/v2/load?p="+name, "", 502),
			} {
				if strings.Contains(r.body, g.key("bob")) || strings.Contains(r.body, "bob's") || !strings.Contains(r.body, "symbolic link") {
					t.Errorf("%s: %s", name, r.body)
				}
			}
		}
		for _, name := range []string{"leak", "bob", "big"} {
			refused(name)
		}
		if text, err := os.ReadFile(secret); string(text) != "bob's" {
			t.Errorf("the other tenant's phext: %q, %v", text, err)
		}

		g.set("will", "follow_links", true)
		g.writeFile()
		g.manage("POST", "reload", "", 200)
		for _, name := range []string{"leak", "bob", "journal", "state"} {
			refused(name)
		}
		g.must("will", "POST", at("insert", "big", origin), "ger", 200)
		g.kill()
		g.start()
		g.must("will", "POST", at("insert", "big", "1.1.1/1.1.1/1.1.2"), "more", 200)
		if got := g.get("will", "/api/v2/get?p=big"); got != "bigger\x17more" {
			t.Errorf("through the link: %q", got)
		}
		// What replaces the file is one that the child may not open: it is started anew.
		g.must("will", "POST", "/api/v2/batch?p=big", `{"operations":[{"op":"update","c":"1.1.1/1.1.1/1.1.2","s":"other"}]}`, 200)
		g.must("will", "POST", at("insert", "big", "1.1.1/1.1.1/1.1.2"), "s", 200)
		if got := g.get("will", "/api/v2/get?p=big"); got != "bigger\x17others" {
			t.Errorf("after a batch: %q", got)
		}
		file := filepath.Join(t.TempDir(), "will.tar")
		if out, err := g.operate("backup", "will", file); err == nil {
			t.Errorf("a backup of phexts that cannot be read: %s", out)
		}
		for _, name := range []string{"leak", "bob", "journal", "state"} {
			if err := os.Remove(filepath.Join(g.dataDir("will"), name+".phext")); err != nil {
				t.Fatal(err)
			}
		}
		g.mustOperate("backup", "will", file)
		g.must("will", "POST", at("insert", "big", origin), "!", 200)
		g.mustOperate("restore", "will", "--from", file, "--yes")
		g.must("will", "POST", at("insert", "big", "1.1.1/1.1.1/1.1.2"), "?", 200)
		text, err := os.ReadFile(elsewhere)
		info, failed := os.Lstat(filepath.Join(g.dataDir("will"), "big.phext"))
		if string(text) != "bigger\x17others?" || err != nil || failed != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("after a restore: %q %v, %v %v", text, err, info.Mode(), failed)
		}
	})
}

// TestHardLinksToKeys has phexts that are other names of the operator's keys.
func TestHardLinksToKeys(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	state, metricsKey := filepath.Join(g.dir, "state"), filepath.Join(g.dir, "metrics-key")
	if err := errors.Join(os.MkdirAll(state, 0o700), os.MkdirAll(g.dataDir("will"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"admin": filepath.Join(state, adminKeyFile), "metrics": metricsKey} {
		err := os.WriteFile(file, []byte("an-operators-key-"+name), 0o600)
		if err := errors.Join(err, os.Link(file, filepath.Join(g.dataDir("will"), name+".phext"))); err != nil {
			t.Fatal(err)
		}
	}
	g.env = []string{"SQGATE_METRICS_KEY_FILE=" + metricsKey}
	g.start()
	for _, name := range []string{"admin", "metrics"} {
		if r := g.must("will", "GET", at("select", name, origin), "", 502); !strings.Contains(r.body, "hard link") {
			t.Errorf("%s: %s", name, r.body)
		}
	}
}

// TestMountsInADataDirectory has phexts that are bind mounts of another tenant's phext, one of
// them behind a link. The other phexts are none the worse for them, also after a crash.
func TestMountsInADataDirectory(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will", "bob")
	g.set("will", "follow_links", true)
	g.writeFile()
	g.start()
	for _, name := range []string{"notes", "mounted"} {
		g.must("will", "POST", at("update", name, origin), "mine", 200)
	}
	g.must("bob", "POST", at("update", "secret", origin), "bob's", 200)
	file := filepath.Join(t.TempDir(), "will.tar")
	g.mustOperate("backup", "will", file)
	elsewhere := filepath.Join(t.TempDir(), "linked.phext")
	if err := errors.Join(os.WriteFile(elsewhere, nil, 0o600), os.Symlink(elsewhere, filepath.Join(g.dataDir("will"), "linked.phext"))); err != nil {
		t.Fatal(err)
	}
	for _, mount := range []string{elsewhere, filepath.Join(g.dataDir("will"), "mounted.phext")} {
		if err := unix.Mount(filepath.Join(g.dataDir("bob"), "secret.phext"), mount, "", unix.MS_BIND, ""); err != nil {
			t.Skip("nothing can be mounted: ", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	for range 2 {
		for _, name := range []string{"mounted", "linked"} {
			for _, r := range []reply{g.must("will", "GET", at("select", name, origin), "", 502), g.must("will", "POST", at("update", name, origin), "mine", 502)} {
				if !strings.Contains(r.body, "a mount of its own") {
					t.Errorf("%s: %s", name, r.body)
				}
			}
		}
		if got := g.get("will", "/api/v2/list"); strings.Contains(got, "mounted") || strings.Contains(got, "linked") {
			t.Errorf("the list: %s", got)
		}
		if got := g.get("will", at("select", "notes", origin)); got != "mine" {
			t.Errorf("a phext beside them: %q", got)
		}
		if out, err := g.operate("restore", "will", "--from", file, "--yes"); err == nil {
			t.Errorf("what is mounted was replaced: %s", out)
		}
		if got := g.get("bob", at("select", "secret", origin)); got != "bob's" {
			t.Errorf("the other tenant reads %q", got)
		}
		g.kill()
		g.start()
	}
}

// TestBackupToWhatIsNoFile has the command write to a pipe and to standard
// output, and leave links and devices as they are.
func TestBackupToWhatIsNoFile(t *testing.T) {
	t.Parallel()
	g := startGate(t, "builtin", "will")
	g.must("will", "POST", at("update", "notes", origin), "one", 200)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(path("real.tar"), nil, 0o600), os.Symlink("real.tar", path("link.tar")),
		os.Symlink("nothing", path("lost.tar")), os.Symlink("/dev/null", path("null")), unix.Mkfifo(path("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link.tar", "lost.tar", "null", "."} {
		before, _ := os.Readlink(path(name)) // "" for what is no link
		out, err := g.operate("backup", "will", path(name))
		if after, _ := os.Readlink(path(name)); err == nil || after != before {
			t.Errorf("%s: %v %s; it leads to %q", name, err, out, after)
		}
	}
	if out, err := g.operate("restore", "will", "--from", path("null"), "--yes"); err == nil {
		t.Errorf("restored from a device: %s", out)
	}
	tar := g.mustOperate("backup", "will", "-")
	if again := g.mustOperate("backup", "will", "/dev/stdout"); len(again) != len(tar) || !strings.Contains(again, "MANIFEST.json") {
		t.Errorf("to /dev/stdout: %d bytes and not %d", len(again), len(tar))
	}
	g.must("will", "POST", at("update", "notes", origin), "two", 200)
	g.must("will", "POST", at("update", "new", origin), "new", 200)
	written := make(chan error)
	go func() { written <- os.WriteFile(path("pipe"), []byte(tar), 0) }()
	out := g.mustOperate("restore", "will", "--from", path("pipe"), "--dry-run")
	if err := <-written; err != nil || !strings.Contains(out, "1 of 2 phexts would be removed: new") || strings.Contains(out, "no manifest") {
		t.Errorf("%v %s", err, out)
	}
	go func() { written <- os.WriteFile(path("pipe"), nil, 0) }()
	if out, err := g.operate("restore", "will", "--from", path("pipe"), "--yes"); err == nil || !strings.Contains(out, "not a backup") {
		t.Errorf("an empty tar: %v %s", err, out)
	}
	if err := <-written; err != nil || g.get("will", at("select", "notes", origin)) != "two" {
		t.Errorf("%v: the phext is not what it was", err)
	}
	go func() { written <- os.WriteFile(path("pipe"), []byte(tar), 0) }()
	out = g.mustOperate("restore", "will", "--from", path("pipe"), "--yes")
	if err := <-written; err != nil || !strings.Contains(out, "1 of 2 phexts removed: new") || g.get("will", at("select", "notes", origin)) != "one" {
		t.Errorf("%v %s", err, out)
	}
}
