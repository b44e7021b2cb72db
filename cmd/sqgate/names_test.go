package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func byName(op, phext, name string) string {
	return "/api/v2/" + op + "?p=" + url.QueryEscape(phext) + "&c=" + url.QueryEscape(name)
}

func TestNamedCoordinates(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		const user, home = "my-assistant.1.1/user.name/1.1.1", "my-assistant.1.1/user.home/1.1.1"
		g.must("will", "GET", byName("select", "memory", user), "", 404)
		if body := g.must("will", "POST", byName("update", "memory", user), "Will", 200).body; body != "Updated 4 bytes" {
			t.Errorf("update: %q", body)
		}
		g.must("will", "POST", byName("insert", "memory", home), "Aurora\n\"quoted\"", 200)
		g.must("will", "POST", at("update", "memory", origin), "by number", 200)
		for name, want := range map[string]string{user: "Will", strings.ReplaceAll(user, "/", ";"): "Will", home: "Aurora\n\"quoted\""} {
			if got := g.get("will", byName("select", "memory", name)); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if got, want := g.get("will", "/api/v2/toc?p=memory"), "* "+origin+": by number\n* "+user+": Will\n* "+home+": Aurora...\n"; got != want {
			t.Errorf("toc: %q, want %q", got, want)
		}
		var scrolls []struct{ Coord, Scroll string }
		if err := json.Unmarshal([]byte(g.get("will", "/api/v2/json-export?p=memory")), &scrolls); err != nil || len(scrolls) != 3 || scrolls[1].Coord != user {
			t.Errorf("json-export: %v, %+v", err, scrolls)
		}
		const first = "999.1.1/1.1.1/1.1.1"
		if got := g.get("will", at("select", "memory.names", first)); got != user {
			t.Errorf("the phext of names has %q", got)
		}
		if got := g.get("will", at("select", "memory", first)); got != "Will" {
			t.Errorf("by its number: %q", got)
		}
		g.must("will", "POST", at("update", "memory.names", first), "mine", 403)

		// What delta gives, a client can write back by number: it is the same scroll.
		g.must("will", "POST", at("update", "memory", first), "William", 200)
		if got := g.get("will", byName("select", "memory", user)); got != "William" {
			t.Errorf("written by number: %q", got)
		}
		if body := g.must("will", "POST", byName("delete", "memory", user), "", 200).body; body != "Removed 7 bytes" {
			t.Errorf("delete: %q", body)
		}
		g.must("will", "GET", byName("select", "memory", user), "", 404)
		if body := g.must("will", "POST", byName("delete", "memory", user), "", 200).body; body != "Removed 0 bytes" {
			t.Errorf("delete again: %q", body)
		}
		// A scroll deleted by its number takes its name along.
		g.must("will", "POST", at("delete", "memory", "999.1.1/1.1.1/1.1.2"), "", 200)
		if got, want := g.get("will", "/api/v2/toc?p=memory"), "* "+origin+": by number\n"; got != want {
			t.Errorf("toc at the end: %q, want %q", got, want)
		}
		if got := g.get("will", "/api/v2/get?p=memory.names"); strings.Contains(got, "user") {
			t.Errorf("names at the end: %q", got)
		}
	})
}

// TestNamesCountToTheQuota fills a tenant with names that are longer than what they name.
func TestNamesCountToTheQuota(t *testing.T) {
	g := startGateWith(t, builtin, "quota_mb", 1)
	refused := false
	for i := 0; i < 4000 && !refused; i++ {
		name := fmt.Sprintf("n%d-%s", i, strings.Repeat("x", 480))
		r, err := g.do("will", "POST", byName("update", "memory", name), "y")
		if err != nil {
			t.Fatal(err)
		}
		refused = r.status == 507
		if !refused && r.status != 200 {
			t.Fatalf("name %d: %d %s", i, r.status, r.body)
		}
	}
	used := int64(0)
	for _, name := range []string{"memory.phext", "memory.names.phext"} {
		info, err := os.Stat(filepath.Join(g.dataDir("will"), name))
		if err != nil {
			t.Fatal(err)
		}
		used += info.Size()
	}
	if !refused || used > 1<<20 || used < 1<<20-2000 {
		t.Errorf("refused: %v, at %d bytes", refused, used)
	}
	if got := strings.Count(g.get("will", "/api/v2/toc?p=memory"), "\n"); got < 1000 {
		t.Errorf("%d names are listed", got)
	}
}

// TestNamesAcrossKills gives many names at once, with a value that says whose
// it is, and kills the gateway in between. Whatever was acknowledged is there,
// and no name ever has another's value.
func TestNamesAcrossKills(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		acknowledged := map[string]bool{}
		for round := range 6 {
			var mu sync.Mutex
			var writers sync.WaitGroup
			for w := range 8 {
				writers.Go(func() {
					for i := range 40 {
						name := fmt.Sprintf("round%d.writer%d/%d", round, w, i)
						r, err := g.do("will", "POST", byName("update", "memory", name), "value of "+name)
						if err != nil {
							return // the gateway was killed
						}
						mu.Lock()
						acknowledged[name] = r.status == 200
						mu.Unlock()
						if i%5 == 4 {
							if _, err := g.do("will", "POST", byName("delete", "memory", name), ""); err != nil {
								return
							}
							mu.Lock()
							delete(acknowledged, name)
							mu.Unlock()
						}
					}
				})
			}
			if round%2 == 0 {
				for range rand.IntN(60) {
					if _, err := g.do("will", "GET", "/api/v2/checksum?p=memory", ""); err != nil {
						t.Error(err)
					}
				}
				g.kill()
			}
			writers.Wait()
			if round%2 == 0 {
				g.start()
			}
			for name, ok := range acknowledged {
				r, err := g.do("will", "GET", byName("select", "memory", name), "")
				if err != nil {
					t.Fatal(err)
				}
				if ok && (r.status != 200 || r.body != "value of "+name) || r.status == 200 && r.body != "value of "+name {
					t.Fatalf("round %d: %s is %d %q", round, name, r.status, r.body)
				}
			}
			for line := range strings.Lines(g.get("will", "/api/v2/toc?p=memory")) {
				name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "* ")), ": ")
				if value != "" && value != "value of "+name {
					t.Fatalf("round %d: toc has %q", round, line)
				}
			}
		}
		if len(acknowledged) < 500 {
			t.Errorf("only %d names were given", len(acknowledged))
		}
	})
}
