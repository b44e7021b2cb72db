package admin

import (
	"github.com/prometheus/client_golang/prometheus"
)

// RegisterBucket adds the figures of the bucket, if there is one.
func (m *Metrics) RegisterBucket(status func() *BucketStatus) {
	m.registry.MustRegister(bucketFigures(status))
}

// bucketFigures is read at each scrape.
type bucketFigures func() *BucketStatus

var (
	bucketLease       = prometheus.NewDesc("sq_bucket_lease", "1 if this host has its lease in the bucket, 0 if nothing is served because it has none.", nil, nil)
	bucketSync        = prometheus.NewDesc("sq_bucket_sync", "1 if a write is acknowledged only when the bucket has it, 0 with --bucket-sync=false.", nil, nil)
	bucketBehind      = prometheus.NewDesc("sq_bucket_behind_seconds", "Age of the oldest write that is not known to be in the bucket, in seconds.", nil, nil)
	bucketDirectories = prometheus.NewDesc("sq_bucket_directories", "Number of data directories that this host owns in the bucket now.", nil, nil)
	bucketProblems    = prometheus.NewDesc("sq_bucket_problems", "Number of tenants, and objects of tenants, in the bucket that this host cannot take, so that they stay as it knew them last.", nil, nil)
	bucketRequests    = prometheus.NewDesc("sq_bucket_requests_total", "Requests to the bucket since sqgate started, by kind.", []string{"kind"}, nil)
	bucketFailures    = prometheus.NewDesc("sq_bucket_failures_total", "Requests to the bucket since sqgate started that got no answer or were refused.", nil, nil)
	bucketBytes       = prometheus.NewDesc("sq_bucket_bytes_total", "Bytes sent to the bucket and received from it since sqgate started, by direction.", []string{"direction"}, nil)
)

// Describe is a method of prometheus.Collector.
func (f bucketFigures) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{bucketLease, bucketSync, bucketBehind, bucketDirectories, bucketProblems, bucketRequests, bucketFailures, bucketBytes} {
		out <- d
	}
}

// Collect is a method of prometheus.Collector.
func (f bucketFigures) Collect(out chan<- prometheus.Metric) {
	s := f()
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge(bucketLease, oneIf(s.Lease))
	gauge(bucketSync, oneIf(s.Sync))
	gauge(bucketBehind, s.BehindSeconds)
	gauge(bucketDirectories, float64(len(s.Directories)))
	gauge(bucketProblems, float64(len(s.Problems)))
	count(bucketRequests, s.Costs.Gets, "get")
	count(bucketRequests, s.Costs.Puts, "put")
	count(bucketRequests, s.Costs.Lists, "list")
	count(bucketRequests, s.Costs.Deletes, "delete")
	count(bucketFailures, s.Costs.Failed)
	count(bucketBytes, s.Costs.SentBytes, "sent")
	count(bucketBytes, s.Costs.ReceivedBytes, "received")
}

func oneIf(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}
