package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestPublishedErrors has the codes of the published reference, with details.
func TestPublishedErrors(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "abc123", "bob")
		g.must("abc123", "POST", at("update", "", "dotless"), "by SQ's own operation", 200)
		for _, test := range []struct {
			method, target, body string
			status               int
			code                 string
		}{
			{"GET", "read/1-1-1/1-1-1/1-1-1", "", 400, "INVALID_COORDINATE"},
			{"GET", "read/abc/def/ghi", "", 400, "INVALID_COORDINATE"},
			{"DELETE", "delete/abc/def/ghi", "", 400, "INVALID_COORDINATE"},
			{"PUT", "write/abc/def/ghi", "x", 400, "INVALID_COORDINATE"},
			{"GET", "read/1.1.1.1/1.1.1/1.1.1", "", 400, "INVALID_COORDINATE"},
			{"GET", "read/100.1.1/1.1.1/1.1.*", "", 400, "INVALID_COORDINATE"},
			{"GET", "read", "", 400, "INVALID_COORDINATE"},
			{"PUT", "write", "x", 400, "INVALID_COORDINATE"},
			{"GET", "list/nothing..here", "", 400, "INVALID_COORDINATE"},
			{"GET", "list/1-1-1", "", 400, "INVALID_COORDINATE"},
			{"GET", "list/1.1.1/1.1.1/1.1.1.1", "", 400, "INVALID_COORDINATE"},
			{"PUT", "write/1.1.1", "", 400, "BAD_REQUEST"},
			{"PUT", "write/1.1.1", "a\x17b", 400, "SCROLL_HAS_DELIMITERS"},
			{"PUT", "write/1.1.1", strings.Repeat("x", 10<<20+1), 413, "CONTENT_TOO_LARGE"},
			{"GET", "search", "", 400, "BAD_REQUEST"},
			{"GET", "search?q=x&limit=0", "", 400, "BAD_REQUEST"},
			{"GET", "read/1.1.1", "", 404, "NOT_FOUND"},
			{"GET", "read/no.such.name", "", 404, "NOT_FOUND"},
			{"GET", "read/2026.2.13/1.1.1/1.1.1", "", 404, "NOT_FOUND"},
			{"DELETE", "read/1.1.1", "", 405, "METHOD_NOT_ALLOWED"},
			{"GET", "write/1.1.1", "", 405, "METHOD_NOT_ALLOWED"},
			{"GET", "/bob/api/v2/read/1.1.1", "", 403, "FORBIDDEN"},
			{"GET", "/t/bob/api/v2/list", "", 403, "FORBIDDEN"},
			{"GET", "/nobody/api/v2/list", "", 403, "FORBIDDEN"},
			{"PUT", "write/bob.1.1.1/1.1.1/1.1.1", "x", 403, "FORBIDDEN"},
		} {
			if !strings.HasPrefix(test.target, "/") {
				test.target = "/api/v2/" + test.target
			}
			r := g.must("abc123", test.method, test.target, test.body, test.status)
			var e struct {
				Error, Code string
				Details     map[string]string
			}
			if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Code != test.code || e.Error == "" || e.Details == nil || (e.Details["field"] == "coordinate") != (test.code == "INVALID_COORDINATE") {
				t.Errorf("%s %s: %v %s, want %s", test.method, test.target, err, r.body, test.code)
			}
		}
		for _, target := range []string{"/api/v2/read/1.1.1", "/bob/api/v2/list", "/nobody/list", "/t/bob/api/v2/search?q=x"} {
			if r, err := g.do("", "GET", target, ""); err != nil || r.status != 401 || !strings.Contains(r.body, `"code":"UNAUTHORIZED"`) {
				t.Errorf("%s without a key: %v %d %s", target, err, r.status, r.body)
			}
		}
		// SQ's own operations keep their codes, and what they wrote can be read.
		if r := g.must("abc123", "GET", "/api/v2/select?c=1-1", "", 400); !strings.Contains(r.body, `"code":"bad_coordinate"`) || strings.Contains(r.body, "details") {
			t.Errorf("select: %s", r.body)
		}
		if got := g.get("abc123", "/api/v2/read/dotless"); got != "by SQ's own operation" {
			t.Errorf("read/dotless: %q", got)
		}
	})
}

// TestPublishedReads asks for objects and for tags, and of several phexts.
func TestPublishedReads(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "shared-a", "shared-b")
		for _, id := range []string{"shared-a", "shared-b"} {
			g.set(id, "data_dir", g.dir+"/data/common")
			g.set(id, "shared_data_dir", true)
		}
		g.writeFile()
		g.start()
		for _, id := range []string{"will", "shared-a", "shared-b"} {
			g.must(id, "PUT", "/api/v2/write/1.1.1?p=one", "first <b> of "+id, 200)
			g.must(id, "PUT", "/api/v2/write/a.name?p=two", "second of "+id, 200)
			r := g.must(id, "GET", "/api/v2/read/1.1.1?p=one", "", 200)
			ask := func(header, value string) reply {
				w := g.wire(t)
				return w.ask(lines("GET /api/v2/read/1.1.1?p=one HTTP/1.1", "Host: HOST", "Authorization: Bearer "+g.key(id), header+": "+value), "")
			}
			if again := ask("If-None-Match", r.header.Get("ETag")); again.status != 304 {
				t.Errorf("with the tag: %d %q", again.status, again.body)
			}
			var object struct {
				Content, Coordinate string
				Exists              bool
			}
			if err := json.Unmarshal([]byte(ask("Accept", "application/json").body), &object); err != nil || object.Content != "first <b> of "+id || object.Coordinate != "1.1.1" || !object.Exists {
				t.Errorf("as an object: %v %+v", err, object)
			}
			list := g.get(id, "/api/v2/list?p=*")
			if want := regexp.MustCompile(`^\{"prefix":"","count":2,"total":2,"coordinates":\["1.1.1/1.1.1/1.1.1","a.name"\],"scrolls":\[\{"coordinate":"1.1.1/1.1.1/1.1.1","size_bytes":\d+,"modified":"[^"]+Z","phext":"one"\},\{"coordinate":"a.name","size_bytes":\d+,"modified":"[^"]+Z","phext":"two"\}\]\}\n$`); !want.MatchString(list) {
				t.Errorf("list of all: %s", list)
			}
			var found struct {
				Results []struct{ Coordinate, Phext, Content string }
			}
			if err := json.Unmarshal([]byte(g.get(id, "/api/v2/search?q=of&p=*")), &found); err != nil || len(found.Results) != 2 {
				t.Errorf("search in all: %v, %+v", err, found)
			}
			for _, one := range found.Results {
				if one.Phext != "one" && one.Phext != "two" || !strings.HasSuffix(one.Content, " of "+id) {
					t.Errorf("search in all: %+v", one)
				}
			}
		}
	})
}
