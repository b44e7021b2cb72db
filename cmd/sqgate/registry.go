package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	hosts "mirrorborn.us/sqgate/storage/host"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/registry"
)

// registryConfig is what the tenants file and a bucket are brought together with. A host
// that serves alone does not poll: what nobody else changes costs no request.
func (s *service) registryConfig(b bucket.Bucket) registry.Config {
	c := registry.Config{Bucket: b, File: s.o.config, State: filepath.Join(s.markDir(), ".tenants"), DataRoot: s.o.dataRoot, Logger: s.log}
	if s.o.bucket.hostListen != "" {
		c.Poll = tenantsPoll
	}
	return c
}

// tenantsPoll is how often a host asks what others have changed.
const tenantsPoll = 2 * time.Second

// openRegistry reads the tenants in the bucket. The error says what to do if this host
// has tenants that the bucket does not know.
func (s *service) openRegistry() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	s.registry, err = registry.Open(ctx, s.registryConfig(s.costs))
	switch {
	case errors.Is(err, registry.ErrEmpty), errors.Is(err, registry.ErrUnfinished):
		return usageError{fmt.Errorf("--bucket: %w (start sqgate without --bucket, run `sqgate bucket init --bucket URL`, and start it with --bucket)", err)}
	case errors.Is(err, registry.ErrOther), errors.Is(err, registry.ErrUnknown):
		return usageError{fmt.Errorf("--bucket: %w", err)}
	case err != nil:
		return fmt.Errorf("--bucket: %w", err)
	}
	return nil
}

// agree is for tenants.Options: nil without a bucket.
func (s *service) agree() func(*tenants.Document, bool) (*tenants.Document, func(), error) {
	if s.registry == nil {
		return nil
	}
	return func(file *tenants.Document, edit bool) (*tenants.Document, func(), error) {
		if s.store != nil && s.store.Current().Refusal() == nil { // at the start, what was in force before is served
			now, err := file.Snapshot()
			if err == nil {
				err = hosts.CheckNames(s.store.Current(), now)
			}
			if err != nil {
				return nil, nil, tenants.Broken(err)
			}
		}
		return s.registry.Agree(file, edit)
	}
}

// keepTenants has the tenants file follow the bucket until ctx ends.
func (s *service) keepTenants(ctx context.Context) {
	if s.registry != nil {
		s.registry.Run(ctx, s.store.Follow, s.host.Gained)
	}
}
