package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

// threeIDs is a plain id, one with a hyphen, and one with digits, which legacy SQ
// takes for a coordinate.
var threeIDs = []string{"will", "phext-notepad", "customer-001"}

func TestTenantsReadTheirOwn(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, threeIDs...)
		for _, id := range threeIDs {
			for _, c := range []string{origin, "1.1.1/1.1.1/1.2.1", "9.9.9/9.9.9/9.9.9"} {
				text := id + " at " + c
				r := g.must(id, "POST", at("update", "notes", c), text, 200)
				if want := fmt.Sprintf("Updated %d bytes", len(text)); r.body != want {
					t.Errorf("%s: update answered %q, want %q", id, r.body, want)
				}
			}
		}
		for _, id := range threeIDs {
			for _, c := range []string{origin, "1.1.1/1.1.1/1.2.1", "9.9.9/9.9.9/9.9.9"} {
				if got := g.get(id, at("select", "notes", c)); got != id+" at "+c {
					t.Errorf("%s reads %q at %s", id, got, c)
				}
			}
			want := fmt.Sprintf("* 1.1.1/1.1.1/1.1.1: %[1]s at 1.1.1/1.1.1/1.1.1\n* 1.1.1/1.1.1/1.2.1: %[1]s at 1.1.1/1.1.1/1.2.1\n* 9.9.9/9.9.9/9.9.9: %[1]s at 9.9.9/9.9.9/9.9.9\n", id)
			if got := g.get(id, "/api/v2/toc?p=notes"); got != want {
				t.Errorf("%s: toc is %q, want %q", id, got, want)
			}
		}
	})
}

// TestNoSpellingReachesAnotherTenant sends, with one tenant's key, every request
// that might address another tenant's data. None may read or change it.
func TestNoSpellingReachesAnotherTenant(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "customer-001", "shared-a", "shared-b")
		common := filepath.Join(g.dir, "data", "common")
		for _, id := range []string{"shared-a", "shared-b"} {
			g.set(id, "data_dir", common)
			g.set(id, "shared_data_dir", true)
		}
		g.writeFile()
		g.start()
		victims := []string{"customer-001", "shared-b"}
		for _, v := range victims {
			g.must(v, "POST", at("update", "notes", origin), "secret of "+v, 200)
		}
		g.must("shared-a", "POST", at("update", "own", origin), "a's own", 200)
		before := snapshot(t, filepath.Join(g.dir, "data"), "customer-001", "common/shared-b.notes.phext")
		for _, attacker := range []string{"will", "shared-a"} {
			for _, target := range spellings() {
				for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
					r, err := g.do(attacker, method, target, "intruder")
					if err != nil {
						t.Fatalf("%s %s: %v", method, target, err)
					}
					if strings.Contains(r.body, "secret of") {
						t.Errorf("%s read another's data with %s %s: %q", attacker, method, target, r.body)
					}
				}
			}
		}
		after := snapshot(t, filepath.Join(g.dir, "data"), "customer-001", "common/shared-b.notes.phext")
		if before != after {
			t.Errorf("another's files changed:\n%s\nwas\n%s", after, before)
		}
		for _, v := range victims {
			if got := g.get(v, at("select", "notes", origin)); got != "secret of "+v {
				t.Errorf("%s now reads %q", v, got)
			}
		}
	})
}

// spellings is request targets that might address data of customer-001 or shared-b: those with
// every name and every coordinate, and where there is real SQ every two of them.
func spellings() []string {
	names := []string{"notes", "../customer-001/notes", "..%2Fcustomer-001%2Fnotes", "shared-b.notes", "/etc/passwd", "customer-001/notes", "..%5Cnotes", "notes%00", "customer-001.notes"}
	coordinates := []string{origin, "customer-001.1.1.1/1.1.1/1.1.1", "shared-b." + origin, "customer-AAB." + origin, "will.customer-001." + origin}
	ops := []string{"select", "update", "insert", "delete", "toc", "get", "delta", "json-export", "load", "status", "checksum", "query", "read", "write", "list", "search", "changes", "usage", "history", "restore"}
	var all []string
	for _, op := range ops {
		for i, p := range names {
			for k, c := range coordinates {
				if i > 0 && k > 0 && realSQ() == "" {
					continue
				}
				all = append(all, "/api/v2/"+op+"?p="+p+"&c="+c+"&s=intruder&q=secret&from="+c+"&to="+c,
					"/api/v2/"+op+"/"+c+"?q=secret&p="+p)
			}
		}
		all = append(all,
			"/customer-001/api/v2/"+op+"?p=notes", "/shared-b/"+op+"?p=notes", "/t/customer-001/api/v2/"+op+"/"+origin+"?p=notes&q=secret",
			"/shared-b/api/v2/"+op+"/"+origin+"?q=secret&p=*", "/api/v2/"+op+"?q=secret&p=*", "//t//shared-b//"+op+"?p=*&q=secret",
			"/api/v2/"+op+"?p=notes&p=shared-b.notes", "/api/v2/"+op+"?p=notes&phext=shared-b.notes",
			"/api/v2/../../customer-001/api/v2/"+op+"?p=notes", "/api/v2/"+op+"%20HTTP/1.1%0d%0aX:%20y?p=notes")
	}
	return all
}

// snapshot is the names and contents of the given files and directories, as a text
// to compare.
func snapshot(t *testing.T, root string, names ...string) string {
	t.Helper()
	var lines []string
	for _, name := range names {
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			lines = append(lines, fmt.Sprintf("%s: %q", path, text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func TestADataDirInsideAnothers(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "outer", "inner")
		g.set("inner", "data_dir", filepath.Join(g.dataDir("outer"), "tenants", "inner"))
		g.writeFile()
		g.start()
		g.must("inner", "POST", at("update", "notes", origin), "inner's", 200)
		g.must("outer", "POST", at("update", "notes", origin), "outer's", 200)
		for _, p := range []string{"tenants/inner/notes", "tenants%2Finner%2Fnotes"} {
			g.must("outer", "GET", "/api/v2/get?p="+p, "", 403)
		}
		if got := g.get("inner", at("select", "notes", origin)); got != "inner's" {
			t.Errorf("inner reads %q", got)
		}
	})
}

func TestKeysInEveryPlace(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "other", "gone")
		pathKey := "abcdefghijklmnopqrstuv"
		g.set("will", "path_key", pathKey)
		g.set("gone", "enabled", false)
		g.writeFile()
		g.start()
		g.must("will", "POST", at("update", "n", origin), "w", 200)
		key := g.key("will")
		for name, c := range map[string]struct {
			headers [][2]string
			path    string
			status  int
		}{
			"bearer":             {[][2]string{{"Authorization", "Bearer " + key}}, "", 200},
			"bearer, any case":   {[][2]string{{"authorization", "bEARER  " + key}}, "", 200},
			"bare":               {[][2]string{{"Authorization", key}}, "", 200},
			"X-SQ-API-Key":       {[][2]string{{"X-SQ-API-Key", key}}, "", 200},
			"path key":           {nil, "/k/" + pathKey, 200},
			"none":               {nil, "", 401},
			"wrong":              {[][2]string{{"Authorization", "Bearer " + key + "x"}}, "", 401},
			"empty":              {[][2]string{{"Authorization", ""}}, "", 401},
			"wrong path key":     {nil, "/k/" + pathKey + "x", 401},
			"api key as path":    {nil, "/k/" + key, 401},
			"path key as key":    {[][2]string{{"Authorization", "Bearer " + pathKey}}, "", 401},
			"Authorization-Junk": {[][2]string{{"Authorization-Junk", "Bearer " + key}}, "", 401},
			"two different":      {[][2]string{{"Authorization", "Bearer " + key}, {"Authorization", "Bearer " + g.key("other")}}, "", 401},
			"first one decides":  {[][2]string{{"Authorization", "Bearer wrong-key"}, {"X-SQ-API-Key", key}}, "", 401},
			"disabled":           {[][2]string{{"Authorization", "Bearer " + g.key("gone")}}, "", 403},
		} {
			req, err := http.NewRequest("GET", g.url+c.path+at("select", "n", origin), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range c.headers {
				req.Header.Add(h[0], h[1])
			}
			r, err := g.send(req)
			if err != nil || r.status != c.status {
				t.Errorf("%s: %v %d %q, want %d", name, err, r.status, r.body, c.status)
			}
			if c.status == 200 && r.body != "w" {
				t.Errorf("%s: read %q", name, r.body)
			}
			if r.status == 401 && r.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", name)
			}
		}
		basic, _ := http.NewRequest("GET", g.url+at("select", "n", origin), nil) // the URL was used above
		basic.SetBasicAuth("anyone", key)
		if r, err := g.send(basic); err != nil || r.status != 200 {
			t.Errorf("basic: %v %d %q", err, r.status, r.body)
		}
		for _, secret := range []string{key, pathKey, g.key("other")} {
			if strings.Contains(g.log.String(), secret) {
				t.Errorf("a key stands in the log")
			}
		}
	})
}

// raw sends bytes, closes its side, and reads until the gateway closes the
// connection.
func (g *gate) raw(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(g.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(waitTimeout)) // a TCP connection takes deadlines
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}
