package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirrorborn.us/sqgate/webhooks"
)

// WebhookDone counts what became of a change, or of a request; see webhooks.Config.Count.
func (m *Metrics) WebhookDone(tenant string, r webhooks.Result) { m.count(m.hooks, tenant, string(r)) }

// RegisterWebhooks adds the figures of webhooks. lag is that of webhooks.Service.Lag.
func (m *Metrics) RegisterWebhooks(lag func() map[string]time.Duration) {
	m.registry.MustRegister(webhookLags(lag))
}

// webhookLags is read at each scrape.
type webhookLags func() map[string]time.Duration

var webhookLag = prometheus.NewDesc("sq_webhook_lag_seconds", "Age of the oldest change that a webhook of the tenant was told of and has not taken, in seconds; 0 = there is none.", []string{"tenant"}, nil)

// Describe is a method of prometheus.Collector.
func (webhookLags) Describe(out chan<- *prometheus.Desc) { out <- webhookLag }

// Collect is a method of prometheus.Collector.
func (lags webhookLags) Collect(out chan<- prometheus.Metric) {
	for tenant, lag := range lags() {
		out <- prometheus.MustNewConstMetric(webhookLag, prometheus.GaugeValue, lag.Seconds(), tenant)
	}
}
