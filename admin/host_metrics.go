package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mirrorborn.us/sqgate/cluster"
	hosts "mirrorborn.us/sqgate/storage/host"
)

// HostCounts is what is counted of the hosts that share a bucket.
type HostCounts interface {
	Peers() []hosts.Peer
	TakenOver() int64
	HandedOver() int64
	Deposed() int64
}

// RegisterHosts adds the figures of the hosts that share a bucket. forwards is that of
// cluster.Forwarder.Counts.
func (m *Metrics) RegisterHosts(counts HostCounts, forwards func() map[string]int64) {
	m.registry.MustRegister(&hostFigures{counts, forwards})
}

// hostFigures is read at each scrape.
type hostFigures struct {
	HostCounts
	forwards func() map[string]int64
}

var (
	hostCounts     = prometheus.NewDesc("sq_hosts", "Number of hosts that share the bucket, as this one sees them, by state: alive, draining or dead.", []string{"state"}, nil)
	hostTakenOver  = prometheus.NewDesc("sq_take_overs_total", "Data directories that this host has taken over since sqgate started.", nil, nil)
	hostHandedOver = prometheus.NewDesc("sq_hand_overs_total", "Data directories that this host has handed over to others since sqgate started.", nil, nil)
	hostDeposed    = prometheus.NewDesc("sq_depositions_total", "Data directories that another host has taken from this one since sqgate started, because its lease had ended.", nil, nil)
	hostForwards   = prometheus.NewDesc("sq_forwards_total", "Attempts since sqgate started to send a request to the host that owns its directory, by result: answered, not_owner, unreachable or lost.", []string{"result"}, nil)
)

// Describe is a method of prometheus.Collector.
func (f *hostFigures) Describe(out chan<- *prometheus.Desc) {
	out <- hostCounts
	out <- hostForwards
	out <- hostTakenOver
	out <- hostHandedOver
	out <- hostDeposed
}

// Collect is a method of prometheus.Collector.
func (f *hostFigures) Collect(out chan<- prometheus.Metric) {
	states := map[string]int{"alive": 0, "draining": 0, "dead": 0}
	for _, p := range f.Peers() {
		switch {
		case p.Incarnation == "": // it has ended in order
		case !p.Alive:
			states["dead"]++
		case p.Draining:
			states["draining"]++
		default:
			states["alive"]++
		}
	}
	for state, n := range states {
		out <- prometheus.MustNewConstMetric(hostCounts, prometheus.GaugeValue, float64(n), state)
	}
	out <- prometheus.MustNewConstMetric(hostTakenOver, prometheus.CounterValue, float64(f.TakenOver()))
	out <- prometheus.MustNewConstMetric(hostHandedOver, prometheus.CounterValue, float64(f.HandedOver()))
	out <- prometheus.MustNewConstMetric(hostDeposed, prometheus.CounterValue, float64(f.Deposed()))
	counts := f.forwards()
	for _, result := range cluster.Results {
		out <- prometheus.MustNewConstMetric(hostForwards, prometheus.CounterValue, float64(counts[result]), result)
	}
}
