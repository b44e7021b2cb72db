package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// filesOf are the names in a directory, with TIME for that of a backup.
func filesOf(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, regexp.MustCompile(`\.202[6-9]\d{4}T\d{6}Z\.`).ReplaceAllString(e.Name(), ".TIME."))
	}
	return names
}

// TestAllTenantsOnAnotherHost backs up all tenants, and restores them on a host that
// has nothing but the backups.
func TestAllTenantsOnAnotherHost(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will", "off", "gone")
		for _, id := range []string{"will", "off", "gone"} {
			g.must(id, "POST", at("update", "notes", origin), "text of "+id, 200)
			g.must(id, "POST", byName("update", "notes", "a.name/of"), "named by "+id, 200)
		}
		g.must("will", "POST", at("update", "", "2.3.4"), "unnamed phext", 200)
		g.manage("PATCH", "tenants/off", `{"enabled":false}`, 200)
		g.manage("DELETE", "tenants/gone", "", 200)
		dir := filepath.Join(t.TempDir(), "backups")
		out := g.mustOperate("backup", "--all", dir, "--config", g.configPath(), "--keep", "2")
		if got, want := filesOf(t, dir), []string{"off.TIME.tar", "tenants.TIME.json", "will.TIME.tar"}; !slices.Equal(got, want) {
			t.Fatalf("%q, want %q: %s", got, want, out)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the directory: %v %v", info.Mode(), err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", file, info.Mode(), err)
			}
		}

		// The second host: the tenants file with the same keys, and empty directories.
		h := newGate(t, sq, "will", "off")
		text, err := os.ReadFile(files[1])
		if err != nil || strings.Count(string(text), g.dir) < 3 {
			t.Fatalf("%v, the tenants file: %s", err, text)
		}
		if err := os.WriteFile(h.configPath(), bytes.ReplaceAll(text, []byte(g.dir), []byte(h.dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"will", "off"} {
			h.set(id, "api_key", g.key(id))
		}
		h.start()
		for id, file := range map[string]string{"off": files[0], "will": files[2]} {
			if out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey, "SQGATE_URL=" + h.url}, "restore", id, "--from", file); status != 0 {
				t.Fatalf("restoring %s: %d %s", id, status, out)
			}
		}
		for _, target := range []string{"/api/v2/get?p=notes", "/api/v2/toc?p=notes", byName("select", "notes", "a.name/of"), "/api/v2/get", "/api/v2/select/2.3.4"} {
			if got, want := h.get("will", target), g.get("will", target); got != want || got == "" {
				t.Errorf("%s: %q, want %q", target, got, want)
			}
		}
		h.must("off", "GET", at("select", "notes", origin), "", 403)
		h.manage("PATCH", "tenants/off", `{"enabled":true}`, 200)
		if got := h.get("off", at("select", "notes", origin)); got != "text of off" {
			t.Errorf("the disabled tenant: %q", got)
		}
	})
}

// TestPruningAfterAFailure has a tenant whose directory is not there, and one whose
// directory could not be read since the start.
func TestPruningAfterAFailure(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will", "lost", "odd")
	if err := os.MkdirAll(filepath.Dir(g.dataDir("odd")), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.dataDir("odd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g.start()
	for _, id := range []string{"will", "lost"} {
		g.must(id, "POST", at("update", "notes", origin), id, 200)
	}
	if err := os.RemoveAll(g.dataDir("lost")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	made := func(names ...string) {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept := []string{
		"bob.20200101T000000Z.tar", "lost.20200101T000000Z.tar", "lost.20200102T000000Z.tar", "will-2.20200101T000000Z.tar",
		"will-2020-01-01.tar", "will.20200101T000000Z.json", "will.20200101T000000Z.tar.gz", "will.2020101T000000Z.tar",
	}
	made(kept...)
	made("will.20200101T000000Z.tar", "will.20200102T000000Z.tar", "tenants.20200101T000000Z.json", "tenants.20200102T000000Z.json", fsutil.Temporary+"1", fsutil.Temporary+"2")
	kept = append(kept, "will.20190101T000000Z.tar", "will.20190102T000000Z.tar", fsutil.Temporary+"2")
	long := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, fsutil.Temporary+"1"), long, long); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "will.20190101T000000Z.tar"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("bob.20200101T000000Z.tar", filepath.Join(dir, "will.20190102T000000Z.tar")); err != nil {
		t.Fatal(err)
	}
	out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey, "SQGATE_URL=" + g.url, "SQGATE_CONFIG=" + g.configPath()}, "backup", "--all", dir, "--keep", "2")
	for _, want := range []string{"tenant lost: not backed up: ", "tenant odd: not backed up: ", "not everything is backed up in " + dir + ": tenant lost, tenant odd\n", "archived or gone, which are kept until you remove them: bob, will-2\n"} {
		if status != 1 || !strings.Contains(out, want) {
			t.Errorf("status %d, and it does not say %q: %s", status, want, out)
		}
	}
	want := slices.Sorted(slices.Values(append(kept, "will.20200102T000000Z.tar", "will.TIME.tar", "tenants.20200102T000000Z.json", "tenants.TIME.json")))
	if got := slices.Sorted(slices.Values(filesOf(t, dir))); !slices.Equal(got, want) {
		t.Errorf("there are\n%q, want\n%q", got, want)
	}
}

// TestPruneKeepsTheLatest has a clock that went back.
func TestPruneKeepsTheLatest(t *testing.T) {
	t.Parallel()
	for keep, want := range map[int][]string{
		0: {"a.20300101T000000Z.tar", "a.20300102T000000Z.tar", "a.TIME.tar"},
		1: {"a.TIME.tar"},
		2: {"a.20300102T000000Z.tar", "a.TIME.tar"},
		3: {"a.20300101T000000Z.tar", "a.20300102T000000Z.tar", "a.TIME.tar"},
	} {
		dir := t.TempDir()
		for _, name := range []string{"a.20260101T000000Z.tar", "a.20300101T000000Z.tar", "a.20300102T000000Z.tar"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b := allBackups{client: &apiClient{out: t.Output()}, keep: keep}
		if err := b.prune(filepath.Join(dir, "a.20260101T000000Z.tar"), tenantToBackUp{ID: "a"}.owns); err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(slices.Values(filesOf(t, dir))); !slices.Equal(got, want) {
			t.Errorf("keep %d: %q, want %q", keep, got, want)
		}
	}
}

// TestAnIDThatIsUsedAgainKeepsBothBackups gives an id to another tenant: the backups of
// the first one are not pruned for the second, and are not restored into it by mistake.
func TestAnIDThatIsUsedAgainKeepsBothBackups(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	dir := t.TempDir()
	before, after := "acme.20200101T000000Z.tar", "acme.29990101T000000Z.tar" // made by an earlier version
	for _, name := range []string{before, after} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var all [2][]string
	for i, text := range []string{"first", "second"} {
		g.add("acme", 1)
		g.must("acme", "POST", at("update", "n", origin), text, 200)
		for range 2 {
			incarnation := g.manage("GET", "tenants/acme", "", 200)["incarnation"].(string)
			out := g.mustOperate("backup", "--all", dir, "--config=", "--keep", "1")
			if i == 1 && !strings.Contains(out, "acme (another one that had the id)") {
				t.Errorf("it does not say whose backups are kept: %s", out)
			}
			all[i], _ = filepath.Glob(filepath.Join(dir, "acme."+incarnation+".*.tar"))
			if len(all[i]) != 1 {
				t.Fatalf("the backups of the %s tenant: %q", text, all[i])
			}
		}
		if i == 0 {
			g.forget("acme")
		}
	}
	if _, err := os.Stat(all[0][0]); err != nil {
		t.Errorf("the backup of the first tenant: %v", err)
	}
	if got := filesOf(t, dir); !slices.Contains(got, before) || slices.Contains(got, after) {
		t.Errorf("of an earlier version, %s is kept and %s is not: %q", before, after, got)
	}
	out, err := g.operate("restore", "acme", "--from", all[0][0], "--yes")
	if got := g.get("acme", at("select", "n", origin)); err == nil || got != "second" || !strings.Contains(out+err.Error(), `backup of another tenant with the id "acme"`) {
		t.Errorf("without --from-tenant: %v, %q, %s", err, got, out)
	}
	g.mustOperate("restore", "acme", "--from", all[0][0], "--from-tenant", "acme", "--yes")
	if got := g.get("acme", at("select", "n", origin)); got != "first" {
		t.Errorf("with --from-tenant: %q", got)
	}
	g.mustOperate("restore", "acme", "--from", all[1][0], "--yes")
	if got := g.get("acme", at("select", "n", origin)); got != "second" {
		t.Errorf("its own: %q", got)
	}
}

// TestABackupThatIsCutOff has a gateway that breaks off, and leaves the backups of
// earlier nights alone.
func TestABackupThatIsCutOff(t *testing.T) {
	t.Setenv("SQ_ADMIN_KEY", adminKey)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == tenantsPath {
			_ = json.NewEncoder(w).Encode(map[string]any{"tenants": []tenantToBackUp{{ID: "will", Bytes: 5}}}) // a client that is gone fails the test
			return
		}
		_, _ = w.Write(make([]byte, 100_000))
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	client, dir := newAPIClient(), t.TempDir()
	client.url, client.out = server.URL, t.Output()
	if err := os.WriteFile(filepath.Join(dir, "will.20200101T000000Z.tar"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := allBackups{client: client, keep: 1}
	if err := b.run(dir, t.Output()); err == nil || !strings.Contains(err.Error(), ": tenant will") {
		t.Error(err)
	}
	if got := filesOf(t, dir); !slices.Equal(got, []string{"will.20200101T000000Z.tar"}) {
		t.Errorf("%q", got)
	}
}

// TestABackupThatDoesNotFit has a disk of 1 MB.
func TestABackupThatDoesNotFit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("sqgate", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("only root can mount a small disk:", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	g := startGate(t, builtin, "will")
	g.must("will", "POST", at("update", "notes", origin), "text", 200)
	out, err := g.operate("backup", "--all", dir, "--config=")
	if err == nil || !strings.Contains(out, "tenant will: not backed up: the disk has 1 MB free, and 256 MB are needed") || len(filesOf(t, dir)) != 0 {
		t.Errorf("%v %s", err, out)
	}
}

// TestAllFilesOnAnotherHost moves everything, as operations.md says. The history comes
// along, and so does a tenant that has no phexts any more.
func TestAllFilesOnAnotherHost(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will", "bare", "new")
		g.must("will", "POST", at("update", "notes", origin), "first", 200)
		before := time.Now().UTC().Format(time.RFC3339Nano)
		g.must("will", "POST", at("update", "notes", origin), "second", 200)
		g.must("bare", "POST", at("update", "notes", origin), "goes", 200)
		g.manage("POST", "tenants/bare/restore", `{"at":"`+before+`"}`, 200)
		g.stop()
		away := t.TempDir()
		for _, args := range [][]string{{"-a", g.dir + "/.", away}, {"-a", away + "/.", g.dir}} {
			if out, err := exec.Command("cp", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			if args[2] == away {
				entries, err := os.ReadDir(g.dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					if err := os.RemoveAll(filepath.Join(g.dir, e.Name())); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		// These say which directories there were on the old host's disks.
		if err := os.RemoveAll(filepath.Join(g.dir, "state", "directories")); err != nil {
			t.Fatal(err)
		}
		g.start()
		if got := g.get("will", at("select", "notes", origin)); got != "second" {
			t.Errorf("%q", got)
		}
		for _, id := range []string{"will", "bare", "new"} {
			g.must(id, "POST", at("update", "more", origin), "written there", 200)
		}
		g.manage("POST", "tenants/will/restore", `{"phext":"notes","at":"`+before+`"}`, 200)
		if got := g.get("will", at("select", "notes", origin)); got != "first" {
			t.Errorf("as it was before the move: %q", got)
		}
	})
}
