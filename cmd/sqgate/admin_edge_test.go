package main

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ask sends a request as it is, follows no redirect, and demands a status.
func (g *gate) ask(key, method, path, body string, status int) reply {
	g.t.Helper()
	req, err := http.NewRequest(method, g.url+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	req.Header.Set("Origin", "https://example.org")
	was := *g.client
	g.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := g.send(req)
	*g.client = was
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	if r.status != status {
		g.t.Errorf("%s %s: %d %s, want %d", method, path, r.status, r.body, status)
	}
	return r
}

// TestUncleanManagementPaths expects 404 with any key and with none, and no
// redirect.
func TestUncleanManagementPaths(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	for _, path := range []string{
		"/api/v2/admin/../version", "/api/v2/admin/%2e%2e/version", "/api/v2/admin/..%2fversion",
		"/api/v2/admin//tenants", "/api/v2/admin/./tenants", "/api/v2/admin/tenants/", "/api/v2/admin/",
		"/api/v2/version/../admin/tenants", "//api/v2/admin/tenants", "/api//v2/metrics", "/api/v2/admin/tenants/../../metrics",
		"/k/0123456789012345678901/../../api/v2/admin/tenants",
	} {
		for _, key := range []string{"", "wrong", g.key("will"), adminKey} {
			if r := g.ask(key, "GET", path, "", 404); !strings.Contains(r.body, "not_found") || r.header.Get("Location") != "" {
				t.Errorf("%s: %s, Location %q", path, r.body, r.header.Get("Location"))
			}
		}
	}
}

// TestManagementHasNoCORS expects that no page of another origin can read what
// the management API answers, and that the tenant API still allows it.
func TestManagementHasNoCORS(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	for _, r := range []reply{
		g.ask("", "OPTIONS", "/api/v2/admin/tenants", "", 401), g.ask("", "OPTIONS", "/api/v2/metrics", "", 401),
		g.ask(adminKey, "OPTIONS", "/api/v2/admin/tenants", "", 405), g.ask("", "GET", "/api/v2/admin/tenants", "", 401),
		g.ask(adminKey, "GET", "/api/v2/admin/tenants", "", 200), g.ask(adminKey, "GET", "/api/v2/metrics", "", 200),
		g.ask(adminKey, "GET", "/api/v2/admin/nothing", "", 404), g.ask("", "OPTIONS", "/api/v2/admin/../metrics", "", 404),
		g.ask(adminKey, "GET", "/api/v2/admin/tenants/will/backup", "", 200),
	} {
		for name := range r.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%d %.60s: %s", r.status, r.body, name)
			}
		}
		if r.header.Get("X-Content-Type-Options") != "nosniff" || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%d %.60s: %v", r.status, r.body, r.header)
		}
	}
	for _, r := range []reply{g.ask("", "OPTIONS", "/api/v2/toc", "", 204), g.ask("", "GET", "/api/v2/toc", "", 401), g.ask("", "GET", "/health", "", 200)} {
		if got := r.header.Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != "*" {
			t.Errorf("%d %s: %q", r.status, r.body, got)
		}
	}
}

// TestNoManagementInputIs500 sends what is wrong in many ways. None of it is a
// failure of the host.
func TestNoManagementInputIs500(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.must("will", "POST", at("update", "n", origin), "x", 200)
	const history, restore = "/api/v2/admin/tenants/will/history", "/api/v2/admin/tenants/will/restore"
	for query, status := range map[string]int{
		"phext=..%2f..": 403, "phext=a%2fb": 403, "phext=%00": 400, "phext=%ff": 400, "phext=" + strings.Repeat("n", 300): 400,
		"phext=n&coordinate=..%2f..": 400, "phext=n&coordinate=%00": 400, "phext=n&coordinate=no.such.name/1.1.1/1.1.1": 200,
		"coordinate=1.1.1/1.1.1/1.1.1": 400, "phext=&coordinate=": 404, "phext=none": 404, "%zz": 400, "phext=n&coordinate=other.1.1.1/1.1.1/1.1.1": 403,
	} {
		g.ask(adminKey, "GET", history+"?"+query, "", status)
	}
	for body, status := range map[string]int{
		`{"at": "1ns", "phext": "../.."}`: 403, `{"at": "1ns", "phext": "a\u0000"}`: 400, `{"at": "1ns", "phext": "n", "to": "../n"}`: 403,
		`{"at": "0001-01-01"}`: 404, `{"at": "9999-12-31", "dry_run": true}`: 400, `{"at": "2562047h", "phext": "n"}`: 404,
		`{"at": "1ns", "coordinate": "1.1.1/1.1.1/1.1.1"}`: 400, `{"at": "1ns", "phext": "n", "coordinate": "x.y.z/1.1.1/1.1.1"}`: 404,
		`{"at": "1ns", "to": "n"}`: 400, `{"archive": "a\u0000b"}`: 409, `null`: 400, `"x"`: 400,
		`{"at": "1ns", "phext": "` + strings.Repeat("n", 300) + `"}`: 400,
		strings.Repeat(`{"at":`, 10001):                              400,
	} {
		g.ask(adminKey, "POST", restore, body, status)
	}
	for _, id := range []string{"%00", "..%2f..", "a%2fb", "%ff", strings.Repeat("a", 300)} {
		for _, call := range []string{"GET ", "GET /stats", "GET /logs", "GET /history", "GET /backup", "PATCH ", "POST /rotate-key", "POST /restore", "DELETE "} {
			method, behind, _ := strings.Cut(call, " ")
			if r := g.manageRaw(adminKey, method, "tenants/"+id+behind, ""); r.status != 400 && r.status != 404 {
				t.Errorf("%s of tenant %s: %d %s", call, id, r.status, r.body)
			}
		}
	}
	if log := g.log.String(); strings.Contains(log, "a management call failed") {
		t.Errorf("a call was logged as failed:\n%s", tail(log, 20))
	}
}

// TestDeletingOnAReadOnlyDisk changes nothing, and says so.
func TestDeletingOnAReadOnlyDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a disk")
	}
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will")
		if err := os.MkdirAll(g.dataDir("will"), 0o700); err != nil {
			t.Fatal(err)
		}
		mount := func(flags uintptr) {
			t.Helper()
			if err := unix.Mount("sqgate", g.dataDir("will"), "tmpfs", flags, "size=16m"); err != nil {
				t.Skip("no disk can be mounted:", err)
			}
		}
		mount(0)
		t.Cleanup(func() {
			g.stop()
			if err := unix.Unmount(g.dataDir("will"), unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		g.start()
		g.must("will", "POST", at("update", "n", origin), "kept", 200)
		mount(unix.MS_REMOUNT | unix.MS_RDONLY)
		r := g.manageRaw(adminKey, "DELETE", "tenants/will", "")
		if r.status != 500 || !strings.Contains(r.body, "nothing was changed") || !strings.Contains(r.body, "read-only file system") || !strings.Contains(r.body, g.dataDir("will")) {
			t.Errorf("%d %s", r.status, r.body)
		}
		if status := g.manage("GET", "tenants/will", "", 200)["status"]; status != "active" {
			t.Errorf("the tenant is %v", status)
		}
		if got := g.get("will", at("select", "n", origin)); got != "kept" {
			t.Errorf("%q", got)
		}
		mount(unix.MS_REMOUNT)
		g.manage("DELETE", "tenants/will", "", 200)
	})
}
