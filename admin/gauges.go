package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// gauges are read from those who know them when Prometheus asks, so that the
// series of a tenant go with the tenant.
type gauges struct {
	store    *tenants.Store
	ledger   *quota.Ledger
	children *supervisor.Supervisor
}

var (
	storage  = prometheus.NewDesc("sq_storage_bytes", "Bytes of the tenant's phexts.", []string{"tenant"}, nil)
	quotaMax = prometheus.NewDesc("sq_quota_bytes", "Bytes that the tenant may use; 0 = no limit.", []string{"tenant"}, nil)
	enabled  = prometheus.NewDesc("sq_tenants_active", "Tenants that are enabled.", nil, nil)
	children = prometheus.NewDesc("sq_children", "SQ processes and directories that wait for one, by state.", []string{"state"}, nil)
	reloadOK = prometheus.NewDesc("sq_config_last_reload_successful", "1 if the tenants file on disk is in force, 0 if it has a mistake.", nil, nil)
	reloadAt = prometheus.NewDesc("sq_config_last_reload_timestamp_seconds", "When the tenants file was last read.", nil, nil)
)

func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storage, quotaMax, enabled, children, reloadOK, reloadAt} {
		out <- d
	}
}

func (g *gauges) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	active := 0
	for _, t := range g.store.Current().All() {
		if t.Enabled {
			active++
		}
		// A directory that cannot be read is logged by the ledger; its series is missing.
		if use, err := g.ledger.Use(t); err == nil {
			gauge(storage, float64(use.Bytes), t.ID)
		}
		gauge(quotaMax, float64(t.QuotaBytes), t.ID)
	}
	gauge(enabled, float64(active))
	states := map[supervisor.State]int{}
	for _, c := range g.children.Children() {
		states[c.State]++
	}
	for _, state := range supervisor.States() {
		gauge(children, float64(states[state]), string(state))
	}
	status := g.store.Status()
	gauge(reloadOK, truth(status.Successful()))
	gauge(reloadAt, float64(status.At.UnixMilli())/1000)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
