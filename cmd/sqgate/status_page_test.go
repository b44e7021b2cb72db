package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// press clicks the button with a label that can be seen, in the dialog if one is open.
const press = `(label => {
  const within = document.querySelector("dialog[open]") ?? document;
  const found = [...within.querySelectorAll("button")].find(b => (b.getAttribute("aria-label") ?? b.textContent) === label && b.checkVisibility() && !b.disabled);
  if (!found) return false;
  found.click();
  return true;
})`

func (c *chromium) press(label string) {
	c.t.Helper()
	c.await(press + "(" + js(label) + ")")
}

// fill sets the value of a field, as typing does.
func (c *chromium) fill(id, value string) {
	c.t.Helper()
	c.await(fmt.Sprintf(`(e => !!e && e.checkVisibility() && (e.value = %s, e.dispatchEvent(new Event("input", {bubbles: true})), true))(document.getElementById(%s))`, js(value), js(id)))
}

func (c *chromium) login(g *gate, key string) {
	c.t.Helper()
	c.await(`document.readyState === "complete" && location.href === ` + js(g.url+"/status"))
	c.fill("key", key)
	c.press("Open")
}

const hostile = `<img src=x onerror="document.title='broken'">'"&</script>`

// TestStatusPage works with the status page in Chromium as an operator does. It needs
// CHROMIUM, which .ci/browser sets. AXE is the path of axe-core, and SQTEST_PICTURES a
// directory for pictures.
func TestStatusPage(t *testing.T) {
	path := os.Getenv("CHROMIUM")
	if path == "" {
		t.Skip("NO BROWSER: CHROMIUM is not set; .ci/browser installs one and sets it")
	}
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will")
		g.set("will", "admin_email", hostile)
		g.writeFile()
		g.start()
		c := startChromium(t, path)
		c.send("Page.navigate", map[string]any{"url": g.url + "/status"}, nil)
		c.view(1280, 900, "light")

		c.login(g, "a-wrong-key")
		c.await(`document.getElementById("login-error").textContent === "That is not the management key."`)
		c.login(g, adminKey)
		c.await(`document.getElementById("live").textContent === "Live"`)
		c.await(`!!document.querySelector("[data-tenant=will]")`)
		if got := c.must(`document.querySelector("[data-tenant=will] .mail").textContent`); got != hostile {
			t.Errorf("the email is shown as %q", got)
		}

		for _, part := range []struct {
			name string
			run  func(*chromium, *testing.T, *gate)
		}{{"live", (*chromium).seesCalls}, {"actions", (*chromium).acts}, {"hostile", (*chromium).survives}, {"thousands", (*chromium).showsThousands}, {"secrets", (*chromium).keepsTheKey}, {"axe", (*chromium).accessible}} {
			t.Run(part.name, func(t *testing.T) {
				c.t = t
				part.run(c, t, g)
			})
		}
		c.t = t
		t.Run("shutdown", func(t *testing.T) {
			begin := time.Now()
			g.stop()
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v to stop while somebody looks", took)
			}
			c.await(`document.getElementById("live").textContent === "Reconnecting…"`)
		})
	})
}

func (c *chromium) seesCalls(t *testing.T, g *gate) {
	for range 3 {
		g.must("will", "POST", at("update", "notes", origin), "hello", 200)
	}
	g.must("will", "GET", at("select", "notes", "nonsense.1"), "", 404)
	c.await(`document.querySelector("[data-tenant=will] .recent").textContent === "4 calls1 error"`)
	c.await(`document.querySelector("[data-tenant=will] .use").textContent.startsWith("5 B")`)
	c.await(`document.querySelector("[data-tenant=will] .state").textContent === "ready"`)
}

func (c *chromium) acts(t *testing.T, g *gate) {
	c.press("Add tenant")
	c.fill("add-id", "Not An Id")
	c.press("Add")
	c.await(`document.getElementById("dialog-error").textContent.includes("tenant_id")`)
	c.fill("add-id", "acme")
	c.fill("add-quota", "1")
	c.press("Add")
	c.await(`!!document.getElementById("new-key")`)
	key := c.must(`document.getElementById("new-key").value`)
	c.press("Done")
	if text := c.must(`document.documentElement.innerHTML.includes(` + js(key) + `)`); text != "false" {
		t.Error("the new key stays in the document")
	}
	expect := func(key string, status int) {
		t.Helper()
		if r, err := g.doKey(key, "GET", at("select", "n", origin)); err != nil || r.status != status {
			t.Errorf("%v %d %s, want %d", err, r.status, r.body, status)
		}
	}
	expect(key, 200)
	if r, err := g.doKey(key, "GET", "/api/v2/update?p=n&c="+origin+"&s=kept"); err != nil || r.status != 200 {
		t.Fatalf("%v %d %s", err, r.status, r.body)
	}

	c.press("Manage acme")
	c.press("Disable…")
	c.press("Disable")
	c.await(`document.querySelector("[data-tenant=acme] .badge").textContent === "disabled"`)
	expect(key, 403)
	c.press("Manage acme")
	c.press("Enable…")
	c.press("Enable")
	c.await(`document.querySelector("[data-tenant=acme] .badge").textContent === "active"`)
	expect(key, 200)

	c.press("Manage acme")
	c.press("Rotate key…")
	c.fill("overlap", "0s")
	c.press("Rotate")
	c.await(`!!document.getElementById("new-key")`)
	old := key
	key = c.must(`document.getElementById("new-key").value`)
	c.press("Done")
	expect(old, 401)
	expect(key, 200)

	c.press("Manage acme")
	c.press("Change quota…")
	c.fill("quota", "7")
	c.press("Change")
	c.await(`document.querySelector("[data-tenant=acme] .use").textContent.includes("of 7.0 MB")`)

	c.press("Manage acme")
	c.press("Delete…")
	c.press("Delete")
	c.await(`!document.querySelector("[data-tenant=acme]")`)
	expect(key, 403)
	c.fill("show", "archived")
	c.press("Manage acme")
	c.press("Restore…")
	c.press("Restore")
	c.fill("show", "present")
	c.await(`document.querySelector("[data-tenant=acme] .badge").textContent === "active"`)
	if r, err := g.doKey(key, "GET", at("select", "n", origin)); err != nil || r.body != "kept" {
		t.Errorf("%v %d %s", err, r.status, r.body)
	}

	before := g.get("will", at("select", "notes", origin))
	moment := time.Now().UTC().Format(time.RFC3339Nano)
	g.must("will", "POST", at("update", "notes", origin), "by mistake", 200)
	c.press("Manage will")
	c.press("Restore…")
	c.fill("at", moment)
	c.press("See what would change")
	c.await(`document.querySelector("dialog pre")?.textContent.includes("notes")`)
	c.press("Restore")
	c.await(`!document.querySelector("dialog[open]")`)
	if got := g.get("will", at("select", "notes", origin)); got != before {
		t.Errorf("restored to %q, want %q", got, before)
	}
	c.await(`document.getElementById("audit").textContent.includes("rotate-key")`)
}

// showsThousands pages, filters and sorts a long table.
func (c *chromium) showsThousands(t *testing.T, g *gate) {
	for i := range 3000 {
		g.addTenant(fmt.Sprintf("many-%04d", i))
	}
	g.writeFile()
	shown := func(text, first string) {
		t.Helper()
		c.await(`document.getElementById("shown").textContent === ` + js(text) + ` && document.querySelector("#rows tr").dataset.tenant === ` + js(first))
	}
	shown("1 to 50 of 3,001 tenants", "many-0000")
	c.press("Next")
	shown("51 to 100 of 3,001 tenants", "many-0050")
	c.press("Tenant")
	shown("1 to 50 of 3,001 tenants", "will")
	c.fill("filter", "many-29")
	shown("1 to 50 of 100 tenants", "many-2999")
	c.fill("filter", "<IMG")
	shown("1 to 1 of 1 tenant", "will")
	c.fill("filter", "")
	c.press("Use of quota")
	c.press("Tenant")
	shown("1 to 50 of 3,001 tenants", "many-0000")
	c.press("Tenant")
	if rows := c.must(`document.querySelectorAll("#rows tr").length`); rows != "50" {
		t.Errorf("%s rows are in the document", rows)
	}
}

// survives shows names and a tenants file that hold HTML.
func (c *chromium) survives(t *testing.T, g *gate) {
	text, err := os.ReadFile(g.configPath())
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(text), `"will"`, js(hostile), 1)
	if err := os.WriteFile(g.configPath(), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	c.await(`document.getElementById("alerts").textContent.startsWith("The tenants file was refused")`)
	if err := os.WriteFile(g.configPath(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	c.await(`!document.getElementById("alerts").textContent.includes("tenants file")`) // a disk may be nearly full
	audit, err := os.OpenFile(filepath.Join(g.dir, "state", "audit.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	line, _ := json.Marshal(map[string]any{"time": time.Now().UTC(), "from": hostile, "what": hostile, "tenant": hostile, "after": map[string]string{"phext": hostile}}) // it can be
	if _, err := audit.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	if err := audit.Close(); err != nil {
		t.Fatal(err)
	}
	c.await(`document.getElementById("audit").textContent.includes("onerror")`)
	if got := c.must(`document.querySelectorAll("img").length + document.title`); got != "0sqgate status" {
		t.Errorf("HTML was parsed: %s", got)
	}
}

// keepsTheKey looks for the key wherever a page can leave one, and for requests to others.
func (c *chromium) keepsTheKey(t *testing.T, g *gate) {
	where := c.must(`(async () => JSON.stringify([location.href, document.cookie, {...localStorage}, {...sessionStorage}, await indexedDB.databases(),
		await caches.keys(), history.state, document.documentElement.outerHTML, [...document.querySelectorAll("input")].map(i => i.value)]))()`)
	if strings.Contains(where, adminKey) {
		t.Errorf("the key is in the page: %s", where)
	}
	for _, request := range c.seen("Network.requestWillBeSent") {
		var r struct{ Request struct{ URL string } }
		if err := json.Unmarshal([]byte(request), &r); err != nil {
			t.Fatal(err)
		}
		if url := r.Request.URL; !strings.HasPrefix(url, g.url+"/") && !strings.HasPrefix(url, "data:") && url != "about:blank" || strings.Contains(url, adminKey) {
			t.Errorf("the page asked for %s", url)
		}
	}
	for _, kind := range []string{"Audits.issueAdded", "Runtime.exceptionThrown"} {
		for _, problem := range c.seen(kind) {
			if strings.Contains(problem, `"DocumentCookie"`) { // our own look for cookies takes time
				continue
			}
			t.Errorf("%s: %.600s", kind, problem)
		}
	}
	for _, entry := range c.seen("Log.entryAdded") {
		if !strings.Contains(entry, "401") && !strings.Contains(entry, "400") { // the wrong key, and the wrong id
			t.Errorf("the browser complains: %.600s", entry)
		}
	}
	if strings.Contains(g.log.String(), adminKey) {
		t.Error("the key is in the log")
	}
	c.must(`document.getElementById("lock").click()`)
	if got := c.must(`key + tenants.size + document.getElementById("rows").children.length + document.getElementById("login").hidden`); got != "00false" {
		t.Errorf("after locking: %s", got)
	}
	c.login(g, adminKey)
	c.await(`document.getElementById("live").textContent === "Live"`)
}

// accessible runs axe-core and looks for a page that scrolls sideways.
func (c *chromium) accessible(t *testing.T, g *gate) {
	axe, err := os.ReadFile(os.Getenv("AXE"))
	if err != nil {
		t.Skip("AXE is not the path of axe-core; .ci/browser installs it and sets AXE")
	}
	c.must(string(axe) + ";1")
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1280, 375} {
			c.view(width, 900, scheme)
			c.check(t, fmt.Sprint(scheme, " ", width))
			c.press("Manage will")
			c.await(`document.querySelector("dialog pre").textContent !== "…"`)
			c.check(t, fmt.Sprint(scheme, " ", width, " with a dialog"))
			c.press("Close")
		}
	}
	c.must(`document.getElementById("lock").click()`)
	c.check(t, "login")
	c.login(g, adminKey)
	c.await(`document.getElementById("live").textContent === "Live"`)
}

func (c *chromium) check(t *testing.T, name string) {
	t.Helper()
	if got := c.must(`document.documentElement.scrollWidth - innerWidth`); got != "0" {
		t.Errorf("%s: the page is %s pixels wider than the window", name, got)
	}
	got := c.must(`(async () => {
		await Promise.all(document.getAnimations().map(a => a.finished));
		const found = await axe.run();
		if (found.passes.length < 10) return "axe looked at nothing";
		return found.violations.map(v => v.id + ": " + v.nodes.map(n => n.html + " " + n.failureSummary).join("; ")).join("\n");
	})()`)
	if got != "" {
		t.Errorf("%s: %s", name, got)
	}
}

// TestStatusPagePictures makes the pictures in docs, if SQTEST_PICTURES names the
// directory for them.
func TestStatusPagePictures(t *testing.T) {
	path, dir := os.Getenv("CHROMIUM"), os.Getenv("SQTEST_PICTURES")
	if path == "" || dir == "" {
		t.Skip("NO PICTURES: CHROMIUM and SQTEST_PICTURES are not set")
	}
	sizes := map[string]int{"acme": 912, "aurora": 310, "birch": 655, "cobalt": 1010, "delta-lab": 120, "ember": 470, "fjord": 33, "grove": 0}
	g := newGate(t, builtin)
	for _, id := range []string{"acme", "aurora", "birch", "cobalt", "delta-lab", "ember", "fjord", "grove"} {
		g.addTenant(id)
		g.set(id, "quota_mb", 1)
		g.set(id, "admin_email", "ops@"+id+".example")
	}
	g.set("fjord", "quota_mb", 0)
	g.writeFile()
	g.start()
	c := startChromium(t, path)
	c.send("Page.navigate", map[string]any{"url": g.url + "/status"}, nil)
	c.view(1280, 1000, "light")
	c.login(g, adminKey)
	c.await(`document.getElementById("live").textContent === "Live"`)
	for id, kilobytes := range sizes {
		if kilobytes > 0 {
			g.must(id, "POST", at("update", "notes", origin), strings.Repeat("a", kilobytes<<10), 200)
		}
	}
	g.manage("PATCH", "tenants/ember", `{"enabled": false}`, 200)
	g.manage("POST", "tenants/acme/rotate-key", `{"overlap": "24h"}`, 200)
	g.add("harbor", 50)
	begin := time.Now()
	for i := 0; time.Since(begin) < 75*time.Second; i++ { // something for the lines to show
		for n, id := range []string{"aurora", "birch", "cobalt", "delta-lab", "fjord"} {
			if (i+7*n)%(3+2*n) < 2 {
				g.must(id, "GET", at("select", "notes", origin), "", 200)
			}
			if i%37 == 5*n {
				_, _ = g.do(id, "GET", "/api/v2/select?p=notes&c=x.1", "") // an error
			}
		}
		<-time.After(time.Duration(20+15*(i%60)/10) * time.Millisecond)
	}
	c.must(`document.activeElement.blur()`)
	for _, p := range []struct {
		name          string
		width, height int
		scheme        string
	}{{"status-light", 1120, 800, "light"}, {"status-dark", 1120, 800, "dark"}, {"status-narrow", 375, 1000, "light"}} {
		c.view(p.width, p.height, p.scheme)
		c.must(`new Promise(done => requestAnimationFrame(() => setTimeout(done, 600)))`)
		c.picture(filepath.Join(dir, p.name+".png"))
	}
	c.view(1120, 800, "light")
	c.press("Manage birch")
	c.await(`document.querySelector("dialog pre").textContent !== "…"`)
	c.picture(filepath.Join(dir, "status-manage.png"))
}

// TestStatusPageWithoutKey sees that the page is for everybody and says nothing, and
// that with a key, the path is the tenants'.
func TestStatusPageWithoutKey(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	page := g.must("", "GET", "/status", "", 200)
	if !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") || strings.Contains(page.body, "will\"") || page.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v %q", page.header, page.body)
	}
	policy := page.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; script-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
	for _, outside := range []string{"http:", "https:", "src=", "@import", "url("} {
		if strings.Contains(strings.ReplaceAll(page.body, "http://www.w3.org/2000/svg", ""), outside) {
			t.Errorf("the page has %s", outside)
		}
	}
	if r := g.must("will", "GET", "/status", "", 200); !strings.HasPrefix(r.body, "Hosting: ") {
		t.Errorf("with a tenant's key: %q", r.body)
	}
	g.must("", "GET", "/status?p=notes", "", 401)
	g.must("", "GET", "/will/status", "", 401)
	if r := g.manageRaw("", "GET", "events", ""); r.status != http.StatusUnauthorized {
		t.Errorf("events without a key: %d", r.status)
	}
	once := g.manageRaw(adminKey, "GET", "events?once=true", "")
	if once.status != 200 || !strings.HasPrefix(once.body, "data: {") || !strings.Contains(once.body, `"tenant_id":"will"`) || strings.Contains(once.body, g.key("will")) {
		t.Errorf("%d %q", once.status, once.body)
	}
}
