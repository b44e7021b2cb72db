package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
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
		"a directory that is not the user's": {func(_ *testing.T, p *place) { p.cannot = "-w etc" },
			"/etc/tenants.json cannot be replaced by 4001, who may not write to /etc: the management API cannot change tenants"},
		"a new tenant": {func(t *testing.T, p *place) { p.remove(t, "data"); p.dataRoot = "" }, ""},
		"a missing directory": {func(t *testing.T, p *place) { p.remove(t, "data") },
			`tenant "will": data_dir /data is missing: make it, or if it ought to hold phexts, correct the path, or mount its disk`},
		"a missing disk": {func(t *testing.T, p *place) {
			d := datadir.New(datadir.Config{Tenants: noTenants, MarkDir: p.path("state/directories"), Logger: slog.New(slog.DiscardHandler)}).Of(p.path("data"))
			d.MarkWritten(d.Path)
			p.remove(t, "data")
			p.dataRoot = ""
		}, `tenant "will": data_dir /data is missing, and has had phexts (it does not exist): mount its disk, or correct the path; until then calls are answered 503`},
		"an empty mount point": {func(t *testing.T, p *place) {
			d := datadir.New(datadir.Config{Tenants: noTenants, MarkDir: p.path("state/directories"), Logger: slog.New(slog.DiscardHandler)}).Of(p.path("data"))
			d.MarkWritten(d.Path)
			if err := os.Rename(p.path("data"), p.path("aside")); err != nil {
				t.Fatal(err)
			}
			p.mkdir(t, "data")
		}, `tenant "will": data_dir /data is missing, and has had phexts (it is empty, and another directory than before, on the same file system): mount its disk, or correct the path; until then calls are answered 503`},
		"a part of the data": {func(t *testing.T, p *place) {
			p.journalled(t, "will", "a.phext", "b.phext", "c.phext")
			if err := os.Rename(p.path("data"), p.path("aside")); err != nil {
				t.Fatal(err)
			}
			p.mkdir(t, "data")
			p.put(t, "data/a.phext")
			p.chmod(t, "data", 0o700)
		}, `tenant "will": data_dir /data is missing, and has had phexts (it lacks 2 of 3 phexts, such as b.phext, and another directory than before, on the same file system): mount its disk, or correct the path; until then calls are answered 503`},
		"all of the data, in another directory": {func(t *testing.T, p *place) {
			p.journalled(t, "will", "a.phext", "b.phext", "c.phext")
			if err := os.Rename(p.path("data"), p.path("aside")); err != nil {
				t.Fatal(err)
			}
			p.mkdir(t, "data")
			for _, name := range []string{"data/a.phext", "data/b.phext"} { // somebody has removed the third before
				p.put(t, name)
			}
		}, ""},
		"the directory of another one before": {func(t *testing.T, p *place) {
			p.journalled(t, "mary", "a.phext", "b.phext", "c.phext")
			if err := os.Rename(p.path("data"), p.path("aside")); err != nil {
				t.Fatal(err)
			}
			p.mkdir(t, "data")
			p.put(t, "data/a.phext")
		}, ""},
		"outside of the unit's places": {func(_ *testing.T, p *place) { p.writable = []string{"elsewhere"} },
			`tenant "will": data_dir /data is outside of what sq.service may write to, so that every write fails: ` + "`systemctl edit sq.service`, write ReadWritePaths=-/data below [Service], and restart it"},
		"in a place that the unit does not see": {func(_ *testing.T, p *place) { p.hidden = []string{""} },
			`tenant "will": data_dir /data is in a home, or another directory that sq.service does not see, so that every call is answered 503: ` + "`systemctl edit sq.service`, write ReadWritePaths=-/data below [Service], and restart it"},
		"in a place that the unit is shown": {func(_ *testing.T, p *place) {
			p.hidden, p.bound, p.cannot = []string{"", "etc"}, []string{"data"}, "-x "+p.root
		}, ""},
		"below a directory that is closed": {func(_ *testing.T, p *place) { p.cannot = "-x " + p.root },
			`tenant "will": data_dir /data cannot be reached by 4001, who may not enter : chmod o+x `},
		"below two of them": {func(t *testing.T, p *place) {
			p.mkdir(t, "closed/more/data")
			p.chmod(t, "closed/more", 0o711)
			p.dir, p.cannot = "closed/more/data", "-x closed"
		}, `tenant "will": data_dir /closed/more/data cannot be reached by 4001, who may not enter /closed: chmod o+x /closed`},
		"without SQ": {func(_ *testing.T, p *place) { p.noSQ = "/usr/local/bin/sq" },
			"sq.service finds no SQ at /usr/local/bin/sq, and cannot start: `cargo install sq --root /usr/local` puts one into /usr/local/bin"},
		"inside the unit's places": {func(_ *testing.T, p *place) { p.writable = []string{"elsewhere", "data"} }, ""},
		"a file in its place":      {func(t *testing.T, p *place) { p.remove(t, "data"); p.put(t, "data") }, `tenant "will": data_dir /data is a file: name a directory`},
		"a file above it": {func(t *testing.T, p *place) { p.put(t, "file"); p.dir = "file/data" },
			`tenant "will": data_dir /file/data cannot be looked at: not a directory`},
		"another's directory": {func(_ *testing.T, p *place) { p.owners["data"] = other },
			`tenant "will": data_dir /data belongs to 4002, and sqgate serves as 4001: chown -R 4001 /data`},
		"not writable": {func(t *testing.T, p *place) { p.chmod(t, "data", 0o500) },
			`tenant "will": data_dir /data has mode 0500, so that its owner cannot read and write it: chmod u+rwx /data`},
		"another's phext": {func(t *testing.T, p *place) {
			p.put(t, "data/a.phext")
			p.put(t, "data/b.phext")
			p.owners["data/b.phext"] = other
		}, `tenant "will": data_dir /data holds phexts of other users, such as b.phext (1 in all): chown -R 4001 /data`},
		"writable by others": {func(t *testing.T, p *place) { p.chmod(t, "data", 0o777) },
			`tenant "will": data_dir /data has mode 0777, so that others can write into it: chmod go-w /data`},
		"mounted read-only": {func(_ *testing.T, p *place) { p.access = unix.EROFS }, "the state directory, /state, is on a file system that is mounted read-only: no write is possible, and sqgate cannot be started\n" + `tenant "will": data_dir /data is on a file system that is mounted read-only`},
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
			p := &place{root: t.TempDir(), dir: "data", stateDir: "state", dataRoot: "root", owners: map[string]int{}}
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
			o.dataRoot = p.path(p.dataRoot)
			who := servingUser{uid: me, unit: unitName}
			for _, name := range p.writable {
				who.writable = append(who.writable, p.path(name))
			}
			for _, name := range p.hidden {
				who.hidden = append(who.hidden, p.path(name))
			}
			for _, name := range p.bound {
				who.bound = append(who.bound, p.path(name))
			}
			who.noSQ = p.noSQ
			i := &inspector{o: o, who: who, can: func(test, path string) bool { return test+" "+strings.TrimPrefix(path, p.root+"/") != p.cannot }, access: func(string, uint32) error { return p.access }, ownerOf: func(path string, _ fs.FileInfo) int {
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

// journalled has a tenant write phexts, as sqgate does, and then stop.
func (p *place) journalled(t *testing.T, tenant string, files ...string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	set, err := journal.New(journal.Config{Dir: p.path("state/journal"), Quarantine: p.path("state/quarantine"), Logger: slog.New(slog.DiscardHandler)})
	must(err)
	j, err := set.Of(p.path("data"))
	must(err)
	_, err = j.Claim(journal.Owners{Tenants: []string{tenant}})
	must(err)
	_, err = j.Recover(t.Context())
	must(err)
	for _, file := range files {
		pending, err := j.Begin(journal.Mutation{File: file, Op: journal.Replace, Text: "text", Tenant: tenant}, func() (journal.State, error) { return journal.State{}, nil })
		must(err)
		p.put(t, "data/"+file)
		id, err := fsutil.Identify(p.path("data/" + file))
		must(err)
		must(pending.Done(id))
	}
	must(set.Close())
	d := datadir.New(datadir.Config{Tenants: noTenants, MarkDir: p.path("state/directories"), Logger: slog.New(slog.DiscardHandler)}).Of(p.path("data"))
	d.MarkWritten(d.Path)
}

// place is a host's directories, and who owns them where that is not whoever serves.
type place struct {
	root, dir, stateDir, dataRoot, fields string
	owners                                map[string]int
	access                                error    // of the data directory
	cannot                                string   // test and path of what the user that serves may not
	writable, hidden, bound               []string // places of the unit
	noSQ                                  string
}

func (p *place) path(name string) string { return filepath.Join(p.root, name) }

func (p *place) mkdir(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(p.path(name), 0o700); err != nil {
		t.Fatal(err)
	}
}

func (p *place) put(t *testing.T, name string) { t.Helper(); p.write(t, name, "") }

func (p *place) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
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
	check := func(want string, args ...string) {
		t.Helper()
		args = append([]string{"check", "--config", g.configPath(), "--state-dir", filepath.Join(g.dir, "state")}, args...)
		out, status := sqgateOutput(t, nil, args...)
		if status != 0 || !regexp.MustCompile(`^\S+/tenants.json: 1 tenant, `+want+`$`).MatchString(out) {
			t.Errorf("%d %s", status, out)
		}
	}
	check("nothing wrong\n", "--data-root", filepath.Dir(g.dataDir("will")))
	check("can be served, with warnings:\n- tenant \"will\": data_dir .* is missing: .*\n")
	if err := os.MkdirAll(g.dataDir("will"), 0o700); err != nil {
		t.Fatal(err)
	}
	check("nothing wrong\n")
	if err := os.Remove(g.configPath()); err != nil {
		t.Fatal(err)
	}
	if out, status := sqgateOutput(t, nil, "check", "--config", g.configPath()); status != 2 || !strings.Contains(out, "`sqgate init --config "+g.configPath()+"`") {
		t.Errorf("%d %s", status, out)
	}
}

// TestALostTenantsFile is not replaced by an empty one if there is a copy in the backups.
func TestALostTenantsFile(t *testing.T) {
	p := &place{root: t.TempDir()}
	p.mkdir(t, "etc")
	p.mkdir(t, "backups")
	said := func() string {
		return strings.ReplaceAll(replacement(p.path("etc/tenants.json"), p.path("backups")), p.root, "")
	}
	first := "write one with `sqgate init --config /etc/tenants.json`"
	if got := said(); got != first {
		t.Error(got)
	}
	for _, name := range []string{"tenants.20260130T021500Z.json", "tenants.20260131T021500Z.json", "will.20260201T021500Z.tar"} {
		p.put(t, "backups/"+name)
	}
	want := "if it is lost, put the newest copy of it in its place with `install -o " + userName(os.Geteuid()) + " -m 600 /backups/tenants.20260131T021500Z.json /etc/tenants.json`; for new tenants, " + first
	if got := said(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestCheckAsTheServingUser: with the package's unit, the file has to be readable for
// its user, whoever asks.
func TestCheckAsTheServingUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of other users")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp("/tmp", "sqgate") // where others may go, unlike t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	p := &place{root: root}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	h := &host{etc: p.path("systemd"), packaged: []string{p.path("lib")}, serves: p.path("etc/tenants.json")}
	for _, dir := range []string{"etc", "lib", "state"} {
		p.mkdir(t, dir)
	}
	o := defaultOptions()
	o.config, o.stateDir, o.dataRoot = h.serves, p.path("state"), p.path("data")
	p.write(t, "etc/tenants.json", fmt.Sprintf(`{"tenants": [{"id": "will", "api_key": "12345678", "data_dir": %q}]}`, p.path("data/will")))
	verdict := func() string {
		var out strings.Builder
		if err := check(&out, o, h); err != nil {
			return err.Error()
		}
		return out.String()
	}
	want := func(when, want string) {
		t.Helper()
		if got := strings.ReplaceAll(verdict(), root, ""); got != want {
			t.Errorf("%s: %s\nwant %s", when, got, want)
		}
	}
	want("without a unit", "/etc/tenants.json: 1 tenant, nothing wrong\n")
	p.write(t, "lib/sq.service", "[Service]\nExecStart=/usr/bin/sqgate serve\nUser=nobody\n")
	cannot := "tenants file /etc/tenants.json: user nobody, as whom sq.service runs, cannot read it, and so serves nobody: chown " + servingUser{uid: uid}.chownTo()
	want("all of root's", cannot+" /etc /etc/tenants.json && chmod 600 /etc/tenants.json")
	if err := os.Chown(p.path("etc"), uid, -1); err != nil {
		t.Fatal(err)
	}
	want("a file of root's", cannot+" /etc/tenants.json && chmod 600 /etc/tenants.json")
	p.chmod(t, "etc/tenants.json", 0o644)
	want("that all may read", "/etc/tenants.json: 1 tenant, can be served, with warnings:\n- /etc/tenants.json has mode 0644, so that others can read the keys in it: chmod 600 /etc/tenants.json\n")
	p.chmod(t, "etc/tenants.json", 0o600)
	if err := os.Chown(h.serves, uid, -1); err != nil {
		t.Fatal(err)
	}
	want("a file of its own", "/etc/tenants.json: 1 tenant, nothing wrong\n")

	const group = 4711
	for _, path := range []string{"etc", "etc/tenants.json"} {
		if err := os.Chown(p.path(path), 0, group); err != nil {
			t.Fatal(err)
		}
	}
	p.chmod(t, "etc", 0o770)
	p.chmod(t, "etc/tenants.json", 0o640)
	want("of a group", cannot+" /etc /etc/tenants.json && chmod 600 /etc/tenants.json")
	readable := "/etc/tenants.json: 1 tenant, can be served, with warnings:\n- /etc/tenants.json has mode 0640, so that others can read the keys in it: chmod 600 /etc/tenants.json\n"
	for _, line := range []string{"Group=4711", "SupplementaryGroups=4712 4711"} {
		p.write(t, "lib/sq.service", "[Service]\nExecStart=/usr/bin/sqgate serve\nUser=nobody\n"+line+"\n")
		want(line, readable)
	}
	p.write(t, "lib/sq.service", "[Service]\nExecStart=/usr/bin/sqgate serve\nUser=nobody\nGroup=4712\n")
	want("of another group", "tenants file /etc/tenants.json: user nobody, as whom sq.service runs, cannot read it, and so serves nobody: chown nobody:4712 /etc /etc/tenants.json && chmod 600 /etc/tenants.json")
}

// TestCheckTakesTheUnitsSettings has a unit that serves another tenants file, which it
// names in one of the ways in which that is done.
func TestCheckTakesTheUnitsSettings(t *testing.T) {
	p := &place{root: t.TempDir()}
	for _, dir := range []string{"lib", "data/x"} {
		p.mkdir(t, dir)
	}
	p.write(t, "theirs.json", fmt.Sprintf(`{"tenants": [{"id": "will", "api_key": "12345678", "data_dir": %q}]}`, p.path("data/x")))
	p.write(t, "mine.json", `{"tenants": []}`)
	p.write(t, "settings", "SQGATE_CONFIG="+p.path("theirs.json")+"\nSQGATE_STATE_DIR="+p.path("data")+"\n")
	inState := ": 1 tenant, can be served, with warnings:\n- tenant \"will\": data_dir /data/x lies in --state-dir, /data, where sqgate keeps its own files: choose another place\n"
	for _, c := range []struct{ unit, variable, args, want string }{
		{"EnvironmentFile=-" + p.path("settings") + "\nExecStart=/usr/bin/sqgate serve", "", "", "/theirs.json" + inState},
		{"Environment=SQGATE_CONFIG=/nowhere\nExecStart=/usr/bin/sqgate serve --config " + p.path("theirs.json") + " --state-dir=" + p.path("data"), "", "", "/theirs.json" + inState},
		{"Environment=SQGATE_CONFIG=" + p.path("theirs.json") + "\nExecStart=/usr/bin/sqgate", "", "", "/theirs.json: 1 tenant, nothing wrong\n"},
		{"EnvironmentFile=" + p.path("settings") + "\nExecStart=/usr/bin/sqgate serve", p.path("mine.json"), "", "/mine.json: 0 tenants, nothing wrong\n"},
		{"EnvironmentFile=" + p.path("settings") + "\nExecStart=/usr/bin/sqgate serve", "", p.path("mine.json"), "/mine.json: 0 tenants, nothing wrong\n"},
		{"ExecStart=/usr/bin/sqgate serve --confg /x", "", "", "/lib/sq.service: ExecStart=: unknown flag: --confg"},
	} {
		t.Run(c.unit+" "+c.variable+" "+c.args, func(t *testing.T) {
			if c.variable != "" {
				t.Setenv("SQGATE_CONFIG", c.variable)
			}
			me, err := user.Current()
			if err != nil {
				t.Fatal(err)
			}
			p.write(t, "lib/sq.service", "[Service]\nUser="+me.Uid+"\n"+c.unit+"\n")
			h := &host{etc: p.path("systemd"), packaged: []string{p.path("lib")}, serves: "/etc/sq/tenants.json"}
			o, out := defaultOptions(), new(strings.Builder)
			cmd := newCheck()
			cmd.ResetFlags()
			o.registerConfig(cmd.Flags())
			cmd.Flags().StringVar(&o.stateDir, "state-dir", o.stateDir, "")
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return h.check(cmd, o) }
			cmd.SetOut(out)
			cmd.SilenceUsage, cmd.SilenceErrors = true, true
			args := []string{}
			if c.args != "" {
				args = []string{"--config", c.args}
			}
			cmd.SetArgs(args)
			if err := cmd.Execute(); err != nil {
				out.WriteString(err.Error())
			}
			if got := strings.ReplaceAll(out.String(), p.root, ""); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

// TestExplainConfig: to whoever may not read the tenants file, nothing is advised that
// would take it from the service.
func TestExplainConfig(t *testing.T) {
	t.Parallel()
	err := explainConfig("/etc/sq/tenants.json", fmt.Errorf("%w: chown bob", fs.ErrPermission))
	if text := err.Error(); strings.Contains(text, "chown") || !strings.Contains(text, "as root") || !errors.Is(err, fs.ErrPermission) {
		t.Error(text)
	}
}

func noTenants() *tenants.Snapshot { return nil }
