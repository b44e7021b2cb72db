package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnIDIsUsedAgainAtAnotherHost has a tenant at one host and then at another, where it is
// deleted and purged. Its files are gone from both. The id is used again at either of them, is
// served at both, and inherits nothing; the first one starts again.
func TestAnIDIsUsedAgainAtAnotherHost(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		for _, at0 := range []bool{false, true} {
			t.Run(fmt.Sprintf("added at the first: %v", at0), func(t *testing.T) { testAnIDIsUsedAgain(t, sq, at0) })
		}
	})
}

func testAnIDIsUsedAgain(t *testing.T, sq string, at0 bool) {
	all := startHosts(t, sq, "file://"+t.TempDir(), 2, "will")
	add := func(g *gate) {
		t.Helper()
		g.add("acme", 1)
		for _, other := range all {
			other.mu.Lock()
			other.file["acme"] = g.file["acme"]
			other.mu.Unlock()
			eventually(t, "the tenant is known", func() bool {
				r, err := other.do("acme", "GET", "/api/v2/toc", "")
				return err == nil && r.status == 200
			})
		}
	}
	move := func(to string) {
		t.Helper()
		all[0].managed("POST", "tenants/acme/move", fmt.Sprintf(`{"host":%q}`, to), 200)
	}
	add(all[0])
	move("h0")
	all[0].must("acme", "POST", at("update", "secret", origin), "secret", 200)
	move("h1")
	all[1].must("acme", "POST", at("insert", "secret", origin), " and more", 200)
	copied := filepath.Join(all[0].dataDir("acme"), "secret.phext")
	if _, err := os.Stat(copied); err != nil {
		t.Fatal(err)
	}
	all[1].manage("DELETE", "tenants/acme", "", 200)
	all[1].manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 200)
	if at0 {
		eventually(t, "the first host knows", func() bool {
			return !strings.Contains(all[0].managed("GET", "tenants", "", 200).body+all[0].managed("GET", "tenants?status=archived", "", 200).body, "acme")
		})
		add(all[0]) // before it has looked for what was purged elsewhere, mostly
	} else {
		add(all[1])
	}
	move("h1")
	all[1].must("acme", "POST", at("update", "mine", origin), "mine", 200)
	move("h0")
	for _, g := range all {
		if got := g.get("acme", at("select", "mine", origin)); got != "mine" {
			t.Errorf("%q", got)
		}
		if got := g.get("acme", at("select", "secret", origin)); got != "" {
			t.Errorf("inherited: %q", got)
		}
	}
	if events := all[0].history("acme"); len(events) != 1 || strings.Contains(fmt.Sprint(events), "secret") {
		t.Error(events)
	}
	if _, err := os.Stat(copied); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the first host still has the phext:", err)
	}
	// If the id was used again before the first host has looked, the phext might be the next one's.
	aside, err := filepath.Glob(filepath.Join(all[0].dir, "state", "quarantine", "*"))
	if err != nil || len(aside) > 1 || len(aside) == 1 && !strings.HasSuffix(aside[0], "-secret.phext") {
		t.Errorf("set aside: %q %v", aside, err)
	}
	all[0].kill()
	all[0].start()
	eventually(t, "it is served again", func() bool {
		r, err := all[0].do("acme", "GET", at("select", "mine", origin), "")
		return err == nil && r.status == 200 && r.body == "mine"
	})
}
