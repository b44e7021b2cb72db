package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTenantCommand manages tenants with the command.
func TestTenantCommand(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	tenant := func(args ...string) (string, int) {
		return sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey, "SQGATE_URL=" + g.url}, append([]string{"tenant"}, args...)...)
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"add", "acme", "--quota-mb", "5"}, 0, `^tenant_id +acme\nstatus +active\ndata_dir\s+/.*/acme\napi_key +pmb-v1-[0-9a-f]{32}\n$`},
		{[]string{"add", "acme"}, 1, "already"},
		{[]string{"add", "full", "--quota-mb", "1", "--max-phexts", "2", "--requests-per-minute", "3", "--reads-per-minute", "4", "--writes-per-minute", "5", "--lists-per-minute", "6", "--calls-per-day", "7", "--admin-email", "a@example.org"}, 0, `api_key`},
		{[]string{"show", "full"}, 0, `(?s)admin_email +a@example.org\n.*quota_mb +1\n.*max_phexts +2\nrequests_per_minute +3\nreads_per_minute +4\nwrites_per_minute +5\nlists_per_minute +6\ncalls_per_day +7\n`},
		{[]string{"list"}, 0, `(?s)TENANT.*will.*acme +active +0.000 +5 `},
		{[]string{"list", "--json"}, 0, `"tenant_id":"acme"`},
		{[]string{"show", "acme"}, 0, `(?s)^tenant_id +acme\nstatus +active\ncreated_at +(now|\d+ s ago) \(20.*Z\)\n.*storage_used_mb +0 \(0 % of the quota\)\n.*quota_mb +5\n.*calls_per_day +no limit\n.*last_active +-\nchild +stopped\n$`},
		{[]string{"set", "acme", "--quota-mb", "6", "--calls-per-day", "9", "--reads-per-minute", "100", "--writes-per-minute", "10", "--lists-per-minute", "50"}, 0, `(?s)quota_mb +6\n.*reads_per_minute +100\nwrites_per_minute +10\nlists_per_minute +50\ncalls_per_day +9\n`},
		{[]string{"set", "acme"}, 2, "nothing to change"},
		{[]string{"set", "acme", "--quota-mb", "-6"}, 1, "quota_mb"},
		{[]string{"rotate-key", "acme", "--overlap", "91d"}, 1, `a duration of at most 90 days is wanted`},
		{[]string{"rotate-key", "acme", "--overlap", "1w"}, 0, `previous_key_expires +in 7 days \(20.*Z\)\n$`},
		{[]string{"list", "--idle-since", "2w"}, 0, `acme`},
		{[]string{"rotate-key", "acme", "--overlap", "1d"}, 0, `previous_key_expires +in 24 h \(20.*Z\)\nwarning +only one old key is kept: (?s).*works no more\s*$`},
		{[]string{"enable", "acme"}, 0, `^tenant "acme" is active already: nothing was changed\n$`},
		{[]string{"disable", "acme"}, 0, `status +disabled`},
		{[]string{"disable", "acme"}, 0, `^tenant "acme" is disabled already: nothing was changed\n$`},
		{[]string{"disable", "acme", "--json"}, 0, `^{"tenant_id":"acme","status":"disabled"`},
		{[]string{"enable", "acme"}, 0, `status +active`},
		{[]string{"enable", "nobody"}, 1, "no such tenant"},
		{[]string{"delete", "acme", "--yes"}, 0, `^tenant_id +acme\nstatus +archived\narchive\s+/.*acme\..*tar.gz\n$`},
		{[]string{"restore", "acme"}, 2, "^sqgate: --archive is missing: `sqgate tenant show acme` names the newest archive, .*tenant list --status archived"},
		{[]string{"list", "--status", "archived"}, 0, `(?s)^TENANT +STATUS +LAST ACTIVE +ARCHIVE\nacme +archived +-\s+/.*/acme\..*\.tar\.gz\n$`},
		{[]string{"show", "acme"}, 0, `(?s)status +archived\n.*archive\s+/.*/acme\..*\.tar\.gz\n`},
		{[]string{"enable", "acme"}, 1, "is archived: restore it"},
		{[]string{"disable", "acme"}, 1, "is archived: it cannot call, and there is nothing to disable"},
		{[]string{"set", "acme", "--enabled"}, 1, "is archived"},
		{[]string{"purge", "acme", "--confirm", "will"}, 1, "confirm"},
		{[]string{"purge", "will", "--yes"}, 1, "not archived"},
		{[]string{"purge", "acme", "--confirm", "acme"}, 0, `(?s)status +purged\n.*archives +1\n`},
		{[]string{"show", "acme"}, 1, "no such tenant"},
		{[]string{"show", "nobody"}, 1, "no such tenant"},
	} {
		out, status := tenant(c.args...)
		if status != c.status || !regexp.MustCompile(c.says).MatchString(out) {
			t.Errorf("%v: status %d, %s\nwant %d and %s", c.args, status, out, c.status, c.says)
		}
	}
	if out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY="}, "tenant", "list", "--state-dir", t.TempDir()); status != 2 || !strings.Contains(out, "--admin-key") {
		t.Errorf("without a key: %d %s", status, out)
	}
}

// TestGeneratedManagementKey starts sqgate without a management key, and uses the
// one that it generates.
func TestGeneratedManagementKey(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	g.env = []string{"SQ_ADMIN_KEY="}
	g.start()
	path := filepath.Join(g.dir, "state", "admin-key")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(string(text))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || !strings.Contains(g.log.String(), path) || strings.Contains(g.log.String(), key) {
		t.Errorf("%v: mode %v, or the log does not name the file, or has the key", err, info.Mode())
	}
	if r := g.manageRaw(key, "GET", "tenants", ""); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	g.stop()
	g.start()
	if r := g.manageRaw(key, "GET", "tenants", ""); r.status != 200 {
		t.Errorf("after a restart: %d %s", r.status, r.body)
	}
	out, status := sqgateOutput(t, g.env, "tenant", "list", "--url", g.url, "--state-dir", filepath.Join(g.dir, "state"))
	if status != 0 || !strings.Contains(out, "will") {
		t.Errorf("the command does not find the key: %d %s", status, out)
	}
}

// TestMistakesInCommandLines expects status 2, and what was probably meant.
func TestMistakesInCommandLines(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"srve":                `no command "srve" in "sqgate": did you mean serve?`,
		"tenant lst":          `no command "lst" in "sqgate tenant": did you mean list`,
		"tenant nonsense":     `no command "nonsense" in "sqgate tenant"`,
		"serve --lisen x":     `--lisen: did you mean --listen?`,
		"--cofnig x":          `did you mean --config?`,
		"serve --nonsense":    `unknown flag: --nonsense`,
		"tenant add":          `ID is missing: the usage is "sqgate tenant add ID [flags]"`,
		"history":             `TENANT is missing: the usage is "sqgate history TENANT [PHEXT [COORDINATE]] [flags]"`,
		"history a b c d":     `"d" is one argument too many`,
		"backup":              `TENANT and FILE are missing`,
		"backup --all":        `sqgate: DIR is missing: --all backs up every tenant to DIR`,
		"backup a --all d":    `sqgate: --all backs up every tenant to one directory, and there are 2 arguments`,
		"help tennant":        `there is no command "tennant" in "sqgate": did you mean tenant?`,
		"help tenant lst":     `there is no command "lst" in "sqgate tenant": did you mean list`,
		"init somewhere":      `sqgate: "somewhere" is not understood here`,
		"tenant purge":        `ID is missing`,
		"backup will":         `FILE is missing: the usage is "sqgate backup TENANT FILE | --all DIR [flags]"`,
		"serve --max-body xy": `sqgate: --max-body: "xy" is not a size: use a number of bytes`,

		"tenant add x --quota-mb 5MB":                        `sqgate: --quota-mb is "5MB": a whole number of megabytes is wanted, such as 500`,
		"tenant set x --max-phexts 1e3":                      `--max-phexts is "1e3": a whole number is wanted`,
		"tenant set x --calls-per-day 100000000000000000000": `: this is out of range`,
		"tenant set x --enabled=maybe":                       `--enabled is "maybe": true or false is wanted`,
		"tenant rotate-key x --overlap 1x":                   `--overlap: "1x" is not a duration: use a number with s, m, h, d or w`,
		"serve --idle-timeout 5 --max-body 1":                `--idle-timeout: "5" is not a duration`,
		"serve --history 2fortnights":                        `--history: "2fortnights" is not a duration`,
		"serve --history -1d":                                `--history is -24h: 0 (none) or more is wanted`,
		"serve --child-ports 1":                              `--child-ports: "1" is not a range of ports`,
		"serve --log-level loud":                             `--log-level: "loud" is not a log level`,
		"serve --fsync maybe":                                `--fsync: `,
		"serve --key secret-of-the-old-service":              `sqgate: there is no --key`,
	} {
		out, status := sqgateOutput(t, nil, strings.Fields(line)...)
		if status != 2 || !strings.Contains(out, want) || strings.HasSuffix(want, `"`) && strings.Contains(out, "mean") {
			t.Errorf("%s: %d %s", line, status, out)
		}
	}
	for _, line := range []string{"--version", "version"} {
		if out, status := sqgateOutput(t, nil, line); status != 0 || !strings.HasPrefix(out, "sqgate ") || !strings.Contains(out, "SQ protocol 0.5.5") {
			t.Errorf("%s: %d %s", line, status, out)
		}
	}
	for line, want := range map[string]string{"help": "Available Commands", "help tenant": "rotate-key", "help tenant add": "--quota-mb", "help serve": "--listen"} {
		if out, status := sqgateOutput(t, nil, strings.Fields(line)...); status != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s", line, status, out)
		}
	}
	if out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey}, "backup", "will", "/nonexistent/x.tar"); status != 1 || !strings.Contains(out, "/nonexistent/x.tar cannot be written: stat /nonexistent: no such file or directory; make that directory") {
		t.Errorf("%d %s", status, out)
	}
	if out, status := sqgateOutput(t, nil, "tenant"); status != 0 || !strings.Contains(out, "rotate-key") {
		t.Errorf("tenant: %d %s", status, out)
	}
}

// TestMetricsKey has a key from a file and from systemd's credentials. It reads the
// metrics, and nothing else.
func TestMetricsKey(t *testing.T) {
	t.Parallel()
	const key = "key-of-the-metrics"
	credentials := t.TempDir()
	path := filepath.Join(credentials, "metrics-key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, builtin, "will")
	for _, from := range []func(){
		func() { g.args = []string{"--metrics-key-file", path} },
		func() { g.args, g.env = nil, []string{"CREDENTIALS_DIRECTORY=" + credentials} },
	} {
		from()
		g.start()
		for target, status := range map[string]int{
			"/api/v2/metrics": 200, "/api/v2/admin/tenants": 403, "/api/v2/admin/nope": 403, "/api/v2/admin/metrics": 403, "/api/v2/metrics/": 404,
			"/api/v2/select": 403,
		} {
			if r, err := g.doKey(key, "GET", target); err != nil || r.status != status {
				t.Errorf("%s: %v %d %s, want %d", target, err, r.status, r.body, status)
			}
		}
		if r, err := g.doKey(key, "GET", "/api/v2/select"); err != nil || !strings.Contains(r.body, "which reads /api/v2/metrics and nothing else: a tenant's calls take that tenant's API key") {
			t.Errorf("%v %s", err, r.body)
		}
		if r, err := g.doKey(key, "POST", "/api/v2/metrics"); err != nil || r.status != 405 {
			t.Errorf("%v %d %s", err, r.status, r.body)
		}
		if strings.Contains(g.log.String(), key) {
			t.Error("the log has the key")
		}
		g.stop()
	}
	for _, args := range [][]string{{"--metrics-key", adminKey}, {"--metrics-key", "short"}, {"--metrics-key", key, "--metrics-key-file", path}} {
		out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey}, append([]string{"serve", "--config", g.configPath(), "--sq", builtin, "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0"}, args...)...)
		if status != 2 || !strings.Contains(out, "metrics-key") {
			t.Errorf("%q: %d %s", args, status, out)
		}
	}
}

// TestAdopting adopts the data of a single-tenant SQ, with init and at the first
// start.
func TestAdopting(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq)
		if err := os.Remove(g.configPath()); err != nil {
			t.Fatal(err)
		}
		old := filepath.Join(g.dir, "sq")
		if err := os.MkdirAll(filepath.Join(old, "tenants"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(old, "notes.phext"), []byte("from before\x17second"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := snapshot(t, old, ".")
		const oldKey = "key-of-the-old-service"
		out, status := sqgateOutput(t, nil, "init", "--config", g.configPath(), "--adopt", old, "--key", oldKey)
		if status != 0 || snapshot(t, old, ".") != before || !strings.Contains(out, "To go back") {
			t.Fatalf("%d %s", status, out)
		}
		g.start()
		if r, err := g.doKey(oldKey, "GET", at("select", "notes", origin)); err != nil || r.body != "from before" {
			t.Errorf("%v %d %q", err, r.status, r.body)
		}
		if out, status := sqgateOutput(t, nil, "init", "--config", g.configPath()); status != 2 || !strings.Contains(out, "exists") {
			t.Errorf("init over a file: %d %s", status, out)
		}
		g.stop()

		for _, path := range []string{g.configPath(), filepath.Join(g.dir, "state")} {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		g.args = []string{"--data-root", filepath.Join(old, "tenants")}
		g.start()
		found := g.manage("GET", "tenants/default", "", http.StatusOK)
		if found["data_dir"] != old || found["phexts"] != 1.0 {
			t.Errorf("adopted by itself: %v", found)
		}
	})
}

// TestWhereTheKeyIsFrom: the shell says which key was refused, and how to give another.
func TestWhereTheKeyIsFrom(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	file := filepath.Join(t.TempDir(), "key")
	for _, c := range []struct{ key, from, says string }{
		{"wrong-management-key", "SQ_ADMIN_KEY", "it is not the management key"},
		{"wrong-management-key", "--admin-key", "it is not the management key"},
		{"wrong-management-key", file, "it is not the management key"},
		{g.key("will"), file, "this is a tenant's API key"},
	} {
		env, args := []string{"SQ_ADMIN_KEY="}, []string{"tenant", "list", "--url", g.url}
		switch c.from {
		case "SQ_ADMIN_KEY":
			env = []string{"SQ_ADMIN_KEY=" + c.key}
		case "--admin-key":
			args = append(args, "--admin-key", c.key)
		default:
			if err := os.WriteFile(file, []byte(c.key), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--admin-key-file", file)
		}
		out, status := sqgateOutput(t, env, args...)
		if status != 1 || !strings.Contains(out, "refuses the key from "+c.from) || !strings.Contains(out, c.says) || !strings.Contains(out, "--admin-key-file") || !strings.Contains(out, "/etc/credstore/sqgate.admin-key") || strings.Contains(out, c.key) {
			t.Errorf("%s: %d %s", c.from, status, out)
		}
	}
}

// TestClientKey: the unit's own key comes before the one that an earlier start generated.
func TestClientKey(t *testing.T) {
	t.Setenv("SQ_ADMIN_KEY", "")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	unitKey := filepath.Join(t.TempDir(), "sqgate.admin-key")
	if err := os.WriteFile(unitKey, []byte("key-of-the-operator\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, from, err := clientKey(defaultOptions(), unitKey); key != "key-of-the-operator" || from != unitKey || err != nil {
		t.Errorf("%q from %s, %v", key, from, err)
	}
	o := defaultOptions()
	o.stateDir = t.TempDir() // of another sqgate
	if key, from, err := clientKey(o, unitKey); err == nil {
		t.Errorf("%q from %s", key, from)
	}
}

// TestNobodyAnswers: the shell says what to look at.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"http://" + address: "^sqgate: nothing listens at http://" + address + ": `systemctl status sq.socket sq` says .* --url or SQGATE_URL",
		"127.0.0.1:1337":    `^sqgate: --url is "127.0.0.1:1337": an address such as http://127.0.0.1:1337 is wanted`,
	} {
		if out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey}, "tenant", "list", "--url", url); status == 0 || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: %d %s", url, status, out)
		}
	}
}

// TestACredentialThatIsNoKey: an empty metrics key keeps nobody's requests out. Each
// error names the file that the operator wrote.
func TestACredentialThatIsNoKey(t *testing.T) {
	t.Parallel()
	credentials := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(credentials, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("metrics-key", "\n")
	g := newGate(t, builtin, "will")
	g.env = []string{"CREDENTIALS_DIRECTORY=" + credentials}
	g.start()
	g.must("will", "GET", at("select", "n", origin), "", 200)
	if log := g.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "/etc/credstore/sqgate.metrics-key") {
		t.Error(log)
	}
	g.stop()
	put("admin-key", "short")
	out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=", "CREDENTIALS_DIRECTORY=" + credentials}, "serve", "--config", g.configPath(), "--sq", builtin, "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0")
	if status != 2 || !strings.Contains(out, "has 5 characters") || !strings.Contains(out, "the unit has it from /etc/credstore/sqgate.admin-key") {
		t.Errorf("%d %s", status, out)
	}
}
