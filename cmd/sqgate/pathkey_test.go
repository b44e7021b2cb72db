package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// longestEndpoint is how many characters Phext Notepad has room for in the setting
// of its endpoint.
const longestEndpoint = 64

// newPathKey makes a new path key for a tenant over the API.
func (g *gate) newPathKey(id string) string {
	g.t.Helper()
	key, ok := g.manage("PATCH", "tenants/"+id, `{"path_key": "new"}`, 200)["path_key"].(string)
	if !ok || key == "" {
		g.t.Fatal("the answer has no path_key")
	}
	return key
}

// TestPathKeyLifecycle makes a path key, uses it, replaces it and revokes it. The
// key may appear only in the tenants file.
func TestPathKeyLifecycle(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "other")
		g.args = append(g.args, "--log-level", "debug", "--log-dir", filepath.Join(g.dir, "logs"))
		g.start()
		first := g.newPathKey("will")
		if endpoint := "https://sq.mirrorborn.us/k/" + first + "/api/v2"; len(endpoint) > longestEndpoint {
			t.Errorf("%q has %d characters", endpoint, len(endpoint))
		}
		g.usePathKey(t, first, 200)
		shown := g.manage("GET", "tenants/will", "", 200)
		if shown["path_key"] != nil || shown["path_key_fingerprint"] == nil {
			t.Errorf("shown afterwards: %v", shown)
		}
		second := g.newPathKey("will")
		g.usePathKey(t, first, 401)
		g.usePathKey(t, second, 200)
		if got := g.manage("PATCH", "tenants/will", `{"path_key": null}`, 200); got["path_key"] != nil || got["path_key_fingerprint"] != nil {
			t.Errorf("revoked: %v", got)
		}
		g.usePathKey(t, second, 401)
		g.must("will", "GET", at("select", "n", origin), "", 200)
		added := g.manage("POST", "tenants/add", `{"tenant_id": "acme", "path_key": "new"}`, 201)["path_key"].(string)
		g.usePathKey(t, added, 200)
		g.manage("PATCH", "tenants/acme", `{"enabled": false}`, 200)
		g.usePathKey(t, added, 403)
		g.stop()
		g.findNowhere(t, first, second, added)
	})
}

// usePathKey makes calls with a path key, and with a Referer that contains it, as
// pages under such a URL send it.
func (g *gate) usePathKey(t *testing.T, key string, status int) {
	t.Helper()
	for _, path := range []string{"/api/v2/update?p=n&c=" + origin + "&s=x", "/api/v2/select?p=n&c=" + origin, "/select/" + origin + "?p=n", "/toc?p=n"} {
		req, err := http.NewRequest("GET", g.url+"/k/"+key+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Referer", g.url+"/k/"+key+"/page")
		if r, err := g.send(req); err != nil || r.status != status || strings.Contains(fmt.Sprint(r.header, r.body), key) {
			t.Errorf("%s with a path key: %v %d %q %v, want %d and no key", path, err, r.status, r.body, r.header, status)
		}
	}
}

// findNowhere looks for keys in the log and in every file except the tenants file.
func (g *gate) findNowhere(t *testing.T, keys ...string) {
	t.Helper()
	texts := map[string]string{"the log": g.log.String()}
	err := filepath.WalkDir(g.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == g.configPath() {
			return err
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	audit := texts[filepath.Join(g.dir, "state", "audit.log")]
	if !regexp.MustCompile(`"before":\{"path_key":"fingerprint [0-9a-f]{8}"\},"after":\{"path_key":"off"\}`).MatchString(audit) {
		t.Errorf("the audit log does not tell of the revocation:\n%s", audit)
	}
	for place, text := range texts {
		for _, key := range keys {
			if strings.Contains(text, key) {
				t.Errorf("a path key stands in %s", place)
			}
		}
	}
}

func TestBadPathKeyCalls(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	const own = "a-key-of-the-callers-own-choice"
	for _, body := range []string{`{"path_key": "` + own + `"}`, `{"path_key": 5}`, `{"path_key": true}`, `{"path_key": ["new"]}`} {
		for _, call := range [][2]string{{"PATCH", "tenants/will"}, {"POST", "tenants/add"}} {
			out := g.manage(call[0], call[1], body, 400)
			if said := fmt.Sprint(out["error"]); !strings.Contains(said, "path_key") || strings.Contains(said, own) {
				t.Errorf("%s %s: %s", call[0], body, said)
			}
		}
	}
	if out := g.manage("GET", "tenants/will", "", 200); out["path_key_fingerprint"] != nil {
		t.Errorf("a path key was made: %v", out)
	}
}

// TestPathKeyCommand makes and revokes path keys with the command.
func TestPathKeyCommand(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	tenant := func(args ...string) (string, int) {
		return sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey, "SQGATE_URL=" + g.url}, append([]string{"tenant"}, args...)...)
	}
	printed := regexp.MustCompile(`(?m)^path_key +([A-Za-z0-9_-]{22})$`)
	var keys []string
	for _, args := range [][]string{{"set", "will", "--path-key", "new"}, {"add", "acme", "--path-key"}} {
		out, status := tenant(args...)
		found := printed.FindStringSubmatch(out)
		if status != 0 || found == nil {
			t.Fatalf("%v: %d %s", args, status, out)
		}
		keys = append(keys, found[1])
		g.usePathKey(t, found[1], 200)
	}
	if out, status := tenant("set", "will", "--path-key", "off"); status != 0 || strings.Contains(out, "path_key") {
		t.Errorf("off: %d %s", status, out)
	}
	g.usePathKey(t, keys[0], 401)
	g.usePathKey(t, keys[1], 200)
	if out, status := tenant("set", "will", "--path-key", "mine"); status != 2 || !strings.Contains(out, "new or off") {
		t.Errorf("another word: %d %s", status, out)
	}
	if out, status := sqgateOutput(t, nil, "__complete", "tenant", "set", "will", "--path-key", ""); status != 0 || !strings.Contains(out, "new\noff\n") {
		t.Errorf("completion: %d %s", status, out)
	}
	if out, _ := tenant("set", "--help"); !strings.Contains(out, "/k/KEY/api/v2") {
		t.Errorf("the help does not say what the key is for:\n%s", out)
	}
}
