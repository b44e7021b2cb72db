package admin

import (
	"bytes"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// Metrics are the figures for Prometheus. No value of a label comes from a
// request: tenants come from the tenants file, operations and error codes from
// the program.
type Metrics struct {
	registry *prometheus.Registry
	store    *tenants.Store

	calls    *prometheus.CounterVec
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	rejected *prometheus.CounterVec
	starts   *prometheus.CounterVec
	refused  *prometheus.CounterVec
	hooks    *prometheus.CounterVec
	recent   *recent // for the status page
}

// buckets are in seconds. They reach from an answer from memory to a phext that
// takes SQ minutes.
var buckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// NewMetrics makes the figures that are counted. RegisterGauges adds the others.
func NewMetrics(version string, store *tenants.Store) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), store: store, recent: newRecent(),
		calls:    counter("sq_api_calls_total", "Calls with a good key since sqgate started, by the tenant they were about and by operation.", "tenant", "method"),
		requests: counter("sq_requests_total", "Requests answered since sqgate started, by HTTP status.", "code"),
		rejected: counter("sq_rejected_total", "Requests that sqgate answered with an error since it started, by the code in that answer.", "code"),
		starts:   counter("sq_child_starts_total", "SQ processes started since sqgate started, by tenant and reason: first, again (after an orderly stop) or failure.", "tenant", "reason"),
		refused:  counter("sq_key_refused_total", "Requests with one of a tenant's further keys that sqgate answered with an error since it started, by tenant, id of the key, and the code in that answer.", "tenant", "key", "code"),
		hooks:    counter("sq_webhooks_total", "Changes that were delivered to the tenant's webhooks or dropped, and requests to them that failed, since sqgate started.", "tenant", "result"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sq_request_seconds", Help: "Seconds from a request's header to the end of its answer, by operation.", Buckets: buckets}, []string{"op"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sqgate_build_info", Help: "The version of sqgate; the value is 1."}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.calls, m.requests, m.rejected, m.starts, m.refused, m.hooks, m.seconds, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// An alert compares a counter with an earlier value: one that begins with its first
	// event hides that event.
	for _, status := range []string{"502", "503", "504"} {
		m.requests.WithLabelValues(status)
	}
	for _, code := range []string{"unauthorized", "disk_full"} {
		m.rejected.WithLabelValues(code)
	}
	for _, t := range store.Current().All() {
		m.expectStarts(t)
	}
	return m
}

// expectStarts begins a tenant's counters of starts with 0.
func (m *Metrics) expectStarts(t *tenants.Tenant) {
	if t.Archived {
		return
	}
	for _, reason := range []string{supervisor.StartedFirst, supervisor.StartedAgain, supervisor.StartedFailure} {
		m.starts.WithLabelValues(t.ID, reason)
	}
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// RegisterGauges adds the figures that are read at each scrape. It comes apart
// from NewMetrics because the supervisor needs Started before it exists.
// elsewhere says whether another host may have a tenant's directory, and knows its size.
func (m *Metrics) RegisterGauges(ledger *quota.Ledger, children *supervisor.Supervisor, dirs *datadir.Dirs, elsewhere func(*tenants.Tenant) bool) {
	m.registry.MustRegister(&gauges{store: m.store, ledger: ledger, children: children, dirs: dirs, elsewhere: elsewhere})
}

// Handler answers a scrape, in Prometheus's text format.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		families, err := m.registry.Gather()
		var text bytes.Buffer
		for _, family := range families {
			if err == nil {
				_, err = expfmt.MetricFamilyToText(&text, family)
			}
		}
		if err != nil {
			apierror.Write(w, apierror.New(apierror.Internal, "the metrics cannot be read: %s", err))
			return
		}
		w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
		_, _ = w.Write(plainNumbers(text.Bytes())) // whoever scrapes may have left
	})
}

var withExponent = regexp.MustCompile(`(?m) \d(\.\d+)?e\+\d+$`)

// plainNumbers writes the values of large metrics as people read them: the library
// prints 1048576 as 1.048576e+06.
func plainNumbers(text []byte) []byte {
	return withExponent.ReplaceAllFunc(text, func(value []byte) []byte {
		v, err := strconv.ParseFloat(string(value[1:]), 64)
		if err != nil || v >= 1e21 {
			return value
		}
		return strconv.AppendFloat([]byte(" "), v, 'f', -1, 64)
	})
}

// Served counts a request; see proxy.Config.Observe.
func (m *Metrics) Served(tenant, op string, status int, code string, took time.Duration) {
	m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	if code != "" {
		m.rejected.WithLabelValues(code).Inc()
	}
	if failed := status >= http.StatusBadRequest; op != "" || failed {
		m.recent.add(m.known(tenant), op != "" && tenant != "", failed)
	}
	if op == "" {
		return
	}
	m.seconds.WithLabelValues(op).Observe(took.Seconds())
	m.count(m.calls, tenant, op)
}

// known is the tenant's id, or "" if there is none with this id any more.
func (m *Metrics) known(tenant string) string {
	if _, ok := m.store.Current().ByID(tenant); !ok {
		return ""
	}
	return tenant
}

// count counts something that a tenant did. A request that ends after its tenant
// was removed must not bring the series back.
func (m *Metrics) count(c *prometheus.CounterVec, tenant, what string) {
	known := m.store.Current()
	if t, ok := known.ByID(tenant); !ok || t.Archived {
		return
	}
	c.WithLabelValues(tenant, what).Inc()
	now := m.store.Current()
	if now == known {
		return
	}
	if t, ok := now.ByID(tenant); !ok || t.Archived {
		m.forget(tenant) // it was removed meanwhile, perhaps before this series was there
	}
}

// KeyRefused counts a request that was refused to a tenant's further key; see
// proxy.Config.KeyRefused.
func (m *Metrics) KeyRefused(tenant string, key *tenants.Key, code string) {
	if _, ok := m.store.Current().Now(key, time.Time{}); ok {
		m.refused.WithLabelValues(tenant, key.ID, code).Inc()
	}
	if _, ok := m.store.Current().Now(key, time.Time{}); !ok {
		m.refused.DeletePartialMatch(prometheus.Labels{"tenant": tenant, "key": key.ID}) // it was revoked meanwhile
	}
}

// keysChanged drops the series of keys that were revoked.
func (m *Metrics) keysChanged(old *tenants.Snapshot) {
	for _, t := range old.All() {
		for _, k := range t.Keys() {
			if _, ok := m.store.Current().Now(k, time.Time{}); !ok {
				m.refused.DeletePartialMatch(prometheus.Labels{"tenant": t.ID, "key": k.ID})
			}
		}
	}
}

// Started counts the start of an SQ process; see supervisor.Config.OnStart.
func (m *Metrics) Started(dir, reason string) {
	for _, t := range m.store.Current().All() {
		if t.DataDir == dir {
			m.count(m.starts, t.ID, reason)
		}
	}
}

// TenantsChanged drops the series of tenants that were removed or archived, or
// whose id is another tenant's now, and of keys that were revoked.
func (m *Metrics) TenantsChanged(old *tenants.Snapshot, diff tenants.Diff) {
	m.keysChanged(old)
	for _, t := range diff.Removed {
		m.forget(t.ID)
	}
	for _, t := range diff.Added {
		m.expectStarts(t)
	}
	for _, t := range diff.Changed {
		if was, ok := old.ByID(t.ID); t.Archived || ok && was.UniqueID() != t.UniqueID() {
			m.forget(t.ID)
		}
		m.expectStarts(t)
	}
}

func (m *Metrics) forget(tenant string) {
	m.calls.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
	m.starts.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
	m.refused.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
	m.hooks.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
	m.recent.forget(tenant)
}

// gauges are read at each scrape from the packages that know them, so that the
// series of a tenant end when the tenant is removed or archived.
type gauges struct {
	store     *tenants.Store
	ledger    *quota.Ledger
	children  *supervisor.Supervisor
	dirs      *datadir.Dirs
	elsewhere func(*tenants.Tenant) bool
}

var (
	storageBytes     = prometheus.NewDesc("sq_storage_bytes", "Size of the tenant's phext files, in bytes.", []string{"tenant"}, nil)
	quotaBytes       = prometheus.NewDesc("sq_quota_bytes", "Bytes that the tenant's phext files may take; 0 = no limit.", []string{"tenant"}, nil)
	tenantsActive    = prometheus.NewDesc("sq_tenants_active", "Number of tenants that are enabled.", nil, nil)
	childStates      = prometheus.NewDesc("sq_children", "Number of SQ processes, and of data directories that wait for one, by state.", []string{"state"}, nil)
	dirsMissing      = prometheus.NewDesc("sq_data_dirs_missing", "Number of data directories that had phexts and are not there, as if a disk were not mounted.", nil, nil)
	reloadSuccessful = prometheus.NewDesc("sq_config_last_reload_successful", "1 if the tenants file on disk is in force, 0 if it has a mistake.", nil, nil)
	reloadTime       = prometheus.NewDesc("sq_config_last_reload_timestamp_seconds", "When the tenants file was last read, in seconds since 1970 UTC.", nil, nil)
)

// Describe is a method of prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storageBytes, quotaBytes, tenantsActive, childStates, dirsMissing, reloadSuccessful, reloadTime} {
		out <- d
	}
}

// Collect is a method of prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	enabled := 0
	for _, t := range g.store.Current().All() {
		if t.Enabled {
			enabled++
		}
		if t.Archived || g.elsewhere(t) {
			continue
		}
		// If the directory cannot be read, the ledger logs it, and the series is missing.
		if use, err := g.ledger.Use(t); err == nil {
			gauge(storageBytes, float64(use.Bytes), t.ID)
		}
		gauge(quotaBytes, float64(t.QuotaBytes), t.ID)
	}
	gauge(tenantsActive, float64(enabled))
	states := map[supervisor.State]int{}
	for _, c := range g.children.Children() {
		states[c.State]++
	}
	for _, state := range supervisor.States() {
		gauge(childStates, float64(states[state]), string(state))
	}
	gauge(dirsMissing, float64(g.dirs.Missing()))
	status := g.store.Status()
	successful := 0.0
	if status.Successful() {
		successful = 1
	}
	gauge(reloadSuccessful, successful)
	gauge(reloadTime, float64(status.At.UnixMilli())/1000)
}
