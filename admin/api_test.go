package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

const (
	managementKey = "a-management-key"
	tenantKey     = "key-of-tenant-a"
)

// openStore opens a tenants file with the tenant a.
func openStore(t *testing.T, dir string) *tenants.Store {
	t.Helper()
	config := filepath.Join(dir, "tenants.json")
	if err := os.WriteFile(config, []byte(`{"tenants": [{"id": "a", "api_key": "`+tenantKey+`", "data_dir": "`+dir+`/a", "quota_mb": 1}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := tenants.Open(tenants.Options{Path: config, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func newSupervisor(t *testing.T, dir string) *supervisor.Supervisor {
	t.Helper()
	children, err := supervisor.New(supervisor.Config{Command: []string{"/bin/true"}, WorkDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return children
}

// newAPI makes an API whose clock stands still.
func newAPI(t *testing.T) *API {
	t.Helper()
	dir := t.TempDir()
	store, children := openStore(t, dir), newSupervisor(t, dir)
	ledger := quota.NewLedger(store.Current, slog.Default())
	journals, err := journal.New(journal.Config{Dir: filepath.Join(dir, "journal"), Quarantine: filepath.Join(dir, "quarantine")})
	if err != nil {
		t.Fatal(err)
	}
	dirs := datadir.New(datadir.Config{Tenants: store.Current, Journal: journals, StopChild: children.Clear, MarkDir: filepath.Join(dir, "directories"), MaxBody: 1 << 20, Logger: slog.Default()})
	a, err := New(Config{
		Key: managementKey, KeyLimit: keylimit.New(func() time.Time { return noon }), Store: store,
		Ledger: ledger, Dirs: dirs, History: &history.Service{Dirs: dirs, Ledger: ledger}, Calls: quota.OpenCalls("", slog.Default()),
		Children: children, Leaving: func(string) bool { return false }, Metrics: http.NotFoundHandler(), Counts: NewMetrics("test", store), JournalDir: filepath.Join(dir, "journal"), DataRoot: dir,
		ArchiveDir: filepath.Join(dir, "archives"), AuditFile: filepath.Join(dir, "audit.log"), Logger: slog.Default(), BucketStatus: func() *BucketStatus { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.Close(), journals.Close()); err != nil {
			t.Error(err)
		}
	})
	a.now = func() time.Time { return noon }
	return a
}

func call(a *API, key, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

// TestADirectoryThatCannotBeRead hides no tenant from the list.
func TestADirectoryThatCannotBeRead(t *testing.T) {
	a := newAPI(t)
	if err := os.WriteFile(filepath.Join(a.DataRoot, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := call(a, managementKey, "GET", "/api/v2/admin/tenants", "")
	var list struct {
		Tenants []struct {
			ID    string `json:"tenant_id"`
			Error string
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 || len(list.Tenants) != 1 || !strings.Contains(list.Tenants[0].Error, `directory of tenant "a"`) {
		t.Errorf("%v, %d %s", err, w.Code, w.Body)
	}
}

func TestManagementKey(t *testing.T) {
	a := newAPI(t)
	const path = "/api/v2/admin/tenants"
	for _, test := range []struct {
		name, key string
		status    int
		code      string
	}{
		{"none", "", 401, "unauthorized"},
		{"wrong", "wrong", 401, "unauthorized"},
		{"a tenant's", tenantKey, 403, "forbidden"},
		{"right", managementKey, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := call(a, test.key, "GET", path, "")
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.code) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if asked := w.Header().Get("WWW-Authenticate") != ""; asked != (test.status == 401) {
				t.Errorf("WWW-Authenticate: %v", asked)
			}
		})
	}
	var w *httptest.ResponseRecorder
	for range 31 {
		w = call(a, "wrong", "GET", path, "")
	}
	if w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("after many wrong keys: %d %s", w.Code, w.Body)
	}
	if w := call(a, managementKey, "GET", path, ""); w.Code != 200 {
		t.Errorf("the right key after many wrong ones: %d %s", w.Code, w.Body)
	}
}

func TestNoRoute(t *testing.T) {
	a := newAPI(t)
	if w := call(a, managementKey, "GET", "/api/v2/admin/nothing", ""); w.Code != 404 || !strings.Contains(w.Body.String(), "not_found") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w := call(a, managementKey, "POST", "/api/v2/admin/tenants/a", "")
	if w.Code != 405 || w.Header().Get("Allow") != "GET, PATCH, DELETE" || !strings.Contains(w.Body.String(), "method_not_allowed") {
		t.Errorf("%d, Allow %q, %s", w.Code, w.Header().Get("Allow"), w.Body)
	}
}

func TestEditErrors(t *testing.T) {
	a := newAPI(t)
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		message                  string // how it begins
	}{
		{"wrong field", "PATCH", "tenants/a", `{"quota_mb": -5}`, 400, `tenant "a": field "quota_mb" `},
		{"another id", "PATCH", "tenants/a", `{"tenant_id": "b"}`, 400, `field "tenant_id" cannot be changed`},
		{"no tenant", "PATCH", "tenants/b", `{"quota_mb": 5}`, 404, "there is no such tenant"},
		{"tenant exists", "POST", "tenants/add", `{"tenant_id": "a"}`, 409, "there is such a tenant already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := call(a, managementKey, test.method, "/api/v2/admin/"+test.path, test.body)
			var out struct{ Error string }
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != test.status || !strings.HasPrefix(out.Error, test.message) {
				t.Errorf("%d %s (%v)", w.Code, w.Body, err)
			}
		})
	}
	if err := os.WriteFile(filepath.Join(a.DataRoot, "tenants.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := call(a, managementKey, "PATCH", "/api/v2/admin/tenants/a", `{"quota_mb": 5}`)
	if w.Code != 409 || !strings.HasPrefix(w.Body.String(), `{"error":"the tenants file on disk has a mistake`) {
		t.Errorf("with a broken file: %d %s", w.Code, w.Body)
	}
}

func TestParseTime(t *testing.T) {
	a := &API{now: func() time.Time { return noon }}
	for _, test := range []struct {
		text string
		want time.Time
		ok   bool
	}{
		{"90m", noon.Add(-90 * time.Minute), true},
		{"2026-01-31", time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), true},
		{"2026-01-31T15:04:05.5Z", time.Date(2026, 1, 31, 15, 4, 5, 5e8, time.UTC), true},
		{"2026-01-31T15:04:05 01:00", time.Date(2026, 1, 31, 14, 4, 5, 0, time.UTC), true},
		{"", time.Time{}, false},
		{"-90m", time.Time{}, false},
		{"soon", time.Time{}, false},
	} {
		t.Run(test.text, func(t *testing.T) {
			if got, ok := a.parseTime(test.text); !got.Equal(test.want) || ok != test.ok {
				t.Errorf("%v, %v", got, ok)
			}
		})
	}
}

// TestChangesAreAudited expects one line for each change, with no key in it.
func TestChangesAreAudited(t *testing.T) {
	a := newAPI(t)
	var secrets, want []string
	for _, c := range []struct{ method, path, body, what string }{
		{"POST", "tenants/add", `{"tenant_id": "b", "path_key": "new"}`, "add"},
		{"PATCH", "tenants/b", `{"quota_mb": 5, "path_key": "new"}`, "change"},
		{"POST", "tenants/b/rotate-key", `{"overlap": "1h"}`, "rotate-key"},
		{"POST", "reload", "", "reload"},
	} {
		w := call(a, managementKey, c.method, "/api/v2/admin/"+c.path, c.body)
		var out map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code >= 300 {
			t.Fatalf("%s: %d %s (%v)", c.what, w.Code, w.Body, err)
		}
		for _, field := range []string{"api_key", "path_key"} {
			if key, ok := out[field].(string); ok {
				secrets = append(secrets, key)
			}
		}
		want = append(want, c.what)
	}
	text, err := os.ReadFile(a.AuditFile)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if !l.Time.Equal(noon) || l.Who != a.keyFingerprint() || l.From != "192.0.2.1" {
			t.Errorf("%+v", l)
		}
		got = append(got, l.What)
	}
	if !slices.Equal(got, want) {
		t.Errorf("audited %v, want %v", got, want)
	}
	if len(secrets) != 4 {
		t.Errorf("%d keys were shown, want 4", len(secrets))
	}
	for _, key := range append(secrets, managementKey) {
		if strings.Contains(string(text), key) {
			t.Errorf("a key is in the audit log:\n%s", text)
		}
	}
}

// TestUnchanged changes the tenants file while a call waits for a directory.
func TestUnchanged(t *testing.T) {
	a := newAPI(t)
	before, _ := a.Store.Current().ByID("a")
	for _, test := range []struct {
		name   string
		change func(*tenants.Entry)
		want   apierror.Kind
	}{
		{"quota", func(e *tenants.Entry) { e.QuotaMB = ptr(int64(7)) }, apierror.Kind{}},
		{"incarnation", func(e *tenants.Entry) { e.Incarnation = ptr(tenants.NewIncarnation(noon)) }, apierror.Conflict},
		{"directory", func(e *tenants.Entry) { e.DataDir, e.Incarnation = ptr(a.DataRoot+"/other"), nil }, apierror.Conflict},
		{"id", func(e *tenants.Entry) { e.ID = ptr("b") }, apierror.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := a.changeEntry("a", func(e *tenants.Entry) error { test.change(e); return nil }); err != nil {
				t.Fatal(err)
			}
			now, err := a.unchanged(before)
			if test.want == (apierror.Kind{}) {
				if err != nil || now.QuotaBytes != 7<<20 {
					t.Errorf("%+v, %v", now, err)
				}
				return
			}
			if e := apierror.From(err); e == nil || e.Kind != test.want {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestEveryLimitCanBeSet sets each number of the tenants file with PATCH, and when a
// tenant is added.
func TestEveryLimitCanBeSet(t *testing.T) {
	a := newAPI(t)
	limits := map[string]any{}
	for field := range reflect.TypeFor[tenants.Entry]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); field.Type == reflect.TypeFor[*int64]() {
			limits[name] = float64(len(limits) + 3)
		}
	}
	for id, path := range map[string]string{"b": "add", "a": "a"} {
		in := maps.Clone(limits)
		method := "PATCH"
		if path == "add" {
			method, in["tenant_id"], in["enabled"], in["admin_email"] = "POST", id, false, "x@example.org"
		}
		body, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		w := call(a, managementKey, method, "/api/v2/admin/tenants/"+path, string(body))
		if w.Code >= 300 || path == "add" && !strings.Contains(w.Body.String(), `"status":"disabled"`) {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		var got map[string]any
		if err := json.Unmarshal(call(a, managementKey, "GET", "/api/v2/admin/tenants/"+id, "").Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		for name, want := range limits {
			if got[name] != want {
				t.Errorf("%s: %s is %v, want %v", path, name, got[name], want)
			}
		}
	}
	w := call(a, managementKey, "POST", "/api/v2/admin/tenants/add", `{"tenant_id": "c", "calls_per_day": "many"}`)
	if want := `{"error":"field \"calls_per_day\" is a string: a whole number is wanted","code":"bad_request"}`; strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%s", w.Body)
	}
}

// TestAPathKeyKeptAsItsHash is replaced and revoked as any other.
func TestAPathKeyKeptAsItsHash(t *testing.T) {
	a := newAPI(t)
	sum := sha256.Sum256([]byte("abcdefghijklmnopqrstu_"))
	for _, test := range []struct{ field, want string }{
		{`"new"`, `"path_key_fingerprint":"`},
		{"null", ""},
	} {
		err := a.Store.Edit(func(d *tenants.Document) error {
			return d.Change("a", func(e *tenants.Entry) error {
				e.PathKey, e.PathKeySHA256 = nil, ptr(hex.EncodeToString(sum[:]))
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		w := call(a, managementKey, "PATCH", "/api/v2/admin/tenants/a", `{"path_key": `+test.field+`}`)
		if w.Code != 200 || !strings.Contains(w.Body.String(), test.want) || strings.Contains(w.Body.String(), "fingerprint") != (test.want != "") {
			t.Errorf("%s: %d %s", test.field, w.Code, w.Body)
		}
		if _, ok := a.Store.Current().ByPathKey("abcdefghijklmnopqrstu_"); ok {
			t.Error("the old path key is still good")
		}
	}
	audit, err := os.ReadFile(a.AuditFile)
	if err != nil || strings.Count(string(audit), "fingerprint "+hex.EncodeToString(sum[:4])) != 2 {
		t.Errorf("%s %v", audit, err)
	}
}
