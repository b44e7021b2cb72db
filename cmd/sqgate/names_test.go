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

// byName is the request target of an operation on a named coordinate.
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

		// delta shows the scroll at its number. A client can write it there.
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
		// Deleting a scroll by its number deletes its name too.
		g.must("will", "POST", at("delete", "memory", "999.1.1/1.1.1/1.1.2"), "", 200)
		if got, want := g.get("will", "/api/v2/toc?p=memory"), "* "+origin+": by number\n"; got != want {
			t.Errorf("toc at the end: %q, want %q", got, want)
		}
		if got := g.get("will", "/api/v2/get?p=memory.names"); strings.Contains(got, "user") {
			t.Errorf("names at the end: %q", got)
		}
	})
}

// TestNamesCountToTheQuota fills a tenant with scrolls whose names are longer than
// their texts. Unless SQTEST_FULL is set, another phext takes most of the quota.
func TestNamesCountToTheQuota(t *testing.T) {
	t.Parallel()
	g := startGateWith(t, builtin, "quota_mb", 1)
	other := rounds(900<<10, 0) // bytes
	g.must("will", "POST", at("update", "other", origin), strings.Repeat("o", other), 200)
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
	for _, name := range []string{"memory.phext", "memory.names.phext", "other.phext"} {
		info, err := os.Stat(filepath.Join(g.dataDir("will"), name))
		if err != nil {
			t.Fatal(err)
		}
		used += info.Size()
	}
	if !refused || used > 1<<20 || used < 1<<20-2000 {
		t.Errorf("refused: %v, at %d bytes", refused, used)
	}
	if got := strings.Count(g.get("will", "/api/v2/toc?p=memory"), "\n"); got < rounds(200, 1000) {
		t.Errorf("%d names are listed", got)
	}
}

// knownNames is what a test knows about the names that it has created and deleted.
type knownNames struct {
	mu      sync.Mutex
	fates   map[string]fate
	calls   int // acknowledged so far
	goal    int // number of calls at which reached is closed
	reached chan struct{}
}

// fate is what a name must be now.
type fate int

const (
	unknown fate = iota // sqgate died before it answered a call
	present
	absent
)

func newKnownNames() *knownNames { return &knownNames{fates: map[string]fate{}} }

// after returns a channel that is closed once so many more calls are acknowledged.
func (n *knownNames) after(calls int) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.goal, n.reached = n.calls+calls, make(chan struct{})
	return n.reached
}

// call makes a call after which the name has the given fate. It tells whether the
// call was answered.
func (n *knownNames) call(t *testing.T, g *gate, op, name string, leadsTo fate) bool {
	body := ""
	if leadsTo == present {
		body = valueOf(name)
	}
	n.mu.Lock()
	n.fates[name] = unknown
	n.mu.Unlock()
	r, err := g.do("will", "POST", byName(op, "memory", name), body)
	if err != nil {
		return false // the gateway was killed
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.status != 200 {
		t.Errorf("%s %s: %d %s", op, name, r.status, r.body)
		return true
	}
	n.fates[name] = leadsTo
	if n.calls++; n.calls == n.goal {
		close(n.reached)
	}
	return true
}

func valueOf(name string) string { return "value of " + name }

// check reads every name, by itself and in the table of contents.
func (n *knownNames) check(t *testing.T, g *gate) {
	t.Helper()
	listed := map[string]string{}
	for line := range strings.Lines(g.get("will", "/api/v2/toc?p=memory")) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "* ")), ": ")
		listed[name] = value
		if value != "" && value != valueOf(name) {
			t.Fatalf("toc has %q", line)
		}
	}
	for name, fate := range n.fates {
		r, err := g.do("will", "GET", byName("select", "memory", name), "")
		if err != nil {
			t.Fatal(err)
		}
		found := r.status == 200 && r.body == valueOf(name)
		missing := r.status == 404
		if !found && !missing || fate == present && !found || fate == absent && !missing || found != (listed[name] != "") {
			t.Fatalf("%s must be %d: %d %q, in toc %q", name, fate, r.status, r.body, listed[name])
		}
	}
}

// TestNamesAcrossKills has many clients create names and delete some of them, and
// kills the gateway meanwhile. Every acknowledged call must have taken effect, and
// no name may have another name's value.
func TestNamesAcrossKills(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		names := newKnownNames()
		many := rounds(2, 6)
		for round := range many {
			reached := names.after(1 + rand.IntN(300))
			kill := round%2 == 0
			var writers sync.WaitGroup
			for w := range 8 {
				writers.Go(func() {
					for i := range 40 {
						name := fmt.Sprintf("round%d.writer%d/%d", round, w, i)
						answered := names.call(t, g, "update", name, present)
						if answered && i%5 == 4 {
							answered = names.call(t, g, "delete", name, absent)
						}
						if !answered {
							if !kill {
								t.Errorf("%s was not answered", name)
							}
							return
						}
					}
				})
			}
			written := make(chan struct{})
			go func() { writers.Wait(); close(written) }()
			if kill {
				select {
				case <-reached: // there are 384 calls
				case <-written:
				}
				g.kill()
			}
			<-written
			if kill {
				g.start()
			}
			if names.check(t, g); t.Failed() {
				t.Fatalf("in round %d", round)
			}
		}
		if len(names.fates) < 160*many {
			t.Errorf("only %d names were given", len(names.fates))
		}
	})
}
