package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"mirrorborn.us/sqgate/phext"
)

// firstNamed is the coordinate of the scroll of a phext's first name.
const firstNamed = "999.1.1/1.1.1/1.1.1"

// TestSQMemorySkillByName uses the skill as agents do: memories have names, and
// none affects another.
func TestSQMemorySkillByName(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "agent", "other")
		s := newSkill(t, g, "agent", "my-assistant")
		if got := s.recall("user/name"); got != nil {
			t.Errorf("recall before anything was stored: %s", shown(got))
		}
		for i, text := range memories {
			s.remember(fmt.Sprintf("user/memory-%d", i), "to be overwritten")
			s.remember(fmt.Sprintf("user/memory-%d", i), text)
		}
		for i, text := range memories {
			s.recalls(fmt.Sprintf("user/memory-%d", i), text)
		}
		for _, missing := range []string{"user/memory", "user/memory-99", "user", "memory-1/user", "User/memory-1"} {
			if got := s.recall(missing); got != nil {
				t.Errorf("recall of %q, which was never stored: %s", missing, shown(got))
			}
		}
		list := s.list()
		for i, text := range memories {
			first, _, more := strings.Cut(text, "\n")
			line := "* " + s.coordinate(fmt.Sprintf("user/memory-%d", i)) + ": " + strings.TrimSuffix(first, "\r")
			if more {
				line += "..."
			}
			if !slices.Contains(list, line) {
				t.Errorf("list has no line %.200q: %.2000q", line, list)
			}
		}
		if len(list) != len(memories) {
			t.Errorf("list has %d lines for %d memories", len(list), len(memories))
		}
		s.forgets(t)
		s.apart(t, g)
	})
}

// forgets deletes one of two memories.
func (s *skill) forgets(t *testing.T) {
	t.Helper()
	if !s.forget("user/memory-0") || !s.forget("user/never-stored") {
		t.Error("forget does not succeed")
	}
	if got := s.recall("user/memory-0"); got != nil {
		t.Errorf("recall of what was forgotten: %s", shown(got))
	}
	s.recalls("user/memory-1", memories[1])
	s.remember("user/later", "after a deletion")
	s.recalls("user/later", "after a deletion")
	s.recalls("user/memory-1", memories[1])
	if got := s.recall("user/memory-0"); got != nil {
		t.Errorf("what was forgotten came back: %s", shown(got))
	}
}

// apart uses the same names in another namespace and as another tenant, and reads
// them again after a restart.
func (s *skill) apart(t *testing.T, g *gate) {
	t.Helper()
	for _, other := range []*skill{newSkill(t, g, "agent", "second-assistant"), newSkill(t, g, "other", "my-assistant")} {
		if got := other.recall("user/memory-1"); got != nil {
			t.Errorf("%s of another recalls %s", other.namespace, shown(got))
		}
		other.remember("user/memory-1", "its own")
		other.recalls("user/memory-1", "its own")
	}
	s.recalls("user/memory-1", memories[1])
	g.stop()
	g.start()
	again := newSkill(t, g, "agent", "my-assistant")
	again.recalls("user/memory-1", memories[1])
	if got := again.recall("user/memory-0"); got != nil {
		t.Errorf("after a restart what was forgotten is back: %s", shown(got))
	}
}

const aName = "my-assistant.1.1/user.name/1.1.1"

// TestNamesRoundTrip reads one named scroll in every way there is.
func TestNamesRoundTrip(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "numbered", 200)
		g.must("will", "POST", at("update", "n", aName), "Ali", 200)
		if r := g.must("will", "POST", at("insert", "n", strings.ReplaceAll(aName, "/", ";")), "ce\nsecond line", 200); r.body != "Inserted 14 bytes" {
			t.Errorf("insert: %q", r.body)
		}
		const text = "Alice\nsecond line"
		for target, want := range map[string]string{
			at("select", "n", aName):                    text,
			at("select", "n", firstNamed):               text,
			"/select/" + aName + "?p=n":                 text,
			"/api/v2/toc?p=n":                           "* " + origin + ": numbered\n* " + aName + ": Alice...\n",
			at("select", "n.names", firstNamed):         aName,
			"/api/v2/toc?p=n.names":                     "* " + firstNamed + ": " + aName + "\n",
			"/api/v2/get?p=n":                           phext.Of([]phext.Scroll{{At: phext.Origin(), Text: "numbered"}, {At: named(1), Text: text}}).Render(),
			"/api/v2/get?p=n.names":                     phext.Of([]phext.Scroll{{At: named(1), Text: aName}}).Render(),
			at("select", "n", "my-assistant.1.1/x/1.1"): "",
		} {
			status := 200
			if want == "" {
				status = 404
			}
			if r := g.must("will", "GET", target, "", status); status == 200 && r.body != want || status == 404 && !strings.Contains(r.body, `"not_found"`) {
				t.Errorf("%s: %q, want %q", target, r.body, want)
			}
		}
		var exported []struct{ Coord, Scroll string }
		if err := json.Unmarshal([]byte(g.get("will", "/api/v2/json-export?p=n")), &exported); err != nil || len(exported) != 2 || exported[1].Coord != aName || exported[1].Scroll != text {
			t.Errorf("json-export: %v %+v", err, exported)
		}
		g.namesInDeltas(t, text)
		g.namesAreNotWritten(t)
		if r := g.must("will", "GET", at("delete", "n", aName), "", 200); r.body != fmt.Sprintf("Removed %d bytes", len(text)) {
			t.Errorf("delete: %q", r.body)
		}
		if r := g.must("will", "DELETE", at("delete", "n", aName), "", 200); r.body != "Removed 0 bytes" {
			t.Errorf("delete again: %q", r.body)
		}
		g.must("will", "GET", at("select", "n", aName), "", 404)
		if got := g.get("will", "/api/v2/toc?p=n"); got != "* "+origin+": numbered\n" {
			t.Errorf("toc after the delete: %q", got)
		}
	})
}

// named is the coordinate of the nth name of a phext.
func named(n uint32) phext.Coordinate { return phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, n} }

// namesInDeltas syncs with manifests of clients that know names, and of clients
// that do not, such as Notepad.
func (g *gate) namesInDeltas(t *testing.T, text string) {
	t.Helper()
	whole := g.get("will", "/api/v2/get?p=n")
	known := origin + ": " + phext.Checksum("numbered") + "\n"
	for manifest, want := range map[string]string{
		"":    whole,
		known: phext.Of([]phext.Scroll{{At: named(1), Text: text}}).Render(),
		known + firstNamed + ": " + phext.Checksum(text) + "\n": "",
		known + aName + ": " + phext.Checksum(text) + "\n":      "",
		known + aName + ": " + phext.Checksum("other") + "\n":   phext.Of([]phext.Scroll{{At: named(1), Text: text}}).Render(),
	} {
		if got := g.must("will", "POST", "/api/v2/delta?p=n", manifest, 200).body; got != want {
			t.Errorf("delta of %q: %q, want %q", manifest, got, want)
		}
	}
}

// namesAreNotWritten expects every write to a phext of names to be refused.
func (g *gate) namesAreNotWritten(t *testing.T) {
	t.Helper()
	before := snapshot(t, g.dataDir("will"), ".")
	for _, call := range [][2]string{
		{"POST", at("update", "n.names", firstNamed)}, {"POST", at("insert", "n.names", origin)}, {"POST", at("update", "n.names", aName)},
		{"GET", at("delete", "n.names", firstNamed)}, {"POST", at("update", "other.names", origin)}, {"PUT", at("update", ".names", origin)},
	} {
		if r := g.must("will", call[0], call[1], "x", 403); !strings.Contains(r.body, `"forbidden"`) {
			t.Errorf("%v: %q", call, r.body)
		}
	}
	if after := snapshot(t, g.dataDir("will"), "."); after != before {
		t.Errorf("something was written:\n%s\nwas\n%s", after, before)
	}
}

// TestNewNamesAtOnce creates names over many connections, some of them the same.
// Each name must get a scroll of its own.
func TestNewNamesAtOnce(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "agent")
		var clients sync.WaitGroup
		for c := range 8 {
			s := newSkill(t, g, "agent", "my-assistant")
			clients.Go(func() {
				for n := range 12 {
					s.remember(fmt.Sprintf("agent-%d/memory-%d", c, n), fmt.Sprintf("text %d of %d", n, c))
					s.remember(fmt.Sprintf("shared/memory-%d", n), "the same from all")
				}
			})
		}
		clients.Wait()
		s := newSkill(t, g, "agent", "my-assistant")
		for c := range 8 {
			for n := range 12 {
				s.recalls(fmt.Sprintf("agent-%d/memory-%d", c, n), fmt.Sprintf("text %d of %d", n, c))
			}
		}
		s.recalls("shared/memory-3", "the same from all")
		if list := s.list(); len(list) != 9*12 {
			t.Errorf("%d names, want %d", len(list), 9*12)
		}
	})
}

// TestNamesSurviveKills kills the gateway while names are created and deleted. A
// name must then read as a text that was written to it or as missing, and never
// as another name's text.
func TestNamesSurviveKills(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "agent")
		acknowledged := map[string]bool{}
		for round := range rounds(2, 6) {
			var begun sync.WaitGroup
			var mu sync.Mutex
			var clients sync.WaitGroup
			begun.Add(4)
			for c := range 4 {
				clients.Go(func() { g.rememberUntilKilled(c, round, &mu, acknowledged, begun.Done) })
			}
			begun.Wait() // every client has created names
			g.kill()
			clients.Wait()
			g.start()
			for key, there := range acknowledged {
				r := g.read("agent", at("select", "memory", key))
				if there && (r.status != 200 || r.body != "text of "+key) || r.status == 200 && r.body != "text of "+key || r.status != 200 && r.status != 404 {
					t.Fatalf("round %d: %s reads %d %q, acknowledged %v", round, key, r.status, r.body, there)
				}
			}
		}
	})
}

// read sends a GET, whose status may be anything.
func (g *gate) read(id, target string) reply {
	g.t.Helper()
	r, err := g.do(id, http.MethodGet, target, "")
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// rememberUntilKilled creates names until the gateway is gone, and deletes every
// third. Each text contains its own name. It calls begun once it has created some.
func (g *gate) rememberUntilKilled(c, round int, mu *sync.Mutex, acknowledged map[string]bool, begun func()) {
	announce := sync.OnceFunc(begun)
	defer announce()
	for n := 0; ; n++ {
		if n == 10 {
			announce()
		}
		key := fmt.Sprintf("agent.1.1/round-%d.client-%d.n-%d/1.1.1", round, c, n)
		r, err := g.do("agent", "POST", at("update", "memory", key), "text of "+key)
		mu.Lock()
		acknowledged[key] = err == nil && r.status == 200
		mu.Unlock()
		if err != nil {
			return
		}
		if n%3 == 2 {
			mu.Lock()
			acknowledged[key] = false // it may be gone as soon as the request is sent
			mu.Unlock()
			if _, err := g.do("agent", "POST", at("delete", "memory", key), ""); err != nil {
				return
			}
		}
	}
}
