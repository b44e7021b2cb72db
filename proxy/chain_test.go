package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCommonHeaders are on every answer, whatever it is.
func TestCommonHeaders(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	for name, r := range map[string]*http.Request{
		"a scroll":     w.request("GET", "/api/v2/select?p=notes", ""),
		"an error":     w.request("GET", "/api/v2/nothing", ""),
		"no key":       httptest.NewRequest("GET", "/api/v2/toc", nil),
		"health":       httptest.NewRequest("GET", "/health", nil),
		"a preflight":  httptest.NewRequest("OPTIONS", "/api/v2/toc", nil),
		"version":      w.request("GET", "/api/v2/version", ""),
		"another path": httptest.NewRequest("GET", "/", nil),
	} {
		answer := w.serve(r)
		h := answer.Header()
		for header, want := range map[string]string{
			"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Access-Control-Expose-Headers": "ETag, Retry-After, X-Request-Id, X-SQ-Backend, X-SQ-Cursor, X-SQ-Quota-Used",
		} {
			if got := h.Values(header); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s is %q", name, header, got)
			}
		}
		if id := h.Get("X-Request-Id"); !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(id) || !strings.Contains(w.log.String(), id) {
			t.Errorf("%s: X-Request-Id is %q", name, id)
		}
		if c := h.Get("Cache-Control"); c != "no-store" && name != "a scroll" {
			t.Errorf("%s: Cache-Control %q", name, c)
		}
	}
}

func TestPreflight(t *testing.T) {
	w := newWorld(t, options{})
	answer := w.serve(httptest.NewRequest("OPTIONS", "/api/v2/update", nil))
	h := answer.Header()
	if answer.Code != 204 || h.Get("Content-Type") != "" || h.Get("Access-Control-Max-Age") != "86400" ||
		h.Get("Access-Control-Allow-Methods") != "GET, HEAD, POST, PUT, DELETE, OPTIONS" ||
		h.Get("Access-Control-Allow-Headers") != "Authorization, Content-Type, X-SQ-API-Key, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID, Mcp-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name" {
		t.Errorf("%d %v", answer.Code, h)
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t, options{})
	ask := func(method string) *httptest.ResponseRecorder {
		return w.serve(httptest.NewRequest(method, "/health", nil))
	}
	for _, method := range []string{"GET", "HEAD"} {
		if a := ask(method); a.Code != 200 || a.Body.String() != `{"status":"ok","tenants":1}`+"\n" {
			t.Errorf("%s: %d %s", method, a.Code, a.Body)
		}
	}
	w.wantError(ask("POST"), 405, "method_not_allowed")
	w.SetDraining(true)
	if a := ask("GET"); a.Code != 503 || a.Header().Get("Retry-After") != "1" || a.Body.String() != `{"status":"draining","tenants":1}`+"\n" {
		t.Errorf("%d %v %s", a.Code, a.Header(), a.Body)
	}
	if a := w.ask("GET", "/api/v2/toc?p=notes", ""); a.Code != 200 {
		t.Errorf("requests in flight are refused: %d", a.Code)
	}
}

func TestAdminIsHandedOn(t *testing.T) {
	w := newWorld(t, options{})
	w.Admin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for path, handed := range map[string]bool{
		"/api/v2/admin": true, "/api/v2/admin/tenants": true, "/api/v2/metrics": true,
		"/api/v2/administrator": false, "/api/v2/metrics/x": false, "/api/v2/toc": false, "/k/" + pathKey + "/api/v2/admin/tenants": false,
	} {
		if got := w.ask("GET", path, "").Code == http.StatusTeapot; got != handed {
			t.Errorf("%s: %v", path, got)
		}
		if Plain(path) == handed {
			t.Errorf("%s: plain %v", path, !handed)
		}
	}
	w.Admin = nil
	w.wantError(w.ask("GET", "/api/v2/admin/tenants", ""), 404, "not_found")
}

func TestAuthentication(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	const target = "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.3"
	for _, test := range []struct {
		name   string
		target string
		header http.Header
		ok     bool
	}{
		{"in Authorization", target, http.Header{"Authorization": {"Bearer " + key}}, true},
		{"in X-SQ-API-Key", target, http.Header{"X-Sq-Api-Key": {key}}, true},
		{"in the path", "/k/" + pathKey + target, nil, true},
		{"none", target, nil, false},
		{"a wrong one", target, http.Header{"Authorization": {"Bearer " + key + "0"}}, false},
		{"a wrong one in the path", "/k/" + pathKey + "0" + target, nil, false},
		{"the key in the path", "/k/" + key + target, nil, false},
		{"the path key in a header", target, http.Header{"Authorization": {"Bearer " + pathKey}}, false},
		{"a wrong header, the right path", "/k/" + pathKey + target, http.Header{"Authorization": {"Bearer wrong"}}, false},
		{"an empty header, the right path", "/k/" + pathKey + target, http.Header{"Authorization": {""}}, false},
		{"a wrong Authorization, the right other header", target, http.Header{"Authorization": {"wrong"}, "X-Sq-Api-Key": {key}}, false},
		{"two values", target, http.Header{"Authorization": {"Bearer " + key, "Bearer " + key}}, false},
	} {
		r := httptest.NewRequest("GET", test.target, nil)
		r.Header = test.header
		answer := w.serve(r)
		if test.ok {
			if answer.Code != 200 || answer.Body.String() != "the scroll" {
				t.Errorf("%s: %d %s", test.name, answer.Code, answer.Body)
			}
			continue
		}
		w.wantError(answer, 401, "unauthorized")
		if answer.Header().Get("WWW-Authenticate") != `Bearer realm="sqgate"` {
			t.Errorf("%s: %v", test.name, answer.Header())
		}
	}
}

func TestADisabledTenant(t *testing.T) {
	w := newWorld(t, options{tenant: map[string]any{"enabled": false}})
	w.wantError(w.ask("GET", "/api/v2/toc", ""), 403, "tenant_disabled")
	w.wantError(w.ask("GET", "/api/v2/toc", "", "Authorization", "Bearer wrong"), 401, "unauthorized")
}

// TestWrongKeysAreSlowedDown, and the right one is not.
func TestWrongKeysAreSlowedDown(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	for range 1000 {
		answer := w.ask("GET", "/api/v2/toc", "", "Authorization", "Bearer wrong")
		if answer.Code == 401 {
			continue
		}
		w.wantError(answer, 429, "rate_limited")
		if answer.Header().Get("Retry-After") == "" || answer.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%v", answer.Header())
		}
		if answer := w.ask("GET", "/api/v2/toc", ""); answer.Code != 200 {
			t.Errorf("with the right key: %d", answer.Code)
		}
		return
	}
	t.Error("nobody slows them down")
}

func TestCallLimits(t *testing.T) {
	w := newWorld(t, options{tenant: map[string]any{"calls_per_day": 2}})
	for range 2 {
		if answer := w.ask("GET", "/api/v2/toc", ""); answer.Code != 200 {
			t.Fatalf("%d %s", answer.Code, answer.Body)
		}
	}
	answer := w.ask("GET", "/api/v2/toc", "")
	w.wantError(answer, 429, "rate_limited")
	if answer.Header().Get("Retry-After") == "" {
		t.Errorf("%v", answer.Header())
	}
}

// requestLine is the last line of the access log.
func (w *world) requestLine() string {
	w.Helper()
	all := strings.Split(strings.TrimSpace(w.log.String()), "\n")
	last := all[len(all)-1]
	if !strings.Contains(last, "msg="+RequestLine+" ") {
		w.Errorf("the last line of the log is no request's: %s", last)
	}
	return last
}

func TestAccessLog(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	for _, test := range []struct {
		name     string
		request  *http.Request
		want     string // at the end of the line; a number of bytes is *, a duration too
		observed string
	}{
		{"a read", w.request("GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.3", ""),
			"remote=192.0.2.1 method=GET status=200 bytes=10 duration=* tenant=will op=select", "will|select|OK|"},
		{"a write", w.request("POST", "/k/"+pathKey+"/api/v2/update?p=secretname&c=1.1.1/1.1.1/1.1.1", "secrettext"),
			"remote=192.0.2.1 method=POST status=200 bytes=16 duration=* tenant=will op=update", "will|update|OK|"},
		{"a wrong key", w.request("GET", "/k/secretkey/api/v2/toc?p=secretname", "", "Authorization", "Bearer secretkey"),
			"remote=192.0.2.1 method=GET status=401 bytes=* duration=* code=unauthorized", "||Unauthorized|unauthorized"},
		{"no operation", w.request("GET", "/api/v2/secretop", ""),
			"remote=192.0.2.1 method=GET status=404 bytes=* duration=* tenant=will code=not_found", "will||Not Found|not_found"},
		{"a wrong parameter", w.request("GET", "/api/v2/select?p=secretname/x", ""),
			"remote=192.0.2.1 method=GET status=403 bytes=* duration=* tenant=will op=select code=forbidden", "will|select|Forbidden|forbidden"},
		{"a method of the client's own", w.request("SECRETMETHOD", "/api/v2/toc", ""),
			"remote=192.0.2.1 method=other status=405 bytes=* duration=* tenant=will code=method_not_allowed", "will||Method Not Allowed|method_not_allowed"},
		{"health", httptest.NewRequest("GET", "/health?secretkey", nil),
			"remote=192.0.2.1 method=GET status=200 bytes=28 duration=*", "||OK|"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.observed = nil
			answer := w.serve(test.request)
			line := w.requestLine()
			if !strings.Contains(line, " request="+answer.Header().Get("X-Request-Id")+" ") {
				t.Errorf("it has another id: %s", line)
			}
			pattern := strings.ReplaceAll(regexp.QuoteMeta(test.want), `bytes=\*`, `bytes=\d+`)
			pattern = strings.ReplaceAll(pattern, `duration=\*`, `duration=[0-9.]+[µm]?s`)
			if !regexp.MustCompile(` level=(INFO|DEBUG) msg=request request=[0-9a-f]{16} ` + pattern + `$`).MatchString(line) {
				t.Errorf("%s, want %s", line, test.want)
			}
			if !slices.Equal(w.observed, []string{test.observed}) {
				t.Errorf("observed %q, want %q", w.observed, test.observed)
			}
		})
	}
	for _, secret := range []string{key, pathKey, "secret", "scroll", "1.1.1", "/api"} {
		if log := w.log.String(); strings.Contains(strings.ToLower(log), secret) {
			t.Errorf("the log holds %q: %s", secret, log)
		}
	}
}

// TestProbesAreNotLogged at the level of other requests, unless they find something.
func TestProbesAreNotLogged(t *testing.T) {
	w := newWorld(t, options{})
	w.Logger = w.Logger.With("x", "y")
	for target, level := range map[string]string{"/health": "DEBUG", "/version": "INFO", "/api/v2/health": "DEBUG"} {
		w.serve(httptest.NewRequest("GET", target, nil))
		if line := w.requestLine(); !strings.Contains(line, "level="+level) || !strings.Contains(line, "x=y") {
			t.Errorf("%s: %s", target, line)
		}
	}
	w.serve(httptest.NewRequest("POST", "/health", nil))
	if line := w.requestLine(); !strings.Contains(line, "level=INFO") {
		t.Errorf("a probe that fails: %s", line)
	}
}

// TestARequestOutlivesItsClient: a client that has closed its sending side still
// wants its answer.
func TestARequestOutlivesItsClient(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if answer := w.serve(w.request("GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.3", "").WithContext(ctx)); answer.Code != 200 || answer.Body.String() != "the scroll" {
		t.Errorf("a read: %d %s", answer.Code, answer.Body)
	}
	if answer := w.serve(w.request("POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.3", "written").WithContext(ctx)); answer.Code != 200 {
		t.Errorf("a write: %d %s", answer.Code, answer.Body)
	}
	w.wantAllFree()
}

// TestRequestInfo is what the handlers find in the context, with all else that was in it.
func TestRequestInfo(t *testing.T) {
	type other struct{}
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w := newWorld(t, options{})
	w.now = func() time.Time { began = began.Add(time.Second); return began }
	h := w.withAccessLog(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		info := infoOf(r)
		if info.path != "/api/v2/toc" || info.began != began || r.Context().Value(other{}) != "kept" || r.Context().Err() != nil || r.Context().Done() != nil {
			t.Errorf("%+v", info)
		}
		if err := http.NewResponseController(answer).SetWriteDeadline(began); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("a recorder has no deadlines: %v", err)
		}
		answer.WriteHeader(http.StatusTeapot)
		answer.WriteHeader(http.StatusOK) // the first counts
		_, _ = answer.Write([]byte("ab"))
		_, _ = answer.Write([]byte("c"))
	}))
	r := httptest.NewRequest("GET", "/k/"+pathKey+"/api/v2/toc", nil)
	h.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithValue(r.Context(), other{}, "kept")))
	if line := w.requestLine(); !strings.Contains(line, "status=418 bytes=3 duration=1s") {
		t.Error(line)
	}
}

// TestAReloadCountsAtOnce.
func TestAReloadCountsAtOnce(t *testing.T) {
	w := newWorld(t, options{})
	w.setTenant(map[string]any{"api_key": strings.Replace(key, "v1-0011", "v1-9911", 1)})
	w.check(w.store.Reload())
	w.wantError(w.ask("GET", "/api/v2/toc", ""), 401, "unauthorized")
	w.check(os.Remove(filepath.Join(w.root, "tenants.json")))
	_ = w.store.Reload() // fails: the last good state stands
	if answer := w.ask("GET", "/api/v2/toc", "", "Authorization", "Bearer "+strings.Replace(key, "v1-0011", "v1-9911", 1)); answer.Code != 200 {
		t.Errorf("%d", answer.Code)
	}
}
