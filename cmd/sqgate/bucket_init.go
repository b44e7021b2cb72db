package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/admin"
	"mirrorborn.us/sqgate/storage/bucket"
	hosts "mirrorborn.us/sqgate/storage/host"
	"mirrorborn.us/sqgate/tenants/registry"
)

// markDir is where this host remembers what it has in a bucket.
func (s *service) markDir() string { return filepath.Join(s.o.stateDir, "bucket") }

// checkBucket refuses to start with a bucket that does not know what is here.
func (s *service) checkBucket() error {
	if s.host == nil {
		return nil
	}
	err := s.replicas.CheckKnown(context.Background(), s.dirs)
	if errors.Is(err, hosts.ErrNotAsked) {
		return nil // it is logged, and whoever asks for one of them has it looked at again
	}
	if errors.Is(err, hosts.ErrNotInBucket) {
		return usageError{fmt.Errorf("--bucket: %w (for the first: start sqgate without --bucket, run `sqgate bucket init --bucket URL`, and start it with --bucket)", err)}
	}
	return err
}

// initBucket puts what this process serves into a bucket; see admin.Config.
func (s *service) initBucket(ctx context.Context, to admin.BucketPlace, report func(hosts.Progress)) error {
	o := bucketOptions{url: to.URL, hostName: to.HostName, sync: true, lag: time.Second}
	if o.hostName == "" {
		o.hostName = s.o.bucket.hostName
	}
	if err := o.check(); err != nil {
		return err
	}
	name, err := o.name()
	if err != nil {
		return err
	}
	dialer := os.Getenv(envDialer)
	if _, err := os.Stat(to.Dialer); err == nil {
		dialer = to.Dialer
	}
	b, err := o.open(bucket.Options{Key: to.Key, Dial: dialThrough(dialer)})
	if err != nil {
		return err
	}
	directories := &hosts.Directories{
		Host:    &hosts.Host{Bucket: b, Name: name, Incarnation: rand.Text(), Version: buildVersion(), Logger: s.log},
		Tenants: s.store.Current, Journal: s.journal, Links: s.links, MarkDir: s.markDir(),
	}
	if err := directories.Init(ctx, s.dirs, report); err != nil {
		return err
	}
	// Last: until it is done, no new machine serves tenants whose phexts are not there.
	_, err = registry.PutAll(ctx, s.registryConfig(b))
	return err
}

// bucketStatus is what there is to say of the bucket; nil = there is none.
func (s *service) bucketStatus() *admin.BucketStatus {
	if s.host == nil {
		return nil
	}
	status := &admin.BucketStatus{
		URL: s.o.bucket.url, Host: s.host.Name, Lease: s.host.Holds(), Sync: s.o.bucket.sync, Costs: s.costs.Costs(), Since: s.started, Directories: s.replicas.Owned(),
	}
	if s.registry != nil {
		status.Problems = s.registry.Problems()
	}
	if !s.o.bucket.sync {
		status.LagSeconds = s.o.bucket.lag.Seconds()
	}
	for _, d := range status.Directories {
		status.BehindSeconds = max(status.BehindSeconds, d.BehindSeconds)
	}
	return status
}

// bucketSizes lists the whole bucket, a thousand objects at a request.
func (s *service) bucketSizes(ctx context.Context) ([]admin.BucketSize, error) {
	byKind := map[string]*admin.BucketSize{}
	for e, err := range bucket.All(ctx, s.costs, "", "") {
		if err != nil {
			return nil, err
		}
		kind, parts := "other", strings.Split(e.Key, "/")
		switch {
		case parts[0] != "dirs":
			kind = parts[0]
		case len(parts) > 2:
			kind = parts[2]
		}
		if byKind[kind] == nil {
			byKind[kind] = &admin.BucketSize{Kind: kind}
		}
		byKind[kind].Objects++
		byKind[kind].Bytes += e.Size
	}
	var all []admin.BucketSize
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		all = append(all, *byKind[kind])
	}
	return all, nil
}
