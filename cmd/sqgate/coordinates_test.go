package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
		g.killSQ("will")
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
			if r := g.read("will", "/api/v2/read/"+spelling+"?p=n"); there && (r.status != 200 || r.body != text) || !there && r.status != 404 {
				return fmt.Sprintf("read of %s: %d %q, want %q", spelling, r.status, r.body, text)
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
	var listed struct{ Coordinates []string }
	if err := json.Unmarshal([]byte(g.get("will", "/api/v2/list?p=n")), &listed); err != nil || len(listed.Coordinates) != len(texts) {
		return fmt.Sprintf("list: %v, %q", err, listed.Coordinates)
	}
	for _, c := range listed.Coordinates {
		if _, there := texts[c]; !there {
			return fmt.Sprintf("list has %s", c)
		}
	}
	var queried []struct{ Coordinate, Scroll string }
	set := strings.Join(listed.Coordinates, ",")
	if err := json.Unmarshal([]byte(g.must("will", "POST", "/api/v2/query?p=n&from=0.0.0/0.0.0/0.0.0&to=4294967298.1.1/1.1.1/1.1.1", set, 200).body), &queried); err != nil || len(queried) != len(texts) {
		return fmt.Sprintf("query: %v, %+v", err, queried)
	}
	for _, q := range queried {
		if texts[q.Coordinate] != q.Scroll {
			return fmt.Sprintf("query has %+v", q)
		}
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

// numbers are what a coordinate consists of. They are texts, since they may be large.
type numbers [9]string

// strange is a coordinate of numbers that are often the same, and often none that SQ
// keeps.
func strange(r *rand.Rand) (n numbers) {
	for i := range n {
		n[i] = "1"
	}
	for range r.IntN(4) {
		n[r.IntN(len(n))] = []string{"0", "1", "2", "13", "999", "1000", "2025", "2026", "4294967296", "4294967297", "18446744073709551617"}[r.IntN(11)]
	}
	if n[0] == "999" {
		n[0] = "998" // names have the places from 999.1.1/1.1.1/1.1.1 on
	}
	return n
}

// spell writes the numbers in one of the ways that mean the same: with other
// separators, with leading zeros, or without those of the numbers that may be left out.
func (n numbers) spell(r *rand.Rand) string {
	parts := slices.Clone(n[:])
	keep := len(parts)
	for keep > 1 && n[keep-2] == "1" && r.IntN(2) == 0 {
		keep--
	}
	parts = append(parts[:keep-1], n[len(n)-1])
	out := ""
	for i, part := range parts {
		if i > 0 {
			out += []string{".", "/", ";"}[r.IntN(3)]
		}
		out += []string{"", "", "0", "000"}[r.IntN(4)] + part
	}
	return out
}

// TestCoordinatesAtRandom writes numbers of all kinds with every operation, and reads
// them in other spellings: at once, after SQ and after the gateway was started again.
func TestCoordinatesAtRandom(t *testing.T) {
	seed := differentialSeed(t)
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		r := rand.New(rand.NewPCG(seed, 1))
		texts := map[numbers]string{}
		check := func(when string) {
			t.Helper()
			for n, text := range texts {
				c := n.spell(r)
				status := 200
				if text == "" {
					status = 404
				}
				if got := g.read("will", "/api/v2/read/"+c+"?p=n"); got.status != status || status == 200 && got.body != text {
					t.Fatalf("seed %d, %s: read of %s, which is %v: %d %q, want %q", seed, when, c, n, got.status, got.body, text)
				}
				if got := g.read("will", at("select", "n", c)); got.body != text && text != "" {
					t.Fatalf("seed %d, %s: select of %s, which is %v: %d %q, want %q", seed, when, c, n, got.status, got.body, text)
				}
			}
		}
		for round := range rounds(2, 6) {
			for i := range 60 {
				n, text := strange(r), fmt.Sprintf("text %d of round %d", i, round)
				c := n.spell(r)
				switch r.IntN(6) {
				case 0:
					g.must("will", "POST", at("update", "n", c), text, 200)
				case 1:
					g.must("will", "PUT", "/api/v2/write/"+c+"?p=n", text, 200)
				case 2:
					g.must("will", "POST", "/api/v2/write?p=n", fmt.Sprintf(`{"coordinate":%q,"content":%q}`, c, text), 200)
				case 3:
					g.must("will", "POST", "/api/v2/insert/"+c+"?p=n", text, 200)
					text = texts[n] + text
				case 4:
					g.must("will", "DELETE", "/api/v2/delete/"+c+"?p=n", "", 200)
					text = ""
				case 5:
					g.must("will", "POST", at("delete", "n", c), "", 200)
					text = ""
				}
				texts[n] = text
			}
			check("at once")
			g.killSQ("will")
			check("after SQ was killed")
			if round%2 == 0 {
				g.kill()
			} else {
				g.stop()
			}
			g.start()
			check("after a restart")
		}
	})
}
