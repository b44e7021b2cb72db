package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// breakFile writes a tenants file in which the entry of will has a mistake.
func (g *gate) breakFile() {
	g.t.Helper()
	good, err := os.ReadFile(g.configPath())
	if err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.configPath(), []byte(strings.Replace(string(good), `"id": "will"`, `"idd": "will"`, 1)), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// TestABadFileAtARestart kills a sqgate, so that its child is left, and breaks the
// tenants file. The next one says what is wrong, and serves when it is mended.
func TestABadFileAtARestart(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		env, await := manager(t)
		g := newGate(t, sq, "will")
		g.env = []string{env}
		g.start()
		g.must("will", "POST", at("update", "n", origin), "x", 200)
		orphans := childrenOf(g.dataDir("will"))
		g.kill()
		g.breakFile()
		g.start()
		if line := await("STATUS=NO TENANT IS SERVED"); !strings.Contains(line, "READY=1") || !strings.Contains(line, g.configPath()) || !strings.Contains(line, `"idd"`) {
			t.Errorf("systemd is told %q", line)
		}
		for _, target := range []string{at("select", "n", origin), "/api/v2/read/1.1.1/1.1.1/1.1.1", "/nothing"} {
			r := g.must("will", "GET", target, "", 503)
			if !strings.Contains(r.body, "tenants file") || r.header.Get("Retry-After") != "5" {
				t.Errorf("%s: %v %s", target, r.header, r.body)
			}
		}
		health := g.must("", "GET", "/health", "", 503).body
		if !strings.Contains(health, `"status":"no_tenants_file"`) || !strings.Contains(health, "has a mistake") || strings.Contains(health, "will") || strings.Contains(health, g.dir) {
			t.Errorf("health: %s", health)
		}
		for _, call := range []string{"GET /api/v2/admin/tenants", "GET /api/v2/admin/tenants/will", "POST /api/v2/admin/reload"} {
			method, path, _ := strings.Cut(call, " ")
			status, said := g.admin(method, path)
			if status != map[bool]int{true: 503, false: 409}[method == "GET"] || !strings.Contains(said, `\"idd\"`) || !strings.Contains(said, g.configPath()) {
				t.Errorf("%s: %d %s", call, status, said)
			}
		}
		if _, said := g.admin("GET", "/api/v2/metrics"); !strings.Contains(said, "sq_config_last_reload_successful 0") {
			t.Errorf("metrics: %s", said)
		}

		g.writeFile()
		await("STATUS=1 tenant,")
		if got := g.get("will", at("select", "n", origin)); got != "x" {
			t.Errorf("mended: %q", got)
		}
		if health := g.get("", "/health"); !strings.Contains(health, `"status":"ok"`) {
			t.Errorf("health: %s", health)
		}
		g.must("will", "POST", at("update", "n", origin), "y", 200)
		eventually(t, "the child that was left is replaced by one", func() bool {
			now := childrenOf(g.dataDir("will"))
			return len(now) == 1 && !slices.Equal(now, orphans)
		})
	})
}

// TestALostFileIsNotReplaced has phexts where those of a single-tenant SQ would be. They
// are adopted at the first start alone.
func TestALostFileIsNotReplaced(t *testing.T) {
	t.Parallel()
	env, await := manager(t)
	g := newGate(t, builtin)
	g.env = []string{env}
	if err := os.WriteFile(filepath.Join(g.dir, "old.phext"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	remove := func() {
		if err := os.Remove(g.configPath()); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	g.start()
	await("STATUS=1 tenant")
	g.stop()
	remove()
	g.start()
	await("STATUS=NO TENANT IS SERVED")
	if _, err := os.Stat(g.configPath()); err == nil {
		t.Error("another tenants file was written")
	}
}

// admin sends a management call.
func (g *gate) admin(method, path string) (status int, body string) {
	g.t.Helper()
	req, err := http.NewRequest(method, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	r, err := g.send(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return r.status, r.body
}

// TestAFailedStartLeavesNothing has a person start sqgate with a tenants file that is
// missing or bad: it ends at once, and makes no directories.
func TestAFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	bad := newGate(t, builtin, "will")
	bad.breakFile()
	for name, config := range map[string]string{"missing": filepath.Join(t.TempDir(), "missing", "tenants.json"), "bad": bad.configPath()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out, status := sqgateOutput(t, nil, "serve", "--sq", builtin, "--config", config, "--listen", "127.0.0.1:0",
				"--state-dir", dir+"/state", "--data-root", dir+"/data", "--archive-dir", dir+"/archive", "--log-dir", dir+"/log")
			left, err := os.ReadDir(dir)
			if status != 2 || !strings.Contains(out, config) || err != nil || len(left) > 0 {
				t.Errorf("%d %s, left %v, %v", status, out, left, err)
			}
			if _, err := os.Stat(filepath.Dir(config)); name == "missing" && err == nil {
				t.Error("the directory of the tenants file was made")
			}
		})
	}
}

// TestCannotStart starts sqgate behind a socket of systemd, in ways in which it cannot
// start. It answers that meanwhile.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env   string
		setUp func(g *gate)
		says  string
	}{
		"no SQ":          {setUp: func(g *gate) { g.sq = "/no/such/sq" }, says: "--sq"},
		"a bad setting":  {env: "SQGATE_IDLE_TIMEOUT=soon", says: "SQGATE_IDLE_TIMEOUT"},
		"a bad key":      {env: "SQGATE_ADMIN_KEY=short", says: "--admin-key"},
		"a bad key file": {env: "SQGATE_ADMIN_KEY_FILE=/no/such/key", says: "/no/such/key"},
		"a state directory that cannot be written": {says: "--state-dir", setUp: func(g *gate) {
			if err := os.WriteFile(filepath.Join(g.dir, "state"), nil, 0o600); err != nil {
				g.t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			socket, err := l.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			if err := l.Close(); err != nil { // the copy keeps the socket open
				t.Fatal(err)
			}
			env, await := manager(t)
			g := newGate(t, builtin, "will")
			g.url, g.env = "http://"+l.Addr().String(), []string{env, c.env}
			if c.setUp != nil {
				c.setUp(g)
			}
			g.activate(socket)
			if line := await("STATUS="); !strings.Contains(line, "CANNOT START") || !strings.Contains(line, c.says) {
				t.Errorf("systemd is told %q", line)
			}
			r, err := g.do("will", "GET", at("select", "n", origin), "")
			var said struct{ Error, Code string }
			if err != nil || r.status != 503 || json.Unmarshal([]byte(r.body), &said) != nil || said.Code != "unavailable" || r.header.Get("Retry-After") == "" || r.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%v, %+v", err, r)
			}
			if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			g.wait()
		})
	}
}

// TestOnlyServeCannotStart has a unit run other commands, as ExecStartPre= does, with
// mistakes: they end at once, and say nothing of the service.
func TestOnlyServeCannotStart(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"check", "--config", "/no/such/file"}, {"check", "--confg=x"}, {"tenant", "lst"}, {"chekc"}, {"version", "x"}} {
		env, await := manager(t)
		if out, status := sqgateOutput(t, []string{env}, args...); status != 2 {
			t.Errorf("%q: %d %s", args, status, out)
		}
		socket, err := net.Dial("unixgram", strings.TrimPrefix(env, "NOTIFY_SOCKET="))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := socket.Write([]byte("the end")); err != nil {
			t.Fatal(err)
		}
		if err := socket.Close(); err != nil {
			t.Fatal(err)
		}
		if told := await(""); told != "the end" {
			t.Errorf("%q: systemd is told %q", args, told)
		}
	}
}
