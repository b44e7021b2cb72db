package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/webhooks"
)

func (s *service) makeWebhooks() {
	c := webhooks.Config{
		Tenants: s.store.Current, Changes: s.changes, Turns: s.turns, StateDir: filepath.Join(s.o.stateDir, "webhooks"), Count: s.metrics.WebhookDone, Logger: s.log,
	}
	if s.identity != nil {
		c.Here = (&webhookRoutes{service: s}).here
	}
	if !s.o.webhookAllow.None() {
		c.Dial = s.dialReceiver
	}
	s.webhooks = webhooks.New(c)
	s.metrics.RegisterWebhooks(s.webhooks.Lag)
}

// dialReceiver connects to a receiver of webhooks. From a network of its own, sqgate has
// the dialer do that, which has its own --webhook-allow.
func (s *service) dialReceiver(ctx context.Context, address string, secure bool) (net.Conn, error) {
	word := webhookWord
	if !secure {
		word = plainWebhookWord
	}
	if dialer := os.Getenv(envDialer); dialer != "" {
		return askDialer(ctx, dialer, word+address)
	}
	c, err := s.o.webhookAllow.Dial(ctx, address, secure)
	if err != nil && inOwnNetwork(s.listener) {
		err = fmt.Errorf("sqgate has a network of its own, with no way out but sqgate-dialer.socket: see webhooks.md (%w)", err)
	}
	return c, err
}

// webhookRoutes says which tenants this host serves, though no request asks for them.
type webhookRoutes struct {
	service *service
	mu      sync.Mutex
	asked   map[string]time.Time // when the bucket was last asked, by data directory
}

// askOwner is how often the bucket is asked who owns a directory that another host was
// found to serve: that one may have handed it over, to this host.
const askOwner = 5 * time.Minute

func (r *webhookRoutes) here(ctx context.Context, t *tenants.Tenant) (bool, error) {
	r.mu.Lock()
	if r.asked == nil {
		r.asked = map[string]time.Time{}
	}
	again := time.Since(r.asked[t.DataDir]) > askOwner
	if again {
		r.asked[t.DataDir] = time.Now()
	}
	r.mu.Unlock()
	if again {
		r.service.replicas.Forget(t.DataDir)
	}
	_, here, err := r.service.replicas.Route(ctx, t.DataDir)
	return here, err
}
