package rewrite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

func TestRoutes(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v2/read/1.1.1":                   "read 1.1.1",
		"/will/api/v2/read/a.b/c":              "read a.b/c will",
		"/t/will/api/v2/list":                  "list will",
		"/t/will/list/1.1.1/":                  "list 1.1.1/ will",
		"//api//v2///read//1.1.1//1.1.1":       "read 1.1.1/1.1.1",
		"/will//api/v2//search":                "search will",
		"/scroll/1.1.1":                        "read 1.1.1",
		"/api/v2/scrolls":                      "list",
		"/bob/version":                         "version bob",
		"/t/toc":                               "-", // t is no id
		"/api/v2/toc/1.1.1":                    "-",
		"/api/v2/scrolls/1.1.1":                "-",
		"/api/v2/search/x":                     "-",
		"/api/v2/health/x":                     "-",
		"/t/t/will/toc":                        "-",
		"/will/t/toc":                          "-",
		"/api/v2/readx/1.1.1":                  "-",
		"/will/will/read/1.1.1":                "-",
		"/" + strings.Repeat("a", 64) + "/toc": "-",
	} {
		r, ok := findRoute(path)
		got := strings.Join(slices.DeleteFunc([]string{string(r.op), r.coordinate, r.instance}, func(s string) bool { return s == "" }), " ")
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for path, want := range map[string]bool{
		"/api/v2/read/1.1.1": true, "/nobody/list": true, "/t/x/search": true, "/api/v2/delete/1.1.1": true, "/scroll/1.1.1": true,
		"/api/v2/delete": false, "/api/v2/toc": false, "/api/v2/nothing": false, "/api/v2/version": false, "/": false,
	} {
		if got := IsPublished(path); got != want {
			t.Errorf("%s is published: %v", path, got)
		}
	}
	for path, want := range map[string]string{
		"/health": "health ", "/api/v2/health": "health ", "/nobody/api/v2/version": "version nobody", "/t/x/version": "version x", "//version": "version ",
		"/api/v2/openapi.json": "openapi.json ", "/t/x/openapi.json": "openapi.json x", "/select/openapi.json": " ", "/openapi.jsonx": " ",
		"/api/v2/toc": " ", "/a/b/version": " ", "/Nobody/version": " ", "/read/version": " ", "/versions": " ",
	} {
		op, instance := Keyless(path)
		if got := string(op) + " " + instance; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if key, rest, ok := SplitPathKey("//k//a-key//api/v2//toc"); key != "a-key" || rest != "/api/v2/toc" || !ok {
		t.Errorf("%s %s %v", key, rest, ok)
	}
}

// TestPublishedCalls are for SQ what its own operations are.
func TestPublishedCalls(t *testing.T) {
	for _, s := range []struct{ method, target, body, wire, coordinate string }{
		{"GET", "/api/v2/read/2.3.5", "", "GET select?p=&c=will.2.3.1/1.1.1/1.1.5", "2.3.5"},
		{"HEAD", "/will/api/v2/read/" + somewhere + "?p=n", "", "GET select?p=n&c=will." + somewhere, somewhere},
		{"GET", "/api/v2/read?c=" + somewhere, "", "GET select?p=&c=will." + somewhere, somewhere},
		{"PUT", "/t/will/api/v2/write/" + somewhere, `{"coordinate":"1.1.1","content":"x"}`, "POST update?p=&c=will." + somewhere + ` {"coordinate":"1.1.1","content":"x"}`, somewhere},
		{"POST", "/api/v2/write?p=n", `{"coordinate":"will.` + somewhere + `","content":"x"}`, "POST update?p=n&c=will." + somewhere + " x", "will." + somewhere},
		{"PUT", "/scroll/" + somewhere, "x", "POST update?p=&c=will." + somewhere + " x", somewhere},
		{"DELETE", "/api/v2/delete/" + somewhere, "", "GET delete?p=&c=will." + somewhere, somewhere},
		{"GET", "/scroll/" + somewhere, "", "GET select?p=&c=will." + somewhere, somewhere},
		{"POST", "/api/v2/write?library=2&shelf=3&series=4&collection=5&volume=6&book=7&chapter=8&section=9&scroll=10", "x", "POST update?p=&c=will." + somewhere + " x", somewhere},
	} {
		call, err := understand(s.method, s.target, s.body, will)
		if err != nil {
			t.Errorf("%s %s: %v", s.method, s.target, err)
			continue
		}
		out := call.Outgoing()
		got := out.Method + " " + strings.TrimPrefix(out.Path+"?"+out.Query, "/api/v2/")
		if len(out.Body) > 0 {
			got += " " + string(out.Body)
		}
		if got != s.wire || call.Published == nil || call.Published.Coordinate != s.coordinate || call.Published.AsObject != strings.Contains(s.target, "read?") {
			t.Errorf("%s %s goes out as %s for %+v, want %s for %s", s.method, s.target, got, call.Published, s.wire, s.coordinate)
		}
	}
	if call, err := understand("POST", "/api/v2/delete?c="+somewhere, "", will); err != nil || call.Published != nil {
		t.Errorf("delete of SQ's own: %v, %+v", err, call)
	}
}

// TestListPrefixes has those of the published samples, and what they must cover.
func TestListPrefixes(t *testing.T) {
	for _, test := range []struct {
		prefix      string
		covers, not string // coordinates and names
	}{
		{"", "1.1.1/1.1.1/1.1.1 a.name 2026.2.13/1.1.1/1.1.1", ""},
		{"***", "1.1.1/1.1.1/1.1.1 a.name", ""},
		{"1.1.1", "1.1.1/1.1.1/1.1.2 1.1.1/9.1.1/1.1.1 1.1.1/1.1.1/index 1.1.1/1.1.1/0.1.1", "1.1.2/1.1.1/1.1.1 11.1.1/1.1.1/1.1.1 a.1.1.1"},
		{"1.1.1/1.1.1", "1.1.1/1.1.1/2.1.1", "1.1.1/2.1.1/1.1.1"},
		{"2.3.5/7.11.13/", "2.3.5/7.11.13/17.19.23", "2.3.5/7.11.130/1.1.1 2.3.5/7.11.1/13.1.1"},
		{"8.1.1/*", "8.1.1/1.1.1/1.1.1", "81.1.1/1.1.1/1.1.1"},
		{"2026.02", "2026.2.13/1.1.1/1.1.1 2026.2.22/lumen.1.1/1.1.1", "2026.20.1/1.1.1/1.1.1 2.26.1/1.1.1/1.1.1"},
		{"99999999999999999999", "99999999999999999999.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.1"},
		{"docs.readme.1", "docs.readme.1 docs.readme.12 docs.readme.draft.2", "docs.readmes.1 docs.other.1 Docs.readme.1"},
		{"notes.1.1", "notes.today.1 notes.1", "notes2.today.1"},
		{"config.myapp.1/prod.1.1", "config.myapp.1/prod.database_url.1", "config.myapp.1/dev.x.1 config.myapp.2/prod.x.1"},
		{"metrics.cpu.1/2026.2.20", "metrics.cpu.1/2026.2.20/9.1 metrics.cpu.1/2026.02.20/9.1", "metrics.cpu.1/2026.2.2/9.1 metrics.cpu.1/2026.2.200"},
		{"kv.user:alice:email.1", "kv.user:alice:email.1", "kv.user:bob:email.1"},
	} {
		call, err := understand("GET", "/api/v2/list/"+test.prefix, "", will)
		if err != nil {
			t.Errorf("%s: %v", test.prefix, err)
			continue
		}
		for want, all := range map[bool]string{true: test.covers, false: test.not} {
			for s := range strings.FieldsSeq(all) {
				at, bad := phext.ParseCoordinate(s)
				name := ""
				if bad != nil {
					name = s
				}
				if call.Listing.Covers(at, name) != want {
					t.Errorf("%s covers %s: %v", test.prefix, s, !want)
				}
			}
		}
	}
	for _, prefix := range []string{"-", "1-1", "a..b", ".a", "a/*/b", "1.1.*.1", "1.1.1/1.1.1/1.1.1/1", "a?b", "a.\x01", strings.Repeat("a.", 300), "é\x00.b", "1.1 .1"} {
		_, err := (&Head{Op: List, does: List, route: route{op: List, coordinate: prefix}, tenant: will}).Call(nil)
		var e *apierror.Error
		if !errors.As(err, &e) || e.Code != "bad_coordinate" {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

func TestListings(t *testing.T) {
	for target, want := range map[string]string{
		"list":                                   "false 1 1000 []",
		"list?page=3&limit=20&p=*":               "true 3 20 []",
		"list?limit=5000":                        "false 1 1000 []",
		"search?q=one+two":                       `false 1 10 ["one" "two"]`,
		"search?q=%22one+two%22+three&limit=500": `false 1 100 ["one two" "three"]`,
		"search?q=say+%22hi":                     `false 1 10 ["say" "hi"]`,
		"search?q=@example.com&namespace=docs":   `false 1 10 ["@example.com"]`,
		"search?q=" + strings.Repeat("w+", 40):   "false 1 10 [" + strings.TrimSpace(strings.Repeat(`"w" `, mostTerms)) + "]",
	} {
		call, err := understand("GET", "/api/v2/"+target, "", will)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		l := call.Listing
		if got := fmt.Sprintf("%v %d %d %q", l.Everywhere, l.Page, l.Limit, l.Terms); got != want || !call.NeedsNames() {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	for _, target := range []string{"list?page=0", "list?limit=x", "list?limit=-1", "list?page=99999999999", "search", "search?q=+", "search?q=%22"} {
		_, err := understand("GET", "/api/v2/"+target, "", will)
		var e *apierror.Error
		if !errors.As(err, &e) || e.Code != "bad_request" {
			t.Errorf("%s: %v", target, err)
		}
	}
}
