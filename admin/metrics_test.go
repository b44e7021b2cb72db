package admin

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

func TestMetricsAreClean(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "tenants.json")
	if err := os.WriteFile(config, []byte(`{"tenants": [{"id": "a", "api_key": "key-of-tenant-a", "data_dir": "`+dir+`/a", "quota_mb": 1}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := tenants.Open(tenants.Options{Path: config, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	children, err := supervisor.New(supervisor.Config{Command: []string{"/bin/true"}, WorkDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMetrics("test", store.Current, func(d string) string { return d })
	m.Watch(store, quota.NewLedger(store.Current, slog.Default()), children)
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
		t.Errorf("%d series of calls, 1 tenant called", n)
	}
	m.Forget(store.Current().All())
	if n := testutil.CollectAndCount(m.calls) + testutil.CollectAndCount(m.starts); n != 0 {
		t.Errorf("%d series after the tenant went", n)
	}
}
