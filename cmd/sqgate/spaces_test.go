package main

import (
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
