package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// manage makes a management call, which must be answered with status, and
// returns the decoded answer.
func (g *gate) manage(method, path, body string, status int) map[string]any {
	g.t.Helper()
	r := g.manageRaw(adminKey, method, path, body)
	if r.status != status {
		g.t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, r.status, r.body, status)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		g.t.Fatalf("%s %s: %v in %q", method, path, err, r.body)
	}
	return out
}

func (g *gate) manageRaw(key, method, path, body string) reply {
	g.t.Helper()
	req, err := http.NewRequest(method, g.url+"/api/v2/admin/"+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	r, err := g.send(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// add adds a tenant over the API. Its key is then available from key.
func (g *gate) add(id string, quotaMB int) {
	g.t.Helper()
	out := g.manage("POST", "tenants/add", fmt.Sprintf(`{"tenant_id": %q, "quota_mb": %d}`, id, quotaMB), 201)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file[id] = map[string]any{"api_key": out["api_key"], "data_dir": out["data_dir"]}
}

// TestTenantLifecycle is what an operator does with a tenant: add, use, stats,
// raise the quota, rotate the key, delete, list, restore.
func TestTenantLifecycle(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.add("acme", 1)
		g.must("acme", "POST", at("update", "notes", origin), "hello", 200)
		stats := g.manage("GET", "tenants/acme/stats", "", 200)
		if stats["storage_used_bytes"] != 5.0 || stats["api_calls_today"] != 1.0 || stats["quota_mb"] != 1.0 || stats["status"] != "active" || stats["last_active"] == nil {
			t.Errorf("stats: %v", stats)
		}
		if got := g.manage("PATCH", "tenants/acme", `{"quota_mb": 2, "admin_email": "a@example.org"}`, 200); got["quota_mb"] != 2.0 || got["admin_email"] != "a@example.org" {
			t.Errorf("changed: %v", got)
		}
		old := g.key("acme")
		rotated := g.manage("POST", "tenants/acme/rotate-key", `{"overlap": "1h"}`, 200)
		for _, key := range []string{old, rotated["api_key"].(string)} {
			if r, err := g.doKey(key, "GET", at("select", "notes", origin)); err != nil || r.body != "hello" {
				t.Errorf("during the overlap: %v %d %q", err, r.status, r.body)
			}
		}
		if rotated["warning"] != nil {
			t.Errorf("the first rotation: %v", rotated)
		}
		last := g.manage("POST", "tenants/acme/rotate-key", "", 200)
		again := last["api_key"].(string)
		if text, _ := last["warning"].(string); !strings.Contains(text, "works no more") {
			t.Errorf("nothing is said of the key before: %v", last)
		}
		for _, key := range []string{old, rotated["api_key"].(string)} {
			if r, err := g.doKey(key, "GET", at("select", "notes", origin)); err != nil || r.status != 401 {
				t.Errorf("an old key after the overlap: %v %d", err, r.status)
			}
		}
		g.set("acme", "api_key", again)
		if lines := g.manage("GET", "tenants/acme/logs", "", 200)["lines"].([]any); len(lines) == 0 {
			t.Error("no output of the child")
		}
		g.deleteAndRestore(t)
		g.checkSecrets(t, old, again, adminKey)
	})
}

// deleteAndRestore deletes the tenant acme twice, and restores it from its archive.
func (g *gate) deleteAndRestore(t *testing.T) {
	t.Helper()
	before := snapshot(t, g.dataDir("acme"), ".")
	deleted := g.manage("DELETE", "tenants/acme", "", 200)
	g.must("acme", "GET", at("select", "notes", origin), "", 403)
	if files := snapshot(t, g.dataDir("acme"), "."); files != "" || len(childrenOf(g.dataDir("acme"))) != 0 {
		t.Errorf("after the delete: files %q, processes %v", files, childrenOf(g.dataDir("acme")))
	}
	if again := g.manage("DELETE", "tenants/acme", "", 200); again["archive"] != deleted["archive"] {
		t.Errorf("deleted again: %v, before %v", again, deleted)
	}
	for query, want := range map[string]string{"status=archived": "acme", "": "will", "status=disabled": ""} {
		var ids []string
		for _, listed := range g.manage("GET", "tenants?"+query, "", 200)["tenants"].([]any) {
			ids = append(ids, listed.(map[string]any)["tenant_id"].(string))
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	if metrics := g.metrics(t); strings.Contains(metrics, `"acme"`) || !strings.Contains(metrics, `"will"`) {
		t.Errorf("metrics after the delete:\n%s", grep(metrics, "acme|will"))
	}
	archive := deleted["archive"].(string)
	g.manage("POST", "tenants/acme/restore", fmt.Sprintf(`{"archive": %q}`, archive), 200)
	if got := g.get("acme", at("select", "notes", origin)); got != "hello" {
		t.Errorf("restored: %q", got)
	}
	if after := snapshot(t, g.dataDir("acme"), "."); after != before {
		t.Errorf("restored:\n%s\nwas\n%s", after, before)
	}
	var events []string
	for _, e := range g.manage("GET", "tenants/acme/history", "", 200)["events"].([]any) {
		event := e.(map[string]any)
		events = append(events, fmt.Sprint(event["op"], " ", event["note"]))
	}
	if got := strings.Join(events, ", "); got != "update <nil>, remove the tenant was deleted, replace the tenant was restored from an archive" {
		t.Errorf("the history is %q", got)
	}
}

// checkSecrets looks for keys in the audit log, the log and the metrics.
func (g *gate) checkSecrets(t *testing.T, keys ...string) {
	t.Helper()
	audit, err := os.ReadFile(filepath.Join(g.dir, "state", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{`"what":"add"`, `"what":"change"`, `"what":"rotate-key"`, `"what":"delete"`, `"what":"restore"`} {
		if !strings.Contains(string(audit), what) {
			t.Errorf("the audit log has no %s:\n%s", what, audit)
		}
	}
	metrics := g.metrics(t)
	for _, key := range keys {
		for place, text := range map[string]string{"audit log": string(audit), "log": g.log.String(), "metrics": metrics} {
			if strings.Contains(text, key) {
				t.Errorf("a key stands in the %s", place)
			}
		}
	}
}

func (g *gate) metrics(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequest("GET", g.url+"/api/v2/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Admin-API-Key", adminKey)
	r, err := g.send(req)
	if err != nil || r.status != 200 {
		t.Fatalf("metrics: %v %d %s", err, r.status, r.body)
	}
	return r.body
}

// sample is the value of one series of the metrics, or -1 if there is none.
func sample(metrics, series string) float64 {
	for _, line := range strings.Split(metrics, "\n") {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				return v
			}
		}
	}
	return -1
}

func TestManagementNeedsItsKey(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	for _, path := range []string{"tenants", "tenants/will", "reload", "nope"} {
		if r := g.manageRaw("", "GET", path, ""); r.status != 401 || r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s without a key: %d", path, r.status)
		}
		if r := g.manageRaw(g.key("will"), "GET", path, ""); r.status != 403 {
			t.Errorf("%s with a tenant's key: %d", path, r.status)
		}
	}
	g.must("will", "GET", "/api/v2/metrics", "", 403)
	limited := false
	for range 100 {
		r := g.manageRaw("a-wrong-key", "GET", "tenants", "")
		limited = limited || r.status == 429 && r.header.Get("Retry-After") != ""
	}
	if !limited {
		t.Error("wrong keys are not limited")
	}
	g.manage("GET", "tenants", "", 200) // the right key still works from the same address
}

func TestBadManagementCalls(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.must("will", "POST", at("update", "n", origin), "x", 200)
	before, err := os.ReadFile(g.configPath())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		names              string
	}{
		{"POST", "tenants/add", `{`, 400, "JSON"},
		{"POST", "tenants/add", `[]`, 400, "object"},
		{"POST", "tenants/add", `{"tenant_id": "a"} x`, 400, "behind"},
		{"POST", "tenants/add", ``, 400, "tenant_id"},
		{"POST", "tenants/add", `{"tenant_id": 5}`, 400, "tenant_id"},
		{"POST", "tenants/add", `{"tenant_id": "A B"}`, 400, "tenant_id"},
		{"POST", "tenants/add", `{"tenant_id": "../etc"}`, 400, "tenant_id"},
		{"POST", "tenants/add", `{"tenant_id": "select"}`, 400, "tenant_id"},
		{"POST", "tenants/add", `{"tenant_id": "a", "quota_mb": -1}`, 400, "quota_mb"},
		{"POST", "tenants/add", `{"tenant_id": "a", "quota_mb": "1"}`, 400, "quota_mb"},
		{"POST", "tenants/add", `{"tenant_id": "a", "quota": 1}`, 400, "quota"},
		{"POST", "tenants/add", `{"tenant_id": "a", "data_dir": "/etc"}`, 400, "data_dir"},
		{"POST", "tenants/add", `{"tenant_id": "will"}`, 409, "already"},
		{"POST", "tenants/add", `{"tenant_id": "` + strings.Repeat("a", 70000) + `"}`, 413, "larger"},
		{"PATCH", "tenants/will", `{}`, 400, "quota_mb"},
		{"PATCH", "tenants/will", `{"quota_mb": -5}`, 400, "quota_mb"},
		{"PATCH", "tenants/will", `{"calls_per_day": -5}`, 400, "calls_per_day"},
		{"PATCH", "tenants/will", `{"enabled": "no"}`, 400, "enabled"},
		{"PATCH", "tenants/will", `{"id": "other"}`, 400, "id"},
		{"PATCH", "tenants/nobody", `{"quota_mb": 5}`, 404, "no such tenant"},
		{"POST", "tenants/will/rotate-key", `{"overlap": "soon"}`, 400, "overlap"},
		{"POST", "tenants/will/rotate-key", `{"overlap": "-1h"}`, 400, "overlap"},
		{"POST", "tenants/will/restore", `{}`, 400, "archive"},
		{"POST", "tenants/will/restore", `{"archive": "x"}`, 409, "not deleted"},
		{"DELETE", "tenants/nobody", ``, 404, "no such tenant"},
		{"GET", "tenants?status=odd", ``, 400, "status"},
		{"GET", "tenants?idle_since=odd", ``, 400, "idle_since"},
		{"DELETE", "tenants", ``, 405, "GET"},
		{"GET", "nothing", ``, 404, "no such management call"},
	} {
		if out := g.manage(c.method, c.path, c.body, c.status); !strings.Contains(fmt.Sprint(out["error"]), c.names) {
			t.Errorf("%s %s %.60s: %v does not name %s", c.method, c.path, c.body, out["error"], c.names)
		}
	}
	if after, err := os.ReadFile(g.configPath()); err != nil || string(after) != string(before) {
		t.Errorf("%v: the tenants file was changed:\n%s", err, after)
	}
	g.manage("DELETE", "tenants/will", "", 200)
	for _, archive := range []string{"../../../etc/passwd", "/etc/passwd", "nobody-20260101T000000.000000000Z.tar.gz", "will-20260101T000000.000000000Z.tar.gz", ""} {
		if r := g.manageRaw(adminKey, "POST", "tenants/will/restore", fmt.Sprintf(`{"archive": %q}`, archive)); r.status != 400 && r.status != 404 || !strings.Contains(r.body, "archive") {
			t.Errorf("archive %q: %d %s", archive, r.status, r.body)
		}
	}
}

func TestEditsByHandAndOverTheAPI(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "b", "a")
	text, err := os.ReadFile(g.configPath())
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(text), `"id": "a"`, `"id": "a", "quota_mb": 7`, 1)
	edited = strings.Replace(edited, `"reload_on_change": true`, `"reload_on_change": false`, 1)
	if err := os.WriteFile(g.configPath(), []byte(edited), 0o640); err != nil {
		t.Fatal(err)
	}
	g.add("c", 5) // at once, so that sqgate may not have seen the edit yet
	g.must("c", "GET", "/api/v2/toc", "", 200)
	if got := g.manage("GET", "tenants/a", "", 200)["quota_mb"]; got != 7.0 {
		t.Errorf("the edit by hand was lost: quota_mb is %v", got)
	}
	text, err = os.ReadFile(g.configPath())
	if err != nil {
		t.Fatal(err)
	}
	order := regexp.MustCompile(`(?s)"id": "b".*"id": "a".*"id": "c".*"reload_on_change": false`)
	if !order.Match(text) || strings.Contains(string(text), g.key("c")) {
		t.Errorf("the file is\n%s", text)
	}
	if info, err := os.Stat(g.configPath()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v: mode %v", err, info.Mode())
	}
	if err := os.WriteFile(g.configPath(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.manage("POST", "tenants/add", `{"tenant_id": "d"}`, 409)
	g.manage("POST", "reload", "", 409)
	g.must("c", "GET", "/api/v2/toc", "", 200)
	if sample(g.metrics(t), "sq_config_last_reload_successful") != 0 {
		t.Error("the metric says that the broken file is in force")
	}
}

func TestMetricsAreExact(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "a", "b")
		var clients sync.WaitGroup
		var counted [3]atomic.Int64 // by operation, in the order of ops
		ops := [...]string{"update", "insert", "delete"}
		for c := range 8 {
			clients.Go(func() {
				random := rand.New(rand.NewPCG(uint64(c), 1))
				for range 125 {
					op := random.IntN(3)
					target := at(ops[op], fmt.Sprint("p", random.IntN(3)), fmt.Sprintf("1.1.1/1.1.%d/1.1.%d", 1+random.IntN(3), 1+random.IntN(9)))
					body := strings.Repeat("x", random.IntN(300))
					if r, err := g.do("a", "POST", target, body); err != nil || r.status != 200 {
						t.Errorf("%v %d %s", err, r.status, r.body)
						return
					}
					counted[op].Add(1)
				}
			})
		}
		clients.Wait()
		metrics := g.metrics(t)
		for i, op := range ops {
			if got := sample(metrics, fmt.Sprintf(`sq_api_calls_total{method=%q,tenant="a"}`, op)); got != float64(counted[i].Load()) {
				t.Errorf("%s: counted %v, sent %d", op, got, counted[i].Load())
			}
		}
		if got, want := sample(metrics, `sq_storage_bytes{tenant="a"}`), sizeOfPhexts(t, g.dataDir("a")); got != float64(want) {
			t.Errorf("sq_storage_bytes is %v, the files have %d", got, want)
		}
		if sample(metrics, "sq_tenants_active") != 2 || sample(metrics, `sq_children{state="ready"}`) != 1 || sample(metrics, `sq_child_starts_total{reason="first",tenant="a"}`) != 1 {
			t.Errorf("tenants or children:\n%s", grep(metrics, "sq_tenants_active|sq_child"))
		}
		if err := os.WriteFile(filepath.Join(g.dataDir("a"), "by-hand.phext"), make([]byte, 12345), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a file dropped in by hand counts", func() bool {
			return sample(g.metrics(t), `sq_storage_bytes{tenant="a"}`) == float64(sizeOfPhexts(t, g.dataDir("a")))
		})
		g.removeTenant("a")
		g.writeFile()
		eventually(t, "the series go with the tenant", func() bool { return !strings.Contains(g.metrics(t), `tenant="a"`) })
	})
}

// grep is the lines of a text that match a pattern.
func grep(text, pattern string) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if regexp.MustCompile(pattern).MatchString(line) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func TestManyTenantsAdded(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin)
	begin := time.Now()
	many := rounds(100, 500)
	for i := range many {
		id := fmt.Sprintf("tenant-%03d", i)
		g.add(id, 10)
		g.must(id, "GET", at("select", "n", origin), "", 200)
		if i%50 == 49 {
			if out, status := sqgateOutput(t, nil, "check", "--config", g.configPath()); status != 0 || !strings.Contains(out, fmt.Sprintf("%d tenants", i+1)) {
				t.Fatalf("after %d: %s", i+1, out)
			}
		}
	}
	t.Logf("%d tenants, each used at once, in %v", many, time.Since(begin))
}
