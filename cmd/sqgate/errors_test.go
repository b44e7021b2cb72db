package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withKey sends a request with a key, in a header of the caller's.
func (g *gate) withKey(header, key, method, target, body string) reply {
	g.t.Helper()
	req, err := http.NewRequest(method, g.url+target, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set(header, key)
	r, err := g.send(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// TestErrorsSayWhatToDo makes the mistakes of somebody who is new to the two APIs.
func TestErrorsSayWhatToDo(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will")
		const metrics = "metrics-key-of-the-tests"
		g.args = []string{"--metrics-key", metrics}
		g.start()
		const bearer = "Authorization"
		for _, c := range []struct {
			header, key, method, target, body string
			status                            int
			says                              []string
		}{
			{bearer, "Bearer " + adminKey, "GET", at("select", "n", origin), "", 403, []string{"management key", "tenant's API key", "/api/v2/admin/", "forbidden"}},
			{"X-SQ-API-Key", adminKey, "POST", at("update", "n", origin), "text", 403, []string{"management key"}},
			{bearer, "Bearer " + adminKey, "GET", "/api/v2/read/1.1.1/1.1.1/1.1.1", "", 403, []string{"management key", "FORBIDDEN"}},
			{bearer, "Bearer " + adminKey, "GET", "/will/api/v2/toc?p=n", "", 403, []string{"management key"}},
			{bearer, metrics, "GET", at("toc", "n", origin), "", 403, []string{"metrics key", "tenant's API key"}},
			{bearer, "Bearer " + adminKey + "x", "GET", at("toc", "n", origin), "", 401, []string{"missing or wrong"}},
			{bearer, "Bearer " + g.key("will"), "GET", "/api/v2/admin/tenants", "", 403, []string{"tenant's API key", "management key"}},
			{bearer, adminKey, "GET", "/api/v2/admin/tenants/add", "", 405, []string{"takes POST"}},
			{bearer, adminKey, "DELETE", "/api/v2/admin/tenants/add", "", 405, []string{"takes POST"}},
			{bearer, adminKey, "PATCH", "/api/v2/admin/tenants/add", "{}", 405, []string{"takes POST"}},
			{bearer, adminKey, "POST", "/api/v2/admin/tenants", `{"tenant_id": "x"}`, 405, []string{"takes GET", "POST /api/v2/admin/tenants/add"}},
			{bearer, adminKey, "GET", "/api/v2/admin/tenant", "", 404, []string{"openapi.json"}},
			{bearer, adminKey, "POST", "/api/v2/admin/tenants/add", `{"tenant_id": "x", "quota": 5}`, 400, []string{"did you mean quota_mb?"}},
			{bearer, adminKey, "POST", "/api/v2/admin/tenants/add", `{"tenant_id": "x", "Quota_MB": 5}`, 400, []string{"did you mean quota_mb?"}},
			{bearer, adminKey, "POST", "/api/v2/admin/tenants/add", `{"tenant_id": "x", "tenant_id": "y"}`, 400, []string{"twice"}},
			{bearer, adminKey, "PATCH", "/api/v2/admin/tenants/will", "{\n  \"quota_mb\": 5,\n}", 400, []string{"line 2, column 16", "comma"}},
			{bearer, adminKey, "POST", "/api/v2/admin/tenants/will/rotate-key", `{"Overlap": "1h"}`, 400, []string{"did you mean overlap?"}},
			{bearer, "Bearer " + g.key("will"), "POST", "/api/v2/update", `{"c": "1.1.1/1.1.1/1.1.1", "s": "a", "s": "b"}`, 400, []string{"s"}},
			{bearer, "Bearer " + g.key("will"), "POST", "/api/v2/update", `{"c": "1.1.1/1.1.1/1.1.1", "S": "a"}`, 400, []string{"JSON object"}},
		} {
			r := g.withKey(c.header, c.key, c.method, c.target, c.body)
			for _, want := range c.says {
				if r.status != c.status || !strings.Contains(r.body, want) {
					t.Errorf("%s %s %s: %d %s, want %d and %q", c.method, c.target, c.body, r.status, r.body, c.status, want)
				}
			}
			if r.status == 405 && r.header.Get("Allow") == "" {
				t.Errorf("%s %s: no Allow", c.method, c.target)
			}
		}
		if strings.Contains(g.log.String(), adminKey) {
			t.Error("the log has the management key")
		}
		// A tenant may be named add, from the tenants file.
		g.addTenant("add")
		g.writeFile()
		eventually(t, "the tenant named add is there", func() bool {
			status, _ := g.admin("GET", "/api/v2/admin/tenants/add/stats")
			return status == 200
		})
	})
}

// TestADataRootThatCannotBeMade has a file where the directory would be. One that is
// only missing is made.
func TestADataRootThatCannotBeMade(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin)
	root := filepath.Join(g.dir, "missing", "root")
	g.args = []string{"--data-root", root}
	g.start()
	if err := os.WriteFile(filepath.Dir(root), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	add := func() reply {
		return g.withKey("Authorization", adminKey, "POST", "/api/v2/admin/tenants/add", `{"tenant_id": "x"}`)
	}
	if r := add(); r.status != 500 || !strings.Contains(r.body, "--data-root") || !strings.Contains(r.body, filepath.Dir(root)) {
		t.Errorf("%d %s", r.status, r.body)
	}
	if err := os.Remove(filepath.Dir(root)); err != nil {
		t.Fatal(err)
	}
	if r := add(); r.status != 201 {
		t.Errorf("%d %s", r.status, r.body)
	}
}
