package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInitProvidesSQ where the unit finds it, before anything is stopped.
func TestInitProvidesSQ(t *testing.T) {
	const unit = "[Service]\nUser=phext\nExecStart=ROOT/home/.cargo/bin/sq host 1337 --key oldkey-123 --data-dir DATA\n"
	for name, c := range map[string]struct {
		prepare func(h *testHost, root, old string)
		file    string
		want    string // in what is printed
	}{
		"none where the unit looks": {func(*testHost, string, string) {}, "",
			"Next, in this order:\n  1. install -m 755 ROOT/home/.cargo/bin/sq ROOT/usr/local/bin/sq     # sqgate's unit cannot run it where it is\n  2. systemctl restart sq\n"},
		"in a unit of another name": {func(*testHost, string, string) {}, "phext.service",
			"Next, in this order:\n  1. install -m 755 ROOT/home/.cargo/bin/sq ROOT/usr/local/bin/sq     # sqgate's unit cannot run it where it is\n  2. systemctl disable --now phext.service\n"},
		"the old one is gone": {func(_ *testHost, _, old string) { _ = os.Remove(old) }, "",
			"Next, in this order:\n  1. cargo install sq --root /usr/local     # sqgate finds no SQ"},
		"another version": {func(h *testHost, root, old string) {
			h.program(t, root+"/usr/bin/sq")
			h.versions = map[string]string{old: "0.5.6", root + "/usr/bin/sq": "0.6.0"}
		}, "", "sqgate runs ROOT/usr/bin/sq, which is SQ 0.6.0. ROOT/home/.cargo/bin/sq is SQ 0.5.6; to go on with that one, first: install -m 755 ROOT/home/.cargo/bin/sq ROOT/usr/bin/sq\n"},
		"the same version": {func(h *testHost, root, old string) {
			h.program(t, root+"/usr/bin/sq")
			h.versions = map[string]string{old: "0.6.0", root + "/usr/bin/sq": "0.6.0"}
		}, "", "stop each other\nNext, in this order:\n  1. systemctl restart sq\n"},
		"where a setting says": {func(h *testHost, root, _ string) {
			h.put(t, filepath.Join(h.packaged[0], unitName), "[Service]\nExecStart=/usr/bin/sqgate\nEnvironment=SQGATE_SQ="+root+"/opt/sq\n")
		}, "", "  1. install -m 755 ROOT/home/.cargo/bin/sq ROOT/opt/sq     #"},
		"where a flag says": {func(h *testHost, root, _ string) {
			h.put(t, filepath.Join(h.packaged[0], unitName), "[Service]\nExecStart=/usr/bin/sqgate serve --sq "+root+"/opt/sq\n")
		}, "", "  1. install -m 755 ROOT/home/.cargo/bin/sq ROOT/opt/sq     #"},
		"the stand-in": {func(h *testHost, _, _ string) {
			h.put(t, filepath.Join(h.packaged[0], unitName), "[Service]\nExecStart=/usr/bin/sqgate\nEnvironment=SQGATE_SQ=builtin\n")
		}, "", "Next, in this order:\n  1. systemctl restart sq\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHost(t, "")
			root := h.booted
			text := strings.NewReplacer("ROOT", root, "DATA", h.data).Replace(unit)
			h.put(t, filepath.Join(h.etc, unitName), text)
			old := filepath.Join(root, "home/.cargo/bin/sq")
			h.program(t, old)
			if err := os.Remove(filepath.Join(h.path[0], "sq")); err != nil {
				t.Fatal(err)
			}
			if c.file != "" {
				c.file = filepath.Join(root, c.file)
				h.put(t, c.file, text)
			}
			c.prepare(h, root, old)
			var out bytes.Buffer
			if err := h.adopt(&out, h.config, c.file, ""); err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(out.String(), root, "ROOT"); !strings.Contains(got, c.want) {
				t.Errorf("%s\nwant in it\n%s", got, c.want)
			}
		})
	}
	h := newTestHost(t, "")
	link := filepath.Join(h.booted, "usr/bin/sq")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(h.path[0], "sq"), link); err != nil {
		t.Fatal(err)
	}
	if got := h.provideSQ(h.config, ""); len(got) != 0 {
		t.Errorf("with SQ in the other place: %q", got)
	}
	if err := os.Chmod(link, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(h.provideSQ(h.config, ""), ""); !strings.HasPrefix(got, "chmod a+rx "+link) {
		t.Errorf("with SQ that only its owner can run: %q", got)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	h.lookPath = func(string) (string, error) { return filepath.Join(h.booted, "cargo/sq"), nil }
	if got := strings.Join(h.provideSQ(h.config, ""), ""); !strings.HasPrefix(got, "cargo install sq --root /usr/local ") {
		t.Errorf("without any SQ: %q", got)
	}
	h.program(t, filepath.Join(h.booted, "cargo/sq"))
	if got := strings.Join(h.provideSQ(h.config, ""), ""); !strings.HasPrefix(got, "install -m 755 "+h.booted+"/cargo/sq "+h.path[0]+"/sq ") {
		t.Errorf("with SQ in the caller's home: %q", got)
	}
}

// TestDataInAHome is shown to the unit, whoever may enter the home, and nothing else in
// homes is.
func TestDataInAHome(t *testing.T) {
	const want = `ProtectHome=no
TemporaryFileSystem=/home:ro /root:ro /run/user:ro
BindPaths="-/root/my phext"
ReadWritePaths="-/root/my phext"`
	if got := strings.Join(writeSettings("/root/my phext"), "\n"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	h := newTestHost(t, "")
	steps := strings.Join(h.letWrite("/home/a", "/srv/b", "/home/c"), "")
	if strings.Count(steps, "TemporaryFileSystem=") != 1 || strings.Count(steps, "BindPaths=") != 2 || strings.Count(steps, "ReadWritePaths=") != 3 {
		t.Error(steps)
	}
}

// TestInitKeepsTheOperatorsDropIn, which may have the directories of other tenants.
func TestInitKeepsTheOperatorsDropIn(t *testing.T) {
	h := newTestHost(t, "")
	h.put(t, filepath.Join(h.packaged[0], unitName), "[Service]\nExecStart=/usr/bin/sqgate\nProtectSystem=strict\nProtectHome=yes\nReadWritePaths=-/var/lib/sq\n")
	dropIns := filepath.Join(h.etc, "sq.service.d")
	file := func(dir string) string {
		t.Helper()
		steps := strings.Join(h.letWrite(dir), "")
		_, rest, _ := strings.Cut(steps, "/dev/stdin "+dropIns+"/")
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	if got := file("/srv/a"); got != "data.conf" {
		t.Errorf("into %q", got)
	}
	h.put(t, filepath.Join(dropIns, "data.conf"), "[Service]\nReadWritePaths=-/srv/other -/home/x\n")
	for dir, want := range map[string]string{"/srv/a": "init.conf", "/srv/other": "", "/home/x": "init.conf"} {
		if got := file(dir); got != want {
			t.Errorf("%s: into %q, want %q", dir, got, want)
		}
	}
	h.put(t, filepath.Join(dropIns, "more.conf"), "[Service]\n"+strings.Join(writeSettings("/home/x"), "\n"))
	if got := h.letWrite("/home/x"); got != nil {
		t.Errorf("once more: %q", got)
	}
}

// TestInitOpensWhatIsAboveTheData for the user of the unit.
func TestInitOpensWhatIsAboveTheData(t *testing.T) {
	h := newTestHost(t, "[Service]\nUser=phext\nExecStart=/usr/local/bin/sq host 1337 --key oldkey-123 --data-dir DATA\n")
	h.cannot = "phext "
	if got := h.letEnter("phext", h.data); len(got) != 1 || !strings.HasPrefix(got[0], "chmod o+x "+h.booted+"     # phext, as whom sqgate runs,") {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	if err := h.adopt(&out, h.config, "", ""); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "  1. chmod o+x "+h.booted+" ") {
		t.Error(out.String())
	}
	if got := h.letEnter("sq", h.data); got != nil {
		t.Errorf("another user: %q", got)
	}
}

// TestAdoptKeepsOutOfCommonDirectories, since all that is in them would become sqgate's.
func TestAdoptKeepsOutOfCommonDirectories(t *testing.T) {
	h := newTestHost(t, "[Service]\nExecStart=/usr/local/bin/sq host 1337 --key oldkey-123\n")
	err := h.adopt(io.Discard, h.config, "", "")
	if err == nil || !strings.Contains(err.Error(), "/ holds more than SQ's phexts") || !strings.Contains(err.Error(), "systemctl edit --full sq.service") {
		t.Errorf("%v", err)
	}
	other := filepath.Join(t.TempDir(), "mine.service")
	h.put(t, other, "[Service]\nExecStart=/usr/local/bin/sq host 1337\n")
	if err := h.adopt(io.Discard, h.config, other, "oldkey-123"); err == nil || !strings.HasSuffix(err.Error(), "\n  5. sqgate init --adopt --unit "+other+" --key K") {
		t.Errorf("%v", err)
	}
	if err := h.adoptDirectory(io.Discard, "/c", "/usr", ""); err == nil || !strings.HasSuffix(err.Error(), "\n  4. sqgate init --adopt /var/lib/phext --config /c") {
		t.Errorf("%v", err)
	}
	for _, path := range []string{h.config, filepath.Join(h.etc, legacyName)} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
	for dir, common := range map[string]bool{"/root": true, "/home/phext": true, "/srv": true, "/srv/phext": false, "/root/phext": false, "/home/phext/data": false, "/var/lib/sq": false} {
		if got := h.checkOwnDir(dir, "root", "stop", nil) != nil; got != common {
			t.Errorf("%s: %v", dir, got)
		}
	}
	if err := h.checkOwnDir("/root", "sq", "stop", nil); err != nil {
		t.Errorf("nothing is given away: %v", err)
	}
}
