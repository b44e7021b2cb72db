package admin

import (
	"log/slog"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// TestArchivedTenantsHaveNoSeries archives a tenant that is counted. A request of
// the tenant that ends later must not bring its series back.
func TestArchivedTenantsHaveNoSeries(t *testing.T) {
	dir := t.TempDir()
	store, children := openStore(t, dir), newSupervisor(t, dir)
	m := NewMetrics("test", store)
	m.RegisterGauges(quota.NewLedger(store.Current, slog.Default()), children, datadir.New(datadir.Config{}), func(*tenants.Tenant) bool { return false })
	m.Served("a", "select", 200, "", time.Millisecond)
	m.Started(dir+"/a", supervisor.StartedFirst)
	old := store.Current()
	err := store.Edit(func(d *tenants.Document) error {
		return d.Change("a", func(e *tenants.Entry) error { e.Archived = ptr(true); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	m.TenantsChanged(old, tenants.Compare(old, store.Current()))
	m.Served("a", "select", 200, "", time.Millisecond)
	m.Started(dir+"/a", supervisor.StartedFirst)
	for _, name := range []string{"sq_api_calls_total", "sq_child_starts_total", "sq_storage_bytes", "sq_quota_bytes"} {
		if n, err := testutil.GatherAndCount(m.registry, name); n != 0 || err != nil {
			t.Errorf("%s: %d series, %v", name, n, err)
		}
	}
}

func TestMetricsAreClean(t *testing.T) {
	dir := t.TempDir()
	store, children := openStore(t, dir), newSupervisor(t, dir)
	m := NewMetrics("test", store)
	m.RegisterGauges(quota.NewLedger(store.Current, slog.Default()), children, datadir.New(datadir.Config{}), func(*tenants.Tenant) bool { return false })
	m.Served("a", "select", 200, "", time.Millisecond)
	m.Served("nobody", "select", 401, "unauthorized", time.Millisecond)
	m.Started(dir+"/a", supervisor.StartedFirst)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n := testutil.CollectAndCount(m.calls); n != 1 {
		t.Errorf("%d series of calls, want 1", n)
	}
	m.TenantsChanged(store.Current(), tenants.Diff{Removed: store.Current().All()})
	if n := testutil.CollectAndCount(m.calls) + testutil.CollectAndCount(m.starts); n != 0 {
		t.Errorf("%d series after the tenant went", n)
	}
}

// TestMetricsPrintIntegers has values that the library prints with an exponent, and
// counters that are there before anything happened.
func TestMetricsPrintIntegers(t *testing.T) {
	dir := t.TempDir()
	store, children := openStore(t, dir), newSupervisor(t, dir)
	m := NewMetrics("test", store)
	m.RegisterGauges(quota.NewLedger(store.Current, slog.Default()), children, datadir.New(datadir.Config{}), func(*tenants.Tenant) bool { return false })
	m.requests.WithLabelValues("200").Add(1<<40 + 1)
	m.seconds.WithLabelValues("select").Observe(1234567.25)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v2/metrics", nil))
	for _, want := range []string{
		`sq_requests_total{code="200"} 1099511627777`, `sq_request_seconds_sum{op="select"} 1234567.25`, `sq_requests_total{code="502"} 0`,
		`sq_rejected_total{code="disk_full"} 0`, `sq_child_starts_total{reason="failure",tenant="a"} 0`,
	} {
		if !strings.Contains(w.Body.String(), "\n"+want+"\n") {
			t.Errorf("no line %s in\n%s", want, w.Body)
		}
	}
	if found := regexp.MustCompile(`(?m)^[^#].* \S*e\+\S*$`).FindString(w.Body.String()); found != "" {
		t.Errorf("a number has an exponent: %s", found)
	}
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4; charset=utf-8") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}
