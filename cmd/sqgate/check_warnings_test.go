package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/tenants"
)

// TestCheckWarns has one warning at a time, in a place that is in order otherwise.
func TestCheckWarns(t *testing.T) {
	t.Parallel()
	const me, other = 4001, 4002 // users without names
	for name, c := range map[string]struct {
		change func(t *testing.T, p *place)
		want   string // all that is said, with the place left out
	}{
		"nothing":  {func(*testing.T, *place) {}, ""},
		"the mode": {func(t *testing.T, p *place) { p.chmod(t, "etc/tenants.json", 0o644) }, "/etc/tenants.json has mode 0644, so that others can read the keys in it: chmod 600 /etc/tenants.json"},
		"the management key": {func(t *testing.T, p *place) { p.put(t, "state/admin-key"); p.chmod(t, "state/admin-key", 0o640) },
			"/state/admin-key has mode 0640, so that others can read the keys in it: chmod 600 /state/admin-key"},
		"a file of root's": {func(_ *testing.T, p *place) { p.owners["etc/tenants.json"] = 0 },
			"/etc/tenants.json belongs to root, and its directory to 4001: if that is whom the service runs as, it cannot read the file: chown 4001 /etc/tenants.json"},
		"a directory of root's": {func(t *testing.T, p *place) { p.owners["etc"] = 0 },
			"/etc/tenants.json cannot be replaced by 4001, because /etc belongs to root: the management API cannot change tenants"},
		"a missing directory": {func(t *testing.T, p *place) { p.remove(t, "data") },
			`tenant "will": data_dir /data is missing: it is made at the first write; if it ought to hold phexts, correct the path, or mount its disk`},
		"a file in its place": {func(t *testing.T, p *place) { p.remove(t, "data"); p.put(t, "data") }, `tenant "will": data_dir /data is a file: name a directory`},
		"a file above it": {func(t *testing.T, p *place) { p.put(t, "file"); p.dir = "file/data" },
			`tenant "will": data_dir /file/data cannot be looked at: not a directory`},
		"another's directory": {func(_ *testing.T, p *place) { p.owners["data"] = other },
			`tenant "will": data_dir /data belongs to 4002, and the tenants file to 4001, as whom sqgate serves: chown -R 4001 /data`},
		"not writable": {func(t *testing.T, p *place) { p.chmod(t, "data", 0o500) },
			`tenant "will": data_dir /data has mode 0500, so that its owner cannot read and write it: chmod u+rwx /data`},
		"another's phext": {func(t *testing.T, p *place) {
			p.put(t, "data/a.phext")
			p.put(t, "data/b.phext")
			p.owners["data/b.phext"] = other
		}, `tenant "will": data_dir /data holds phexts of other users, such as b.phext (1 in all): chown -R 4001 /data`},
		"writable by others": {func(t *testing.T, p *place) { p.chmod(t, "data", 0o777) },
			`tenant "will": data_dir /data has mode 0777, so that others can write into it: chmod go-w /data`},
		"mounted read-only": {func(_ *testing.T, p *place) { p.access = unix.EROFS }, `tenant "will": data_dir /data is on a file system that is mounted read-only`},
		"in the state directory": {func(t *testing.T, p *place) { p.mkdir(t, "state/will"); p.dir = "state/will" },
			`tenant "will": data_dir /state/will lies in --state-dir, /state, where sqgate keeps its own files: choose another place`},
		"in the archive": {func(t *testing.T, p *place) { p.mkdir(t, "archive"); p.dir = "archive" },
			`tenant "will": data_dir /archive lies in --archive-dir, /archive, where sqgate keeps its own files: choose another place`},
		"around the state directory": {func(t *testing.T, p *place) { p.stateDir = "data/state" },
			`tenant "will": data_dir /data has --state-dir, /data/state, in it, so that the tenant's SQ process can reach the journal and the management key: choose another place`},
		"around the tenants file": {func(_ *testing.T, p *place) { p.dir = "etc" },
			`tenant "will": data_dir /etc has the tenants file in it, so that the tenant's SQ process can read everybody's keys: choose another place`},
		"an archived tenant": {func(t *testing.T, p *place) { p.remove(t, "data"); p.fields = `, "archived": true` }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &place{root: t.TempDir(), dir: "data", stateDir: "state", owners: map[string]int{}}
			for _, dir := range []string{"etc", "data", "state"} {
				p.mkdir(t, dir)
			}
			p.put(t, "etc/tenants.json")
			c.change(t, p)
			known, err := tenants.Parse([]byte(fmt.Sprintf(`{"tenants": [{"id": "will", "api_key": "12345678", "data_dir": %q%s}]}`, p.path(p.dir), p.fields)))
			if err != nil {
				t.Fatal(err)
			}
			o := defaultOptions()
			o.config, o.stateDir, o.archiveDir = p.path("etc/tenants.json"), p.path(p.stateDir), p.path("archive")
			i := &inspector{o: o, access: func(string, uint32) error { return p.access }, ownerOf: func(path string, _ fs.FileInfo) int {
				if owner, set := p.owners[strings.TrimPrefix(path, p.root+"/")]; set {
					return owner
				}
				return me
			}}
			got := strings.ReplaceAll(strings.Join(i.inspect(known), "\n"), p.root, "")
			if got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// place is a host's directories, and who owns them where that is not whoever serves.
type place struct {
	root, dir, stateDir, fields string
	owners                      map[string]int
	access                      error // of the data directory
}

func (p *place) path(name string) string { return filepath.Join(p.root, name) }

func (p *place) mkdir(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(p.path(name), 0o700); err != nil {
		t.Fatal(err)
	}
}

func (p *place) put(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(p.path(name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *place) chmod(t *testing.T, name string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(p.path(name), mode); err != nil {
		t.Fatal(err)
	}
}

func (p *place) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(p.path(name)); err != nil {
		t.Fatal(err)
	}
}

// TestCheckCommand has a good file, and one with a warning, of which the status says
// nothing.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	check := func(want string) {
		t.Helper()
		out, status := sqgateOutput(t, nil, "check", "--config", g.configPath(), "--state-dir", filepath.Join(g.dir, "state"))
		if status != 0 || !regexp.MustCompile(`^\S+/tenants.json: 1 tenants, `+want+`$`).MatchString(out) {
			t.Errorf("%d %s", status, out)
		}
	}
	check("can be served, with warnings:\n- tenant \"will\": data_dir .* is missing: .*\n")
	if err := os.MkdirAll(g.dataDir("will"), 0o700); err != nil {
		t.Fatal(err)
	}
	check("nothing wrong\n")
}
