package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHardLinksInADataDirectory has phexts that are other names of another tenant's
// phext, of its journal, and of a file in a snapshot. The first two are neither read nor
// written, by no way there is.
func TestHardLinksInADataDirectory(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will", "bob")
		const secret = "what bob wrote"
		g.must("bob", "POST", at("update", "secret", origin), secret, 200)
		g.must("will", "POST", at("update", "notes", origin), "mine", 200)
		journals, err := filepath.Glob(filepath.Join(g.dir, "state/journal/*/*"))
		if err != nil {
			t.Fatal(err)
		}
		will := func(name string) string { return filepath.Join(g.dataDir("will"), name+".phext") }
		bobs, snapshot := filepath.Join(g.dataDir("bob"), "secret.phext"), filepath.Join(t.TempDir(), "notes.phext")
		links := []error{os.Link(bobs, will("bob")), os.Link(bobs, will("named.names")), os.Link(will("notes"), snapshot)}
		linked := ""
		for _, file := range journals {
			if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), secret) {
				linked = file
			}
		}
		if err := errors.Join(append(links, os.Link(linked, will("journal")))...); err != nil {
			t.Fatal(err)
		}
		refused := func(method, target, body string) {
			t.Helper()
			if r := g.must("will", method, target, body, 502); strings.Contains(r.body, secret) || !strings.Contains(r.body, "hard link") {
				t.Errorf("%s: %s", target, r.body)
			}
		}
		for _, name := range []string{"bob", "journal", "named.names"} {
			refused("GET", "/api/v2/get?p="+name, "")
			refused("GET", at("select", name, origin), "")
			refused("GET", "/api/v2/load?p="+name, "")
		}
		for _, name := range []string{"bob", "journal"} {
			refused("POST", at("update", name, origin), "mine")
			refused("POST", at("insert", name, "1.1.1/1.1.1/1.1.2"), "mine")
			refused("GET", at("delete", name, origin), "")
		}
		refused("POST", at("update", "named", "a.name"), "mine")
		if r := g.must("will", "GET", "/api/v2/search?q=wrote", "", 200); strings.Contains(r.body, secret) {
			t.Errorf("search: %s", r.body)
		}
		file := filepath.Join(t.TempDir(), "will.tar")
		if out, err := g.operate("backup", "will", file); err == nil {
			t.Errorf("a backup of phexts that cannot be read: %s", out)
		}
		tar := filepath.Join(t.TempDir(), "bob.tar")
		for _, name := range []string{"bob", "journal", "named.names"} { // the links are in nobody's way any more
			if err := os.Rename(will(name), filepath.Join(t.TempDir(), name)); err != nil {
				t.Fatal(err)
			}
		}
		g.must("will", "POST", at("update", "bob", origin), "restored", 200)
		g.mustOperate("backup", "will", tar)
		if err := errors.Join(os.Remove(will("bob")), os.Link(bobs, will("bob"))); err != nil {
			t.Fatal(err)
		}
		out, err := g.operate("restore", "will", "--from", tar, "--yes")
		if text, failed := os.ReadFile(bobs); string(text) != secret || failed != nil {
			t.Errorf("after a restore (%v %s), the other tenant's phext: %q, %v", err, out, text, failed)
		}
		if err := os.Remove(will("bob")); err != nil {
			t.Fatal(err)
		}
		if got := g.get("bob", at("select", "secret", origin)); got != secret {
			t.Errorf("the other tenant reads %q", got)
		}

		if got := g.get("will", at("select", "notes", origin)); got != "mine" {
			t.Errorf("a phext with a snapshot: %q", got)
		}
		g.must("will", "POST", at("update", "notes", origin), "changed", 200)
		if got := g.get("will", at("select", "notes", origin)); got != "changed" {
			t.Errorf("a phext with a snapshot, after a write: %q", got)
		}
	})
}
