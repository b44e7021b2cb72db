package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// filesWith is the files below the gate's directory that hold a text, without
// those that keep a log.
func (g *gate) filesWith(text string) (found []string) {
	g.t.Helper()
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Base(path) == "audit.log" {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), text) {
			found = append(found, strings.TrimPrefix(path, g.dir))
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return found
}

// TestPurge erases a tenant whose id is the beginning of another's.
func TestPurge(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.add("acme", 1)
	g.add("acme-b", 1)
	for _, id := range []string{"acme", "acme-b"} {
		g.must(id, "POST", at("update", "notes", origin), "text of "+id+".", 200)
	}
	g.manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 409)
	for _, id := range []string{"acme", "acme-b"} {
		if out := g.manage("DELETE", "tenants/"+id, "", 200); out["status"] != "archived" {
			t.Errorf("deleted: %v", out)
		}
	}
	g.must("acme", "GET", at("select", "notes", origin), "", 403)
	for body, status := range map[string]int{``: 400, `{}`: 400, `{"confirm": "acme-b"}`: 400, `{"confirm": true}`: 400} {
		g.manage("POST", "tenants/acme/purge", body, status)
	}
	g.manage("PATCH", "tenants/acme", `{"enabled": true}`, 409)
	g.manage("POST", "tenants/acme/restore", `{"at": "1ns"}`, 409)
	if out := g.manage("GET", "tenants/acme", "", 200); out["status"] != "archived" {
		t.Errorf("%v", out)
	}
	stray := filepath.Join(g.dataDir("acme"), "stray.phext")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 409)
	if err := os.Remove(stray); err != nil {
		t.Fatal(err)
	}
	if out := g.manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 200); out["archives"] != 1.0 {
		t.Errorf("purged: %v", out)
	}
	g.must("acme", "GET", at("select", "notes", origin), "", 401)
	g.manage("GET", "tenants/acme", "", 404)
	g.manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 404)
	g.stop() // writes what is kept in memory
	if left := append(g.filesWith("text of acme."), g.filesWith("acme/")...); len(left) != 0 {
		t.Errorf("left of the tenant: %v", left)
	}
	g.start()
	audit, err := os.ReadFile(filepath.Join(g.dir, "state", "audit.log"))
	if err != nil || !strings.Contains(string(audit), `"what":"purge","tenant":"acme"`) {
		t.Errorf("%v: the audit log has no purge:\n%s", err, audit)
	}
	archive := g.manage("DELETE", "tenants/acme-b", "", 200)["archive"].(string)
	g.manage("POST", "tenants/acme-b/restore", `{"archive": "`+archive+`"}`, 200)
	if got := g.get("acme-b", at("select", "notes", origin)); got != "text of acme-b." || len(g.history("acme-b")) == 0 {
		t.Errorf("the other tenant has %q and the history %v", got, g.history("acme-b"))
	}
	g.add("acme", 1)
	g.must("acme", "GET", at("select", "notes", origin), "", 200)
}

// TestPurgeInASharedDirectory leaves the phexts and the history of a neighbour.
func TestPurgeInASharedDirectory(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will", "acme")
	for _, id := range []string{"will", "acme"} {
		g.set(id, "shared_data_dir", true)
		g.set(id, "data_dir", filepath.Join(g.dir, "data", "shared"))
	}
	g.writeFile()
	g.start()
	for _, id := range []string{"will", "acme"} {
		g.must(id, "POST", at("update", "notes", origin), "text of "+id, 200)
	}
	before := g.history("will")
	g.manage("DELETE", "tenants/acme", "", 200)
	g.manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 200)
	if got := g.get("will", at("select", "notes", origin)); got != "text of will" {
		t.Errorf("the neighbour has %q", got)
	}
	if after := g.history("will"); len(after) != len(before) {
		t.Errorf("the neighbour's history was %v, and is %v", before, after)
	}
}

// TestPurgeOfATenantThatHasMoved leaves nothing at the paths that it had before, of which another
// tenant has one, and its id can be added again there.
func TestPurgeOfATenantThatHasMoved(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will", "acme")
	first, second, third := g.dataDir("acme"), filepath.Join(g.dir, "data", "second"), filepath.Join(g.dir, "data", "third")
	wills := g.dataDir("will")
	g.insertOnce("acme", "text of acme")
	g.must("will", "POST", at("update", "notes", origin), "text of will", 200)
	g.move(func() { g.rename(first, second) }, map[string]string{"acme": second})
	g.must("acme", "POST", at("update", "notes", origin), "text of acme, moved", 200)
	g.move(func() { g.rename(second, third); g.rename(wills, second) }, map[string]string{"acme": third, "will": second})
	g.must("will", "POST", at("update", "notes", origin), "text of will, moved", 200)
	g.must("acme", "GET", at("select", "notes", origin), "", 200)
	before := g.history("will")

	g.manage("DELETE", "tenants/acme", "", 200)
	g.manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 200)
	g.stop()
	if left := g.filesWith("text of acme"); len(left) != 0 {
		t.Errorf("left of the tenant: %v", left)
	}
	g.start()
	if got, after := g.get("will", at("select", "notes", origin)), g.history("will"); got != "text of will, moved" || len(after) != len(before) || len(after) == 0 {
		t.Errorf("the other tenant has %q, and its history was %v and is %v", got, before, after)
	}
	g.add("acme", 1)
	if got := g.dataDir("acme"); got != first {
		t.Fatalf("it is added at %s", got)
	}
	g.insertOnce("acme", "new")
	if got := g.get("acme", at("select", "n", origin)); got != "new" {
		t.Errorf("the next one with the id has %q", got)
	}
}
