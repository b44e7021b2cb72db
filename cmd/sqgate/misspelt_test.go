package main

import (
	"strings"
	"testing"
)

// TestMisspeltWritesChangeNothing sends writes that name a coordinate, in a way that is
// not understood. SQ, which sees none either, would make them of the scroll at the origin.
func TestMisspeltWritesChangeNothing(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "kept", 200)
		for _, c := range []struct{ method, target, body, says string }{
			{"POST", "update?p=n&coordinates=1.1.1/1.1.1/1.1.2", "x", `"coordinate"`},
			{"GET", "insert?p=n&cord=1.1.1/1.1.1/1.1.2&s=x", "", `"coord"`},
			{"DELETE", "delete?p=n&C=1.1.1/1.1.1/1.1.2", "", `"c"`},
			{"POST", "update?p=n", `[{"coordinate":"1.1.1/1.1.1/1.1.2","content":"x"}]`, `"coordinate"`},
			{"POST", "update?p=n", `{"scroll":{"c":"1.1.1/1.1.1/1.1.2","s":"x"}}`, `"c"`},
			{"POST", "update?p=n", "// of today\n" + `{"c":"1.1.1/1.1.1/1.1.2","s":"x"}`, "comment"},
			{"POST", "update", "p=n&coordinates=1.1.1/1.1.1/1.1.2&content=x", `"coordinate"`},
			{"POST", "update?p=n", `{"coordinates":"1.1.1/1.1.1/1.1.2","content":"x"}`, `"coordinate"`},
		} {
			r := g.must("will", c.method, "/api/v2/"+c.target, c.body, 400)
			if said := strings.ReplaceAll(r.body, `\"`, `"`); !strings.Contains(said, "nothing was changed") && !strings.Contains(said, "must be spelled") || !strings.Contains(said, c.says) {
				t.Errorf("%s %q: %s", c.target, c.body, r.body)
			}
			for _, phext := range []string{"n", ""} {
				want := map[string]string{"n": "kept"}[phext]
				if got := g.get("will", at("select", phext, origin)); got != want {
					t.Fatalf("%s %q: the scroll is %q", c.target, c.body, got)
				}
			}
		}
		for _, text := range []string{`[{"title":"a list"}]`, `{"title":"just JSON"}`, "# notes\nwith a coordinate: 1.2.3"} { // as on SQ
			g.must("will", "POST", "/api/v2/update?p=n&chord=C/E", text, 200)
			if got := g.get("will", at("select", "n", origin)); got != text {
				t.Errorf("%q: %q", text, got)
			}
		}
	})
}
