package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// forget takes a tenant out of the tenants file by hand, and its phexts out of its
// directory, as operators do who give an id to another customer.
func (g *gate) forget(id string) {
	g.t.Helper()
	text, err := os.ReadFile(g.configPath())
	if err != nil {
		g.t.Fatal(err)
	}
	var file struct {
		Tenants []map[string]any `json:"tenants"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		g.t.Fatal(err)
	}
	file.Tenants = slices.DeleteFunc(file.Tenants, func(t map[string]any) bool { return t["id"] == id })
	if text, err = json.Marshal(file); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.configPath(), text, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.manage("POST", "reload", "", 200)
	eventually(g.t, "the child ends", func() bool { return len(childrenOf(g.dataDir(id))) == 0 })
	phexts, err := filepath.Glob(filepath.Join(g.dataDir(id), "*.phext"))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, path := range phexts {
		if err := os.Remove(path); err != nil {
			g.t.Fatal(err)
		}
	}
}

// insertOnce inserts a text into the phext n with the Idempotency-Key one.
func (g *gate) insertOnce(id, text string) {
	g.t.Helper()
	if r := g.withKeyOf(id, "Idempotency-Key", "one", "POST", at("insert", "n", origin), text); r.status != 200 {
		g.t.Fatalf("%d %s", r.status, r.body)
	}
}

// history is the events of a tenant.
func (g *gate) history(id string) []any {
	g.t.Helper()
	return g.manage("GET", "tenants/"+id+"/history", "", 200)["events"].([]any)
}

// TestAnIDThatIsUsedAgainInheritsNothing gives an id to another tenant, before and
// after a restart.
func TestAnIDThatIsUsedAgainInheritsNothing(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.add("acme", 1)
	g.insertOnce("acme", "first")
	g.insertOnce("acme", "first")
	if got := g.get("acme", at("select", "n", origin)); got != "first" {
		t.Fatalf("the first tenant has %q", got)
	}
	g.must("acme", "POST", at("update", "of-the-first", origin), "first", 200)
	between := time.Now().UTC()
	archive := g.manage("DELETE", "tenants/acme", "", 200)["archive"]
	g.forget("acme")
	g.add("acme", 1)
	for range 2 {
		if stats := g.manage("GET", "tenants/acme", "", 200); stats["api_calls_today"] != 0.0 || stats["last_active"] != nil {
			t.Errorf("the second tenant was counted: %v", stats)
		}
		if events := g.history("acme"); len(events) != 0 {
			t.Errorf("the second tenant has a history: %v", events)
		}
		g.stop()
		g.start()
	}
	g.insertOnce("acme", "first")
	if got := g.get("acme", at("select", "n", origin)); got != "first" {
		t.Errorf("the second tenant has %q: it was answered and not stored", got)
	}
	if events := g.history("acme"); len(events) != 1 {
		t.Errorf("the second tenant's history: %v", events)
	}
	g.manage("POST", "tenants/acme/restore", fmt.Sprintf(`{"at": %q}`, between.Format(time.RFC3339Nano)), 404)
	g.must("acme", "GET", "/api/v2/history?p=of-the-first", "", 404)
	if got := g.manage("DELETE", "tenants/acme", "", 200)["archive"]; got == archive {
		t.Errorf("both have the archive %v", got)
	}
	if r := g.manageRaw(adminKey, "POST", "tenants/acme/restore", fmt.Sprintf(`{"archive": %q}`, archive)); r.status != 400 || !strings.Contains(r.body, "must be named") {
		t.Errorf("the archive of the first tenant: %d %s", r.status, r.body)
	}
}

// TestPhextsRemovedByHandStayGone gives an id and its directory to another tenant
// after somebody has removed the phexts by hand, which the journal does not know.
func TestPhextsRemovedByHandStayGone(t *testing.T) {
	t.Parallel()
	for _, restarts := range []bool{false, true} {
		g := startGate(t, builtin, "will")
		g.add("acme", 1)
		g.must("acme", "POST", at("update", "n", origin), "first", 200)
		g.forget("acme")
		if restarts {
			g.stop()
			g.start()
		}
		g.add("acme", 1)
		g.manage("POST", "tenants/acme/restore", fmt.Sprintf(`{"at": %q}`, time.Now().UTC().Format(time.RFC3339Nano)), 200)
		if got := g.get("acme", at("select", "n", origin)); got != "" {
			t.Errorf("restarts %v: the second tenant has %q", restarts, got)
		}
		if events := g.history("acme"); len(events) != 0 {
			t.Errorf("restarts %v: the second tenant has a history: %v", restarts, events)
		}
	}
}

// TestATenantWithoutIncarnationKeepsItsPast restarts a tenant that was written by
// hand, as all were before there were incarnations.
func TestATenantWithoutIncarnationKeepsItsPast(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.insertOnce("will", "x")
	g.stop()
	g.start()
	g.insertOnce("will", "x")
	if got := g.get("will", at("select", "n", origin)); got != "x" || len(g.history("will")) != 1 {
		t.Errorf("%q, %v", got, g.history("will"))
	}
	if calls := g.manage("GET", "tenants/will", "", 200)["api_calls_today"]; calls != 3.0 {
		t.Errorf("%v calls", calls)
	}
}
