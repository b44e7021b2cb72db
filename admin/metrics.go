package admin

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// Metrics are the gateway's figures for Prometheus. No label's value comes
// from a request: tenants come from the tenants file, operations and error
// codes from the program.
type Metrics struct {
	registry *prometheus.Registry
	known    func() *tenants.Snapshot
	resolve  func(dataDir string) string

	calls    *prometheus.CounterVec
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	rejected *prometheus.CounterVec
	starts   *prometheus.CounterVec
}

// buckets reach from an answer from memory to a phext that takes SQ minutes, in seconds.
var buckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// NewMetrics makes the figures; Watch adds those that are read when asked for.
func NewMetrics(version string, known func() *tenants.Snapshot, resolve func(string) string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), known: known, resolve: resolve,
		calls:    counter("sq_api_calls_total", "Authenticated calls, by tenant and operation.", "tenant", "method"),
		requests: counter("sq_requests_total", "Requests answered, by HTTP status.", "code"),
		rejected: counter("sq_rejected_total", "Requests refused by the gateway, by error code.", "code"),
		starts:   counter("sq_child_starts_total", "SQ processes started, by tenant and reason.", "tenant", "reason"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sq_request_seconds", Help: "Time from a request's header to the end of its answer, by operation.", Buckets: buckets}, []string{"op"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sqgate_build_info", Help: "The version of sqgate; the value is 1."}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.calls, m.requests, m.rejected, m.starts, m.seconds, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Served notes a request; see proxy.Observer.
func (m *Metrics) Served(tenant, op string, status int, code string, took time.Duration) {
	m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	if code != "" {
		m.rejected.WithLabelValues(code).Inc()
	}
	if op == "" {
		return
	}
	m.seconds.WithLabelValues(op).Observe(took.Seconds())
	// A request that ends after its tenant has gone must not bring the series back.
	if _, ok := m.known().ByID(tenant); ok {
		m.calls.WithLabelValues(tenant, op).Inc()
	}
}

// Started notes a child; see supervisor.Config.OnStart.
func (m *Metrics) Started(dir, reason string) {
	for _, t := range m.known().All() {
		if m.resolve(t.DataDir) == dir {
			m.starts.WithLabelValues(t.ID, reason).Inc()
		}
	}
}

// Forget drops the series of tenants that are gone.
func (m *Metrics) Forget(gone []*tenants.Tenant) {
	for _, t := range gone {
		m.calls.DeletePartialMatch(prometheus.Labels{"tenant": t.ID})
		m.starts.DeletePartialMatch(prometheus.Labels{"tenant": t.ID})
	}
}

// Watch adds what is read at each scrape.
func (m *Metrics) Watch(store *tenants.Store, ledger *quota.Ledger, children *supervisor.Supervisor) {
	m.registry.MustRegister(&gauges{store: store, ledger: ledger, children: children})
}
