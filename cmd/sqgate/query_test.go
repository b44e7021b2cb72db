package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/phext"
)

// sqWithQuery is the SQ to compare with: the one behind the gate if it has query,
// which came with 0.6.0, or else the stand-in.
func sqWithQuery(sq string) string {
	if version, err := exec.Command(sq, "version").Output(); err == nil && strings.Contains(string(version), "0.6.0") {
		return sq
	}
	return builtin
}

// TestQueryDifferential sends the same random queries to SQ 0.6.0 itself and through
// sqgate, which may have an older SQ behind it.
func TestQueryDifferential(t *testing.T) {
	seed := differentialSeed(t)
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		const name = "n"
		l := &lane{t: t, g: g, id: "will", dir: filepath.Join(g.dir, "direct", "will"), conn: g.wire(t)}
		r := &queries{rand.New(rand.NewPCG(seed, 0))}
		file := r.phext().Render()
		for _, dir := range []string{l.dir, g.dataDir("will")} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name+phextSuffix), []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l.direct = startSQ(t, sqWithQuery(sq), l.dir, g.key("will"))
		statuses := map[int]int{}
		for range rounds(1000, 5000) {
			x := r.next(name)
			direct, gated := x.askSQ(l), l.conn.ask(x.headWithBody(g.key("will"), false), x.body)
			statuses[direct.status]++
			kind := "application/json"
			if direct.status == 400 {
				kind = "text/plain; charset=utf-8"
			}
			if direct.status != gated.status || direct.body != gated.body || gated.header.Get("Content-Type") != kind {
				t.Fatalf("seed %d: %s %s %q\nSQ answers %d %.2000q\nsqgate     %d %.2000q %v", seed, x.method, x.target, x.body, direct.status, direct.body, gated.status, gated.body, gated.header)
			}
		}
		if statuses[200] < 300 || statuses[400] < 100 {
			t.Errorf("answers by status: %v", statuses)
		}
	})
}

// headWithBody has a length for a body of a GET too.
func (x *exchange) headWithBody(key string, close bool) string {
	head := x.head(key, close)
	if x.method == http.MethodGet && x.body != "" {
		head += "\r\nContent-Length: " + strconv.Itoa(len(x.body))
	}
	return head
}

// queries makes queries at random.
type queries struct{ *rand.Rand }

func (r *queries) pick(from ...string) string { return from[r.IntN(len(from))] }

// coordinate is one of a few hundred, so that queries meet scrolls.
func (r *queries) coordinate() phext.Coordinate {
	at := phext.Origin()
	for range r.IntN(3) {
		at[r.IntN(len(at))] = []uint32{1, 2, 3, 9, 10, 998, 999}[r.IntN(7)]
	}
	return at
}

func (r *queries) phext() *phext.Phext {
	var all []phext.Scroll
	for range 200 {
		text := ""
		for range 1 + r.IntN(6) {
			text += letters[r.IntN(len(letters))]
		}
		all = append(all, phext.Scroll{At: r.coordinate(), Text: text + r.pick("", "\b\f\v\x1b\x02", "\u2028\u2029")})
	}
	return phext.Of(all)
}

// spelt is a coordinate as SQ's query takes it, most of the time.
func (r *queries) spelt() string {
	at := r.coordinate().String()
	switch r.IntN(30) {
	case 0:
		return strings.ReplaceAll(at, "/", r.pick(".", ";", "//", "/ ", ","))
	case 1:
		return "+0" + at
	case 2:
		return strings.TrimSuffix(at, ".1") + r.pick("", ".", ".1.1", ".-1", ".1000", ".+1", ".1 1")
	case 3:
		return r.pick("garbage", "x", "[]", "\u00e9", "1.1.1", "+", "\"", "1-1-1/1-1-1/1-1-1", "1.1.1/1.1.1/18446744073709551616.1.1", strings.Repeat("9", 300))
	}
	return at
}

func (r *queries) spaced(s string) string {
	return r.pick("", "", "", " ", "\t", "\u00a0", "\r") + s + r.pick("", "", "", " ", "\r", "\u2003")
}

func (r *queries) set() string {
	var out strings.Builder
	for range r.IntN(8) {
		out.WriteString(r.spaced(r.spelt()) + r.pick(",", ",", ";", "\n", "\r\n", ",,"))
	}
	return out.String()
}

func (r *queries) next(name string) *exchange {
	x := &exchange{op: "query", method: r.pick("GET", "GET", "POST"), phext: name}
	params := []string{"p=" + r.pick(name, name, name, name, fmt.Sprint("ghost", r.IntN(100)))}
	add := func(param, value string) { params = append(params, param+"="+escape(value, r.pick("", "/.,", "/.;"))) }
	if r.IntN(3) > 0 {
		from, to := r.coordinate(), r.coordinate()
		if from.Compare(to) > 0 && r.IntN(8) > 0 {
			from, to = to, from
		}
		if r.IntN(20) > 0 {
			add("from", r.spaced(from.String()))
		}
		if r.IntN(20) > 0 {
			add("to", r.pick(r.spaced(to.String()), r.spaced(to.String()), r.spaced(to.String()), r.spelt()))
		}
	}
	if r.IntN(3) == 0 {
		add("set", r.set())
	}
	if r.IntN(6) == 0 {
		add("content", r.set())
	}
	if r.IntN(2) == 0 {
		x.body = r.set()
	}
	if r.IntN(3) == 0 {
		add("limit", r.spaced(r.pick("0", "1", "2", "+3", "10", "007", "", "18446744073709551615", "18446744073709551616", "-1", "1.5", "x", "+", "++1")))
	}
	if r.IntN(6) == 0 {
		params = append(params, r.pick("s=1.1.1/1.1.1/1.1.1", "c=9.9.9/9.9.9/9.9.9", "verbose", "x=1"))
	}
	r.Shuffle(len(params), func(i, j int) { params[i], params[j] = params[j], params[i] })
	x.target = "/api/v2/query?" + strings.Join(params, "&")
	return x
}

// TestQuery uses names and the tenant's own prefix, in a directory that tenants share
// too, and makes no file.
func TestQuery(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "customer-001", "bob")
		for _, id := range []string{"customer-001", "bob"} {
			g.set(id, "data_dir", filepath.Join(g.dir, "data", "common"))
			g.set(id, "shared_data_dir", true)
		}
		g.writeFile()
		g.start()
		for _, id := range []string{"will", "customer-001", "bob"} {
			for c, text := range map[string]string{origin: "first", "2.1.1/1.1.1/1.1.1": "far", "user.name": "name", "2026.2.13/1.1.1/1.1.1": "date"} {
				g.must(id, "POST", at("update", "n", c), text+" of "+id, 200)
			}
			entry := func(c, text string) string {
				return fmt.Sprintf(`{"coordinate":"%s","scroll":"%s of %s"}`, c, text, id)
			}
			set := id + "." + origin + ",user.name\n2026.02.13/1.1.1/1.1.1"
			if got, want := g.must(id, "POST", "/api/v2/query?p=n", set, 200).body, "["+entry(id+"."+origin, "first")+","+entry("user.name", "name")+","+entry("2026.02.13/1.1.1/1.1.1", "date")+"]"; got != want {
				t.Errorf("the set: %s, want %s", got, want)
			}
			if got, want := g.get(id, "/"+id+"/api/v2/query?p=n&from="+id+"."+origin+"&to=3000.1.1/1.1.1/1.1.1"),
				"["+entry(origin, "first")+","+entry("2.1.1/1.1.1/1.1.1", "far")+","+entry("user.name", "name")+","+entry("2026.2.13/1.1.1/1.1.1", "date")+"]"; got != want {
				t.Errorf("the range: %s, want %s", got, want)
			}
		}
		before := snapshot(t, filepath.Join(g.dir, "data"), ".")
		for _, target := range []string{"?p=ghost&from=" + origin + "&to=" + origin, "?p=ghost&set=" + origin, "?set=a.name", "?p=ghost"} {
			g.read("will", "/api/v2/query"+target)
		}
		for _, test := range []struct {
			target string
			status int
		}{
			{"?p=bob.n&set=" + origin, 200}, {"?p=n&set=bob." + origin, 403}, {"?p=n&from=bob." + origin + "&to=9.9.9/9.9.9/9.9.9", 403},
			{"?p=../common/bob.n&set=" + origin, 403}, {"?p=n&p=bob.n&set=" + origin, 400},
		} {
			if r := g.read("will", "/api/v2/query"+test.target); r.status != test.status || strings.Contains(r.body, "of bob") {
				t.Errorf("%s: %d %s", test.target, r.status, r.body)
			}
			if r := g.read("customer-001", "/api/v2/query"+test.target); r.status != test.status || strings.Contains(r.body, "of bob") {
				t.Errorf("%s: %d %s", test.target, r.status, r.body)
			}
		}
		if after := snapshot(t, filepath.Join(g.dir, "data"), "."); after != before {
			t.Errorf("reads have changed files:\n%s\nwere\n%s", after, before)
		}
	})
}
