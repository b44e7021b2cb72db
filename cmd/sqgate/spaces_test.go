package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPublicReadsReachNothingElse sends, without a key and with another tenant's, every
// request that might read or change what is not public.
func TestPublicReadsReachNothingElse(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "customer-001", "shared-a", "shared-b")
		g.args = []string{"--public-reads-per-minute", "1000000"}
		common := filepath.Join(g.dir, "data", "common")
		for _, id := range []string{"shared-a", "shared-b"} {
			g.set(id, "data_dir", common)
			g.set(id, "shared_data_dir", true)
		}
		for _, id := range []string{"customer-001", "shared-b"} {
			g.set(id, "public", map[string]any{"phexts": []string{"site"}})
		}
		g.writeFile()
		g.start()
		for _, id := range []string{"customer-001", "shared-a", "shared-b"} {
			g.must(id, "POST", at("update", "notes", origin), "secret of "+id, 200)
			g.must(id, "POST", at("update", "site", "a.name"), "site of "+id, 200)
		}
		g.must("shared-a", "POST", at("update", "site", origin), "secret of shared-a", 200)
		before := snapshot(t, filepath.Join(g.dir, "data"), "customer-001", "common")
		for _, id := range []string{"customer-001", "shared-b"} {
			for _, key := range []string{"", "will", "shared-a"} {
				if r := g.must(key, "GET", "/"+id+at("select", "site", "a.name"), "", 200); r.body != "site of "+id {
					t.Errorf("%q reads %q", key, r.body)
				}
				for _, all := range []string{"list?p=*", "search?q=of&p=*"} {
					if r := g.must(key, "GET", "/"+id+"/api/v2/"+all, "", 200); strings.Count(r.body, `"coordinate":"a.name"`) != 1 || strings.Count(r.body, `"phext":`) != 1 {
						t.Errorf("%s of %s is %s", all, id, r.body)
					}
				}
			}
		}
		for _, key := range []string{"", "will"} { // shared-a may read its own
			for _, target := range spellings() {
				for _, prefix := range []string{"/customer-001", "/t/shared-b"} {
					for _, method := range []string{"GET", "POST"} {
						r, err := g.do(key, method, prefix+target, "intruder")
						if err != nil {
							t.Fatalf("%s %s: %v", method, target, err)
						}
						if strings.Contains(r.body, "secret of") {
							t.Errorf("%q read another's data with %s %s%s: %q", key, method, prefix, target, r.body)
						}
					}
				}
			}
		}
		if after := snapshot(t, filepath.Join(g.dir, "data"), "customer-001", "common"); before != after {
			t.Errorf("another's files changed:\n%s\nwas\n%s", after, before)
		}
	})
}

// setInFile changes a field in the tenants file as it is on the disk, and reloads it.
func (g *gate) setInFile(id, field string, value any) {
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
	for _, entry := range file.Tenants {
		if entry["id"] == id {
			entry[field] = value
		}
	}
	if text, err = json.Marshal(file); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.configPath(), text, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.manage("POST", "reload", "", 200)
}

// TestWritersOfASharedSpace lets in those who are named, and nobody else, also where
// tenants share a directory.
func TestWritersOfASharedSpace(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "arena", "bob", "eve", "shared-a", "shared-b", "shared-c")
		for _, id := range []string{"shared-a", "shared-b", "shared-c"} {
			g.set(id, "data_dir", filepath.Join(g.dir, "data", "common"))
			g.set(id, "shared_data_dir", true)
		}
		g.set("arena", "writers", []string{"bob"})
		g.set("shared-a", "writers", []string{"bob", "shared-b"})
		g.writeFile()
		g.start()
		g.must("shared-c", "POST", at("update", "notes", origin), "secret of shared-c", 200)
		g.must("eve", "POST", at("update", "notes", origin), "secret of eve", 200)
		for _, who := range [][2]string{{"bob", "arena"}, {"bob", "shared-a"}, {"shared-b", "shared-a"}} {
			writer, space := who[0], who[1]
			text := "of " + writer
			if r := g.withKeyOf(writer, "Idempotency-Key", "one", "POST", "/"+space+at("insert", "board", origin), text); r.status != 200 {
				t.Fatalf("%s writes to %s: %d %s", writer, space, r.status, r.body)
			}
			if got := g.get(writer, "/t/"+space+at("select", "board", origin)); !strings.HasSuffix(got, text) {
				t.Errorf("%s reads %q in %s", writer, got, space)
			}
			if got := g.get(writer, at("select", "board", origin)); got != "" {
				t.Errorf("%s has %q at home", writer, got)
			}
			if events := g.history(space); events[len(events)-1].(map[string]any)["writer"] != writer {
				t.Errorf("the history of %s is %v", space, events)
			}
			if used := g.manage("GET", "tenants/"+writer, "", 200)["storage_used_bytes"]; used != 0.0 {
				t.Errorf("%s uses %v bytes", writer, used)
			}
		}
		if got := g.get("shared-a", at("select", "board", origin)); got != "of bobof shared-b" {
			t.Errorf("shared-a has %q", got)
		}
		for _, writer := range []string{"shared-b", "bob"} { // the same Idempotency-Key, and two tenants in one directory
			g.withKeyOf(writer, "Idempotency-Key", "one", "POST", at("insert", "own", origin), "at home")
			if got := g.get(writer, at("select", "own", origin)); got != "at home" {
				t.Errorf("%s wrote %q at home", writer, got)
			}
		}
		files := func() string {
			return snapshot(t, filepath.Join(g.dir, "data"), "eve", "arena", "common/shared-a.board.phext", "common/shared-c.notes.phext")
		}
		before := files()
		g.letNobodyIn([]string{"", "eve"}, "arena", "shared-a")
		g.letNobodyIn([]string{"bob"}, "eve", "shared-b", "shared-c", "nobody")
		g.letNobodyIn([]string{"shared-b"}, "arena", "shared-c")
		g.letNobodyIn([]string{"arena"}, "bob")
		g.set("arena", "writers", []string{"eve"})
		g.set("shared-a", "writers", []string{})
		g.writeFile()
		g.manage("POST", "reload", "", 200)
		g.letNobodyIn([]string{"bob", "shared-b"}, "arena", "shared-a")
		if after := files(); before != after {
			t.Errorf("files changed:\n%s\nwas\n%s", after, before)
		}
		g.must("eve", "POST", "/arena"+at("update", "board", origin), "of eve", 200)
	})
}

// letNobodyIn has attackers try the spaces of others in all forms of the address.
func (g *gate) letNobodyIn(attackers []string, spaces ...string) {
	g.t.Helper()
	for _, attacker := range attackers {
		for _, space := range spaces {
			for _, op := range []string{"update", "insert", "select", "delete", "toc", "get", "list", "write", "read", "query"} {
				for _, form := range []string{"/%/api/v2/", "/t/%/", "//%//api//v2//"} {
					for _, method := range []string{"GET", "POST", "PUT"} {
						target := strings.Replace(form, "%", space, 1) + op + "?p=board&s=intruder&q=of&set=" + origin + "&c=" + origin
						if r, err := g.do(attacker, method, target, "intruder"); err != nil || r.status < 400 || strings.Contains(r.body, "of bob") {
							g.t.Errorf("%q: %s %s: %v %d %q", attacker, method, target, err, r.status, r.body)
						}
					}
				}
			}
		}
	}
}

// TestAWritersIDThatIsUsedAgain is no writer any more.
func TestAWritersIDThatIsUsedAgain(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "arena")
	g.add("acme", 1)
	g.setInFile("arena", "writers", []string{"acme"})
	g.must("acme", "POST", "/arena"+at("update", "n", origin), "by the first", 200)
	g.manage("DELETE", "tenants/acme", "", 200)
	g.must("acme", "POST", "/arena"+at("update", "n", origin), "by the archived one", 403)
	g.manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 200)
	if writers := g.manage("GET", "tenants/arena", "", 200)["writers"]; writers != nil {
		t.Errorf("the writers are still %v", writers)
	}
	g.add("acme", 1)
	g.must("acme", "POST", "/arena"+at("update", "n", origin), "by the second", 403)
	g.must("acme", "GET", "/arena"+at("select", "n", origin), "", 403)
	if got := g.get("arena", at("select", "n", origin)); got != "by the first" {
		t.Errorf("the arena has %q", got)
	}
}
