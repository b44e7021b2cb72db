package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/datadir"
	hosts "mirrorborn.us/sqgate/storage/host"
)

// probeTimeout is how long a bucket may take to show that it can be used.
const probeTimeout = 30 * time.Second

// openBucket opens the bucket, if there is to be one, and finds out whether it can be
// relied upon. No flag sets options.bucket yet: there is no way to put what a host has
// into a bucket, and to purge a tenant from one.
func (s *service) openBucket() error {
	if s.o.bucket == "" {
		return nil
	}
	if s.o.privateNetwork && !strings.HasPrefix(s.o.bucket, "file:") {
		return fmt.Errorf("the bucket is not a directory, and cannot be reached from the network of sqgate's own")
	}
	b, err := bucket.Open(s.o.bucket, bucket.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	if err := bucket.Probe(ctx, b); err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	s.host = &hosts.Host{Bucket: b, Name: name, Incarnation: rand.Text(), Version: buildVersion(), Logger: s.log}
	s.replicas = &hosts.Directories{
		Host: s.host, Tenants: s.store.Current, Journal: s.journal, Links: s.links, MarkDir: filepath.Join(s.o.stateDir, "bucket"), History: s.o.history,
	}
	return s.replicas.Lock()
}

// takeOver is for datadir.Config: nil without a bucket.
func (s *service) takeOver() func(context.Context, *datadir.Dir) (*datadir.Replica, error) {
	if s.host == nil {
		return nil
	}
	return s.replicas.TakeOver
}

// keepLease holds this host's lease, and keeps its logs short, until ctx ends, which is
// after the last request.
func (s *service) keepLease(ctx context.Context) error {
	if s.host == nil {
		return nil
	}
	var keeping sync.WaitGroup
	defer keeping.Wait()
	keeping.Go(func() { s.replicas.Keep(ctx) })
	err := s.host.Run(ctx)
	if err != nil {
		s.log.Error("this host has no lease any more, and serves nothing until it is started again", logkey.Error, err)
	}
	return err
}
