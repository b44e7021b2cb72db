package main

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"

	"mirrorborn.us/sqgate/phext"
)

// spelt is one scroll as different clients address it.
type spelt struct {
	shown  string   // in toc and json-export
	others []string // other spellings
}

// strangeCoordinates are those of the recording "short, dated and zero coordinates",
// in the order in which toc lists them. SQ merges some of them, and loses others when
// it reads its file again.
var strangeCoordinates = []spelt{
	{"1.1.1/1.1.1/1.1.4", []string{"1.1.4", "4", "01.1;4", "will.1.1.1/1.1.1/1.1.4"}},
	{"1.1.1/1.1.1/1.1.42", []string{"1.1.1/1.1.1/42", "1.1.1/1.1.1/1.42"}},
	{"42.1.1/11.1.1/1.1.1", []string{"42.1.1/11.1.1", "42.1.1/11/1"}},
	{"2026.2.13/7.1.1/1.1.1", []string{"2026.02.13/7.1.1/1.1.1", "2026.2.13;7/1", "will.2026.2.13.7.1.1.1.1.1"}},
	{"1.1.1/1.1.1/2026.2.11", []string{"1.1.1;1.1.1;2026.02.11"}},
	{"2025.2.13/7.1.1/1.1.1", nil},
	{"4.2.0/4.2.0/4.2.0", []string{"4.2.00/4.2.0/4.2.000"}},
	{"1.1.1/1.1.1/1.1.0", []string{"0", "1.0"}},
	{"0.0.0/0.0.0/0.0.0", nil},
	{"1.1.1/1.1.1/1.1.1000", []string{"1000"}},
	{"4294967297.1.1/1.1.1/1.1.1", nil},
	{"2026.2.22/lumen.1.1/1.1.1", []string{"2026.2.22;lumen.1.1;1.1.1"}},
	{"journal.2026.2/20.1.1", nil},
}

// TestStrangeCoordinates writes short coordinates, dates and zeros in every way, and
// reads them back: at once, after SQ and after the gateway was started again.
func TestStrangeCoordinates(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		texts := map[string]string{}
		for i, c := range strangeCoordinates {
			texts[c.shown] = fmt.Sprintf("text %d", i)
			for n, spelling := range append(c.others, c.shown) {
				text := "text"
				if n == len(c.others) {
					text = texts[c.shown]
				}
				switch n % 3 {
				case 0:
					g.must("will", "POST", at("update", "n", spelling), text, 200)
				case 1:
					g.must("will", "GET", "/api/v2/update/"+spelling+"?p=n&s="+escape(text, ""), "", 200)
				case 2:
					g.must("will", "PUT", "/api/v2/update?p=n", fmt.Sprintf(`{"coordinate":%q,"text":%q}`, spelling, text), 200)
				}
			}
			g.must("will", "POST", at("update", "n", c.shown), "te", 200)
			g.must("will", "POST", at("insert", "n", c.shown), texts[c.shown][2:], 200)
		}
		check := func(when string) {
			t.Helper()
			if err := g.readStrange(texts); err != "" {
				t.Errorf("%s: %s", when, err)
			}
		}
		check("at once")
		for _, pid := range childrenOf(g.dataDir("will")) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		check("after SQ was killed")
		g.must("will", "POST", at("update", "n", "9.9.9/9.9.9/9.9.9"), "last", 200) // SQ reads its file again
		g.must("will", "POST", at("delete", "n", "9.9.9/9.9.9/9.9.9"), "", 200)
		check("after SQ was started again")
		g.stop()
		g.start()
		check("after a restart")
		for _, c := range strangeCoordinates {
			spelling := append(c.others, c.shown)[0]
			if r := g.must("will", "DELETE", at("delete", "n", spelling), "", 200); r.body != fmt.Sprintf("Removed %d bytes", len(texts[c.shown])) {
				t.Errorf("delete of %s: %q", spelling, r.body)
			}
			delete(texts, c.shown)
			check("after " + c.shown + " was deleted")
		}
	})
}

// readStrange reads everything in every way, and returns what is wrong.
func (g *gate) readStrange(texts map[string]string) string {
	g.t.Helper()
	toc, manifest := "", ""
	for _, c := range strangeCoordinates {
		text, there := texts[c.shown]
		for _, spelling := range append(c.others, c.shown) {
			r := g.read("will", at("select", "n", spelling))
			status := 200
			if _, err := phext.ParseCoordinate(c.shown); err != nil && !there {
				status, r.body = 404, text // it is a name
			}
			if r.status != status || r.body != text {
				return fmt.Sprintf("select of %s: %d %q, want %q", spelling, r.status, r.body, text)
			}
		}
		if there {
			toc += "* " + c.shown + ": " + text + "\n"
			manifest += append(c.others, c.shown)[0] + ": " + phext.Checksum(text) + "\n"
		}
	}
	if len(texts) == 0 {
		toc = "* " + origin + ": \n"
	}
	if got := g.get("will", "/api/v2/toc?p=n"); got != toc {
		return fmt.Sprintf("toc:\n%s\nwant\n%s", got, toc)
	}
	if got := g.must("will", "POST", "/api/v2/delta?p=n", manifest, 200).body; got != "" {
		return fmt.Sprintf("delta of all: %q", got)
	}
	var exported []struct{ Coord, Scroll string }
	if err := json.Unmarshal([]byte(g.get("will", "/api/v2/json-export?p=n")), &exported); err != nil || len(exported) != max(1, len(texts)) {
		return fmt.Sprintf("json-export: %v, %+v", err, exported)
	}
	for _, e := range exported {
		if texts[e.Coord] != e.Scroll {
			return fmt.Sprintf("json-export has %+v", e)
		}
	}
	return ""
}
