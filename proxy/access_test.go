package proxy

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/tenants"
)

const otherKey = "pmb-v1-ffeeddccbbaa99887766554433221100"

// neighbours are tenants beside will: each has a key of its own.
func neighbours(dir string) []map[string]any {
	return []map[string]any{
		{"id": "other", "api_key": otherKey, "data_dir": filepath.Join(dir, "other")},
		{"id": "off", "api_key": "key-of-off", "data_dir": filepath.Join(dir, "off"), "enabled": false, "public": map[string]any{"phexts": []string{"*"}}},
		{"id": "gone", "api_key": "key-of-gone", "data_dir": filepath.Join(dir, "gone"), "archived": true, "public": map[string]any{"phexts": []string{"*"}}},
	}
}

func public(patterns ...string) map[string]any {
	return map[string]any{"public": map[string]any{"phexts": patterns, "access": "read"}}
}

// keylessly asks without a key.
func (w *world) keylessly(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := w.request(method, target, body, headers...)
	r.Header.Del("Authorization")
	return w.serve(r)
}

// TestPublicReads has everybody read what a tenant has made public, and nothing else.
func TestPublicReads(t *testing.T) {
	dir := t.TempDir()
	for _, memory := range []int64{1 << 20, 0} {
		w := newWorld(t, options{readMemory: memory, tenant: public("site", "log-*"), others: neighbours(dir)})
		w.KeyLimit = keylimit.PerMinute(1<<20, time.Now)
		w.PublicLimit = keylimit.PerMinute(1<<20, time.Now)
		for file, text := range map[string]string{"site": "the site", "site.names": "a.name", "log-1": "a log", "blog-1": "secret", "log": "secret", "": "secret", "notes.names": "secret", "*": "secret"} {
			w.put(file+".phext", text)
		}
		const at = "?c=1.1.1/1.1.1/1.1.1&p="
		for _, test := range []struct {
			method, target string
			status         int
			want           string
		}{
			{"GET", "/will/api/v2/select" + at + "site", 200, "the site"},
			{"HEAD", "/will/api/v2/select" + at + "site", 200, "the site"}, // the server leaves the body out
			{"GET", "/t/will/select/1.1.1/1.1.1/1.1.1?phext=site", 200, "the site"},
			{"GET", "//t//will/api/v2/read/1.1.1?p=site", 200, "the site"},
			{"GET", "/will/scroll/1.1.1?p=site", 200, "the site"},
			{"GET", "/will/api/v2/select" + at + "log%2d1", 200, "a log"},
			{"GET", "/will/api/v2/select" + at + "site.names", 200, "a.name"},
			{"GET", "/will/api/v2/toc?p=site", 200, "* a.name: the site\n"},
			{"GET", "/will/api/v2/get?p=site", 200, "the site"},
			{"GET", "/will/api/v2/query?p=site&set=1.1.1/1.1.1/1.1.1", 200, `[{"coordinate":"1.1.1/1.1.1/1.1.1","scroll":"the site"}]`},
			{"GET", "/will/api/v2/list?p=site", 200, ""},
			{"GET", "/will/api/v2/list?p=*", 200, ""},
			{"GET", "/will/api/v2/search?p=*&q=e", 200, ""},
			{"GET", "/will/api/v2/read/9.9.9?p=site", 404, ""},
			{"GET", "/will/api/v2/select?c=nonsense&c=1&p=site", 401, ""},
			{"GET", "/will/api/v2/read/-?p=site", 400, ""},
			{"GET", "/will/api/v2/select" + at + "notes", 401, ""},
			{"GET", "/will/api/v2/select" + at + "notes.names", 401, ""},
			{"GET", "/will/api/v2/select" + at + "log", 401, ""},
			{"GET", "/will/api/v2/select" + at + "blog-1", 401, ""},
			{"GET", "/will/api/v2/select" + at, 401, ""},
			{"GET", "/will/api/v2/select", 401, ""},
			{"GET", "/will/api/v2/select" + at + "*", 401, ""},
			{"GET", "/will/api/v2/toc?p=*", 401, ""},
			{"GET", "/will/api/v2/select" + at + "site&p=notes", 401, ""},
			{"GET", "/will/api/v2/select" + at + "site&phext=notes", 401, ""},
			{"GET", "/will/api/v2/select" + at + "log-..%2fnotes", 401, ""},
			{"GET", "/will/api/v2/list", 401, ""},
			{"GET", "/will/api/v2/search?q=e", 401, ""},
			{"GET", "/will/api/v2/update" + at + "site&s=x", 401, ""},
			{"GET", "/will/api/v2/delete" + at + "site", 401, ""},
			{"PUT", "/will/api/v2/write/1.1.1?p=site", 401, ""},
			{"PUT", "/will/scroll/1.1.1?p=site", 401, ""},
			{"DELETE", "/will/api/v2/delete/1.1.1?p=site", 401, ""},
			{"POST", "/will/api/v2/query?p=site", 401, ""},
			{"POST", "/will/api/v2/delta?p=site", 401, ""},
			{"POST", "/will/api/v2/where", 401, ""},
			{"PROPFIND", "/will/api/v2/select" + at + "site", 401, ""},
		} {
			for who, key := range map[string]string{"nobody": "", "other": "Bearer " + otherKey} {
				r := w.request(test.method, test.target, "intruder")
				status := test.status
				if r.Header.Set("Authorization", key); key == "" {
					r.Header.Del("Authorization")
				} else if status == 401 {
					status = 403 // the key is good, and not for this
				}
				answer := w.serve(r)
				if answer.Code != status || test.want != "" && answer.Body.String() != test.want || strings.Contains(answer.Body.String(), "secret") {
					t.Errorf("--read-memory %d, %s, %s %s: %d %s", memory, who, test.method, test.target, answer.Code, answer.Body)
				}
				if answer.Header().Get("Access-Control-Allow-Origin") != "*" || (answer.Code == 401) != (answer.Header().Get("WWW-Authenticate") != "") {
					t.Errorf("%s %s: %v", test.method, test.target, answer.Header())
				}
			}
		}
		for _, target := range []string{"/api/v2/select" + at + "site", "/will/api/v2/nothing?p=site", "/will"} {
			w.wantError(w.keylessly("GET", target, ""), 401, "unauthorized")
		}
		if answer := w.ask("GET", "/will/api/v2/select"+at+"site", "", "Authorization", "Bearer wrong-key"); answer.Code != 401 {
			t.Errorf("a wrong key reads %d", answer.Code)
		}
		if all := w.keylessly("GET", "/will/api/v2/list?p=*", "").Body.String(); strings.Count(all, `"phext":`) != 2 || !strings.Contains(all, `"phext":"site"`) || !strings.Contains(all, `"phext":"log-1"`) {
			t.Errorf("all phexts are %s", all)
		}
		if n := w.Calls.Of(w.tenantNamed("will"), time.Now()).Today; n != 0 {
			t.Errorf("%d reads were counted as will's calls", n)
		}
		w.wantAllFree()
	}
}

// TestPublicReadersKeepNobodyOut of the directory: they have a part of its places.
func TestPublicReadersKeepNobodyOut(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: public("notes")})
	w.PublicLimit = keylimit.PerMinute(1<<20, time.Now)
	const target = "/api/v2/select?c=1.1.1/1.1.1/1.1.3&p=notes"
	for {
		if _, err := w.dir.Enter(publicReaders); err != nil {
			break
		}
	}
	w.wantError(w.keylessly("GET", "/will"+target, ""), 503, "unavailable")
	if answer := w.ask("GET", target, ""); answer.Code != 200 {
		t.Errorf("the owner: %d %s", answer.Code, answer.Body)
	}
}

// TestPublicSearchesLeaveTheOwnerOne of the few that run at a time.
func TestPublicSearchesLeaveTheOwnerOne(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: public("notes")})
	w.PublicLimit = keylimit.PerMinute(1<<20, time.Now)
	const target = "/api/v2/search?q=scroll&p=notes"
	for n := int64(0); ; n++ {
		if _, err := w.dir.EnterSearch(publicReaders); err != nil {
			break
		}
		if n == w.dir.Searches.Limit() {
			t.Fatal("as many may run without a key")
		}
	}
	w.wantError(w.keylessly("GET", "/will"+target, ""), 503, "UNAVAILABLE")
	if answer := w.ask("GET", target, ""); answer.Code != 200 {
		t.Errorf("the owner: %d %s", answer.Code, answer.Body)
	}
}

// TestNeighboursLeaveEachOtherASearch, and a look into the past, in a directory that they share.
func TestNeighboursLeaveEachOtherASearch(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"data_dir": dir, "shared_data_dir": true},
		others: []map[string]any{{"id": "eve", "api_key": "key-of-eve-is-long", "data_dir": dir, "shared_data_dir": true}}})
	shared := w.Dirs.Of(dir)
	for n := int64(0); ; n++ { // as eve's
		if _, err := shared.EnterSearch("eve"); err != nil {
			break
		}
		if n == shared.Searches.Limit() {
			t.Fatal("one tenant may take all")
		}
	}
	for _, target := range []string{"/api/v2/search?q=scroll&p=notes", "/api/v2/history"} {
		if answer := w.ask("GET", target, "", "Authorization", "Bearer key-of-eve-is-long"); answer.Code != 503 {
			t.Errorf("eve: %s: %d %s", target, answer.Code, answer.Body)
		}
		if answer := w.ask("GET", target, ""); answer.Code != 200 {
			t.Errorf("will: %s: %d %s", target, answer.Code, answer.Body)
		}
	}
	if answer := w.ask("POST", "/api/v2/restore", `{"phext":"notes","at":"1h"}`, "Authorization", "Bearer key-of-eve-is-long"); answer.Code != 503 {
		t.Errorf("eve: %d %s", answer.Code, answer.Body)
	}
}

// TestNobodyFindsOutIDs sends what would be a public read if there were such a tenant:
// the answers are the same, and so is the work for them.
func TestNobodyFindsOutIDs(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: public("site"), others: neighbours(t.TempDir())})
	w.KeyLimit = keylimit.PerMinute(1<<20, time.Now)
	for _, target := range []string{"/ID/api/v2/read/1.1.1?p=secret", "/t/ID/select?p=secret", "/ID/api/v2/update?p=site&s=x"} {
		answers, work := map[string]bool{}, map[float64]bool{}
		for _, id := range []string{"will", "other", "off", "gone", "nobody"} {
			target := strings.Replace(target, "ID", id, 1)
			answer := w.keylessly("GET", target, "")
			h := answer.Header()
			h.Del("X-Request-Id")
			answers[answer.Result().Status+answer.Body.String()+strings.Join(h["Www-Authenticate"], ",")+strings.Join(h["Cache-Control"], ",")] = true
			r := w.request("GET", target, "")
			r.Header.Del("Authorization")
			work[testing.AllocsPerRun(20, func() { w.serve(r) })] = true
		}
		if len(answers) != 1 || len(work) != 1 && !poolsForget {
			t.Errorf("%s: %v %v", target, answers, work)
		}
	}
}

// TestPublicReadsAreLimited by client address, and not by wrong keys.
func TestPublicReadsAreLimited(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: public("notes"), others: neighbours(t.TempDir())})
	now := time.Now()
	w.PublicLimit = keylimit.PerMinute(40, func() time.Time { return now })
	for i := range 40 {
		if answer := w.keylessly("GET", "/will"+third, ""); answer.Code != 200 {
			t.Fatalf("read %d: %d %s", i, answer.Code, answer.Body)
		}
	}
	for _, headers := range [][]string{nil, {"Authorization", "Bearer " + otherKey}} {
		r := w.request("GET", "/will"+third, "", headers...)
		if headers == nil {
			r.Header.Del("Authorization")
		}
		answer := w.serve(r)
		w.wantError(answer, 429, "rate_limited")
		if answer.Header().Get("Retry-After") != "2" {
			t.Errorf("Retry-After %s", answer.Header().Get("Retry-After"))
		}
	}
	w.wantError(w.keylessly("GET", "/will/api/v2/read/1.1.3?p=notes", ""), 429, "RATE_LIMIT_EXCEEDED")
	if answer := w.ask("GET", "/will"+third, ""); answer.Code != 200 {
		t.Errorf("will itself reads %d", answer.Code)
	}
	now = now.Add(2 * time.Second)
	if answer := w.keylessly("GET", "/will"+third, ""); answer.Code != 200 {
		t.Errorf("after the wait: %d", answer.Code)
	}
	if log := w.log.String(); !strings.Contains(log, "tenant=will public=true") {
		t.Errorf("the log does not tell public reads: %s", log)
	}
}

func (w *world) tenantNamed(id string) *tenants.Tenant {
	w.Helper()
	t, ok := w.store.Current().ByID(id)
	if !ok {
		w.Fatalf("no tenant %s", id)
	}
	return t
}

// TestWriters has another tenant's key read and write here, in the space's quota.
func TestWriters(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"writers": []string{"other", "off"}, "quota_mb": 1}, others: neighbours(t.TempDir())})
	as := func(key, method, target, body string, headers ...string) *httptest.ResponseRecorder {
		return w.ask(method, target, body, append(headers, "Authorization", "Bearer "+key)...)
	}
	for _, id := range []string{"/will", "/t/will"} {
		if answer := as(otherKey, "PUT", id+"/api/v2/write/1.1.1?p=notes", "by other"); answer.Code != 200 {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
		if answer := as(otherKey, "POST", id+"/api/v2/update?p=notes&c=will.1.1.1/1.1.1/1.1.2", "by its name"); answer.Code != 200 {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
		if answer := as(otherKey, "GET", id+third, ""); answer.Code != 200 || answer.Body.String() != "the scroll" {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
		w.wantError(as(otherKey, "POST", id+"/api/v2/update?p=notes&c=other.1.1.1/1.1.1/1.1.2", "x"), 403, "forbidden")
		w.wantError(as("key-of-off", "GET", id+third, ""), 403, "tenant_disabled")
		w.wantError(as("key-of-gone", "GET", id+third, ""), 403, "tenant_disabled")
		w.wantError(as("key-of-nobody", "GET", id+third, ""), 401, "unauthorized")
		w.wantError(w.keylessly("GET", id+third, ""), 401, "unauthorized")
	}
	w.wantError(as(key, "GET", "/other"+third, ""), 403, "forbidden") // it is not mutual
	if answer := as(otherKey, "GET", third, ""); answer.Code != 200 || answer.Body.String() != "" {
		t.Errorf("other's own is %d %s", answer.Code, answer.Body)
	}
	if answer := as(otherKey, "GET", "/will/api/v2/changes", ""); answer.Code != 200 || !strings.Contains(answer.Body.String(), `"op":"update"`) || strings.Contains(answer.Body.String(), `"key"`) {
		t.Errorf("changes, of whose keys a guest learns nothing: %d %s", answer.Code, answer.Body)
	}
	large := strings.Repeat("x", 900<<10)
	if answer := as(otherKey, "PUT", "/will/api/v2/write/1.1.4?p=notes", large); answer.Code != 200 {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	w.wantError(as(otherKey, "PUT", "/will/api/v2/write/1.1.5?p=notes", large), 507, "QUOTA_EXCEEDED")
	if will, other := w.Calls.Of(w.tenantNamed("will"), time.Now()).Today, w.Calls.Of(w.tenantNamed("other"), time.Now()).Today; will != 1 || other == 0 {
		t.Errorf("%d calls of will and %d of other", will, other)
	}
	if log := w.log.String(); !strings.Contains(log, "tenant=will caller=other op=write") {
		t.Errorf("the log does not name the caller: %s", log)
	}
	w.setTenant(nil, neighbours(t.TempDir())...)
	w.check(w.store.Reload())
	w.wantError(as(otherKey, "GET", "/will"+third, ""), 403, "forbidden")
	w.wantError(as(otherKey, "POST", "/will/api/v2/update?p=notes", "x"), 403, "forbidden")
	w.wantAllFree()
}

// TestAGuestIsToldNoFigures of the space, neither by an answer nor by a refusal.
func TestAGuestIsToldNoFigures(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"writers": []string{"other"}, "quota_mb": 1, "max_phexts": 2}, others: neighbours(t.TempDir())})
	w.put("other.phext", strings.Repeat("x", 1000<<10))
	large := strings.Repeat("x", 100<<10)
	batch := func(text string) string { return `{"operations":[{"op":"update","c":"1.1.1","s":"` + text + `"}]}` }
	for _, test := range []struct {
		method, target, body, figure string // figure stands in the refusal, as the tenant itself is told it
	}{
		{"POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "x", ""},
		{"POST", "/api/v2/insert?p=notes&c=1.1.1/1.1.1/1.1.1", "x", ""},
		{"POST", "/api/v2/delete?p=notes&c=1.1.1/1.1.1/1.1.1", "", ""},
		{"POST", "/api/v2/batch?p=notes", batch("x"), ""},
		{"PUT", "/api/v2/write/1.1.1?p=notes", "x", ""},
		{"POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", large, "the quota is 1048576 bytes"},
		{"POST", "/api/v2/insert?p=notes&c=1.1.1/1.1.1/1.1.1", large, "the quota is 1048576 bytes"},
		{"POST", "/api/v2/batch?p=notes", batch(large), "the quota is 1048576 bytes"},
		{"PUT", "/api/v2/write/1.1.1?p=notes", large, "the quota is 1048576 bytes"},
		{"POST", "/api/v2/update?p=new&c=1.1.1/1.1.1/1.1.1", "x", "the tenant has 2 phexts"},
		{"POST", "/api/v2/update?p=new&c=a.name", "x", "the tenant has 2 phexts"},
		{"PUT", "/api/v2/write/1.1.1?p=new", "x", "the tenant has 2 phexts"},
	} {
		for _, isGuest := range []bool{false, true} {
			bearer, path := key, ""
			if isGuest {
				bearer, path = otherKey, "/will"
			}
			answer := w.ask(test.method, path+test.target, test.body, "Authorization", "Bearer "+bearer)
			used, status := answer.Header().Get("X-SQ-Quota-Used"), 200
			if test.figure != "" {
				status = 507
			}
			told := used != ""
			if status == 507 {
				told = strings.Contains(answer.Body.String(), test.figure)
			}
			if answer.Code != status || told == isGuest || isGuest && strings.Contains(answer.Body.String(), "phexts") {
				t.Errorf("%s %s, guest: %v: %d %s %q", test.method, test.target, isGuest, answer.Code, answer.Body, used)
			}
		}
	}
	const last = "999.999.999/999.999.999/999.999.999"
	if answer := w.ask("POST", "/api/v2/update?p=notes&c="+last, "x", "Authorization", "Bearer "+key); answer.Code != 200 {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	if answer := w.ask("POST", "/will/api/v2/update?p=notes&c=a.name", "x", "Authorization", "Bearer "+otherKey); answer.Code != 507 || !strings.Contains(answer.Body.String(), last) {
		t.Errorf("a refusal that has no figures: %d %s", answer.Code, answer.Body)
	}
	w.wantAllFree()
}
