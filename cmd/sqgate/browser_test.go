package main

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// page is a page of another origin. Its script calls the gateway in the ways that
// browsers allow, and shows the answers.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<title>calls</title>
<pre id="result">not done</pre>
<script>
const url = {{.URL}}, pathKey = {{.PathKey}};
const bearer = {"Authorization": "Bearer " + {{.Key}}};
const c = "p=web&c=1.1.1/1.1.1/1.1.";
const lines = [];
async function call(name, path, options) {
  try {
    const r = await fetch(url + path, options);
    lines.push(name + ": " + r.status + " " + (await r.text()).trim() + (r.headers.get("X-Request-Id") ? "" : " without X-Request-Id"));
  } catch (e) {
    lines.push(name + ": failed, " + e);
  }
}
(async () => {
  await call("put", "/api/v2/update?" + c + "1", {method: "PUT", headers: bearer, body: "h\u00e9llo"});
  await call("post", "/api/v2/insert?" + c + "1", {method: "POST", headers: {...bearer, "Content-Type": "application/json"}, body: "{\"a\":1}"});
  await call("conditional", "/api/v2/update?" + c + "2", {method: "POST", headers: {...bearer, "Idempotency-Key": "one"}, body: "second"});
  await call("get", "/api/v2/select?" + c + "1", {headers: bearer});
  await call("other header", "/toc?p=web", {headers: {"X-SQ-API-Key": {{.Key}}}});
  await call("delete", "/api/v2/delete?" + c + "1", {method: "DELETE", headers: bearer});
  await call("path key", "/k/" + pathKey + "/api/v2/select?" + c + "2");
  await call("head", "/k/" + pathKey + "/select/1.1.1/1.1.1/1.1.2?p=web", {method: "HEAD"});
  await call("simple post", "/k/" + pathKey + "/api/v2/update?" + c + "3", {method: "POST", body: new URLSearchParams({form: "as it is"})});
  // the published samples, as their documents have them
  await call("write", "/api/v2/write/2.3.5/7.11.13/17.19.23", {method: "PUT", headers: {...bearer, "Content-Type": "text/plain"}, body: "Hello, Mirrorborn"});
  await call("write by post", "/api/v2/write/2026.2.13/1.1.1/1.1.1", {method: "POST", headers: bearer, body: "a day"});
  await call("read", "/will/api/v2/read/2.3.5/7.11.13/17.19.23", {headers: bearer});
  await call("read nothing", "/api/v2/read/9.9.9/9.9.9/9.9.9", {headers: bearer});
  await call("list", "/api/v2/list/2026.2.13", {headers: bearer});
  await call("search", "/api/v2/search?q=mirrorborn", {headers: bearer});
  await call("delete by path", "/api/v2/delete/2.3.5/7.11.13/17.19.23", {method: "DELETE", headers: bearer});
  await call("version", "/api/v2/version");
  await call("no key", "/api/v2/select?" + c + "2");
  await call("no such call", "/api/v2/nope", {headers: bearer});
  await call("health", "/health");
  document.getElementById("result").textContent = lines.join("\n") + "\ndone";
})();
</script>
`))

// browserSays is the result that the page must show.
const browserSays = `put: 200 Updated 6 bytes
post: 200 Inserted 7 bytes
conditional: 200 Updated 6 bytes
get: 200 héllo{"a":1}
other header: 200 * 1.1.1/1.1.1/1.1.1: héllo{"a":1}
* 1.1.1/1.1.1/1.1.2: second
delete: 200 Removed 13 bytes
path key: 200 second
head: 200
simple post: 200 Updated 13 bytes
write: 200 {"status":"ok","ok":true,"coordinate":"2.3.5/7.11.13/17.19.23","bytes_written":17,"bytes":17,"timestamp":
write by post: 200 {"status":"ok","ok":true,"coordinate":"2026.2.13/1.1.1/1.1.1","bytes_written":5,"bytes":5,"timestamp":
read: 200 Hello, Mirrorborn
read nothing: 404 {"error":
list: 200 {"prefix":"2026.2.13","count":1,"total":1,"coordinates":["2026.2.13/1.1.1/1.1.1"],"scrolls":
search: 200 {"query":"mirrorborn","count":1,"total":1,"results":[{"coordinate":"2.3.5/7.11.13/17.19.23","snippet":"Hello, Mirrorborn","score":
delete by path: 200 {"status":"ok","coordinate":"2.3.5/7.11.13/17.19.23","deleted":true}
version: 200 {"version":"0.5.5","status":"ok"
no key: 401 {"error":"the API key is missing or wrong: send it as 'Authorization: Bearer KEY'","code":"unauthorized"}
no such call: 404 {"error":
health: 200 {"status":"ok","tenants":1}
done`

var shownResult = regexp.MustCompile(`(?s)<pre id="result">(.*?)</pre>`)

// TestABrowser makes Chromium load a page that calls the gateway at another
// origin. It needs CHROMIUM, which .ci/browser sets.
func TestABrowser(t *testing.T) {
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		t.Skip("NO BROWSER: CHROMIUM is not set; .ci/browser installs one and sets it")
	}
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGateWith(t, sq, "path_key", "a-path-key-for-browsers")
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			if err := page.Execute(w, map[string]string{"URL": g.url, "Key": g.key("will"), "PathKey": "a-path-key-for-browsers"}); err != nil {
				t.Error(err)
			}
		}))
		defer site.Close()
		found := shownResult.FindStringSubmatch(dumpDOM(t, chromium, site.URL))
		if found == nil {
			t.Fatal("the page shows no result")
		}
		want := strings.Split(browserSays, "\n")
		for i, line := range strings.Split(found[1], "\n") {
			if i >= len(want) || !strings.HasPrefix(line, want[i]) || strings.Contains(line, "without") {
				t.Errorf("the page shows %q, want %q", line, want[min(i, len(want)-1)])
			}
		}
		if !strings.HasSuffix(found[1], "\ndone") {
			t.Errorf("the page did not come to its end: %s", found[1])
		}
		for _, method := range []string{"OPTIONS", "PUT", "DELETE"} {
			if !strings.Contains(g.log.String(), "method="+method) {
				t.Errorf("the browser sent no %s", method)
			}
		}
		if got := g.get("will", at("select", "web", "1.1.1/1.1.1/1.1.3")); got != "form=as+it+is" {
			t.Errorf("the simple post stored %q", got)
		}
	})
}

// dumpDOM loads a page and returns the document after its script has run.
func dumpDOM(t *testing.T, chromium, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	home := t.TempDir()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--user-data-dir="+home, "--virtual-time-budget=20000", "--dump-dom", url)
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.WaitDelay = waitTimeout // its helper processes keep its output open
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("%w\n%s", err, tail(problems.String(), 20)))
	}
	return string(out)
}
