package admin

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants/quota"
)

func TestMetricsAreClean(t *testing.T) {
	dir := t.TempDir()
	store, children := openStore(t, dir), newSupervisor(t, dir)
	m := NewMetrics("test", store)
	m.RegisterGauges(quota.NewLedger(store.Current, slog.Default()), children, datadir.New(datadir.Config{}))
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
	m.Forget(store.Current().All())
	if n := testutil.CollectAndCount(m.calls) + testutil.CollectAndCount(m.starts); n != 0 {
		t.Errorf("%d series after the tenant went", n)
	}
}
