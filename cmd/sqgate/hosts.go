package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"mirrorborn.us/sqgate/cluster"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/tenants"
)

// hostSocket is the unit whose socket is for other hosts.
const hostSocket = "sqgate-hosts.socket"

func (o *bucketOptions) registerHosts(f *pflag.FlagSet) {
	f.StringVar(&o.hostListen, "host-listen", o.hostListen, "address where other hosts with the same bucket reach this one (empty: it is alone)")
	f.StringVar(&o.hostURL, "host-url", o.hostURL, "that address as the other hosts see it: https://HOST:PORT (empty: --host-listen)")
}

// checkHosts rejects what the flags of several hosts cannot mean.
func (o *bucketOptions) checkHosts() error {
	switch {
	case o.hostListen == "" && o.hostURL != "":
		return usageError{errors.New("--host-url is given and --host-listen is not: name the address to listen on too")}
	case o.hostListen == "":
		return nil
	case o.url == "":
		return usageError{errors.New("--host-listen is given and --bucket is not: hosts know each other by their bucket")}
	case !o.sync:
		return usageError{errors.New("--bucket-sync is false and --host-listen is given: that is for one host alone, since another one would not have what the bucket does not have")}
	}
	listen, _, err := net.SplitHostPort(o.hostListen)
	if err != nil {
		return usageError{fmt.Errorf("--host-listen: %w: HOST:PORT is wanted", err)}
	}
	if ip := net.ParseIP(listen); o.hostURL == "" && (listen == "" || ip.IsUnspecified()) {
		return usageError{fmt.Errorf("--host-listen is %s, all addresses of this host: give --host-url, so that others know which one to use", o.hostListen)}
	}
	if o.hostURL == "" {
		return nil
	}
	u, err := url.Parse(o.hostURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return usageError{fmt.Errorf("--host-url is %.80q: https://HOST:PORT is wanted", o.hostURL)}
	}
	return nil
}

// hostPort is the port of all hosts, to which a dialer connects; "" = there is none.
func (o *bucketOptions) hostPort() string {
	if u, err := url.Parse(o.hostURL); err == nil && u.Port() != "" {
		return u.Port()
	}
	_, port, _ := net.SplitHostPort(o.hostListen)
	return port
}

// makeIdentity is for openBucket: others reach this host.
func (s *service) makeIdentity() (err error) {
	if s.o.bucket.hostListen == "" {
		return nil
	}
	if s.identity, err = cluster.NewIdentity(); err != nil {
		return err
	}
	s.host.Many, s.host.Fingerprint = true, s.identity.Fingerprint
	return nil
}

// makeForwarder makes what sends requests to other hosts, if there are to be any.
func (s *service) makeForwarder() {
	if s.identity != nil {
		s.hosts = cluster.New(cluster.Config{Hosts: s.replicas, Identity: s.identity, Dial: dialThrough(os.Getenv(envDialer)), Logger: s.log})
		s.metrics.RegisterHosts(s.replicas, s.hosts.Counts)
	}
}

// makeHostServer makes the server that other hosts reach.
func (s *service) makeHostServer() error {
	if s.hosts == nil {
		return nil
	}
	limiter, err := newConnLimiter(hostPart, ofEachHost, s.log)
	if err != nil {
		return err
	}
	if s.strangers, err = newConnLimiter(strangerPart, ofEachStranger, s.log); err != nil {
		return err
	}
	s.hostDrainer = newConnDrainer()
	s.hostServer = newServer(s.gateway, s.gateway.HostHandler(), s.hostDrainer, limiter, s.turns, s.log)
	return nil
}

// nameURL has the other hosts know where this one listens.
func (s *service) nameURL() error {
	if s.hosts == nil {
		return nil
	}
	if l := s.hostListener; inOwnNetwork(s.listener) && !inOwnNetwork(l) {
		return usageError{fmt.Errorf("no other host can reach this one: --host-listen is an address of the unit's own network, so have systemd open it (%s, see hosts.md)", hostSocket)}
	}
	if s.host.URL = s.o.bucket.hostURL; s.host.URL == "" {
		s.host.URL = "https://" + s.hostListener.Addr().String()
	}
	s.log.Info("other hosts reach this one", "address", s.hostListener.Addr().String(), "url", s.host.URL)
	return nil
}

// serveHosts serves other hosts until shutdownHosts is called.
func (s *service) serveHosts() error {
	if s.hosts == nil {
		return nil
	}
	_ = s.hostServer.Serve(s.hosts.Listener(s.hostListener, s.strangers.take)) // it ends when it is shut down
	return nil
}

// runHosts looks after requests that were sent on until ctx ends.
func (s *service) runHosts(ctx context.Context) {
	if s.hosts != nil {
		s.hosts.Run(ctx)
	}
}

// shutdownHosts ends the server for other hosts, which send nothing here any more once they
// have been told that this host has no directory.
func (s *service) shutdownHosts(ctx context.Context) {
	if s.hosts == nil {
		return
	}
	if err := s.hostDrainer.shutdown(ctx, s.hostServer, s.hostListener); err != nil {
		s.log.Warn("requests of other hosts were cut off", logkey.Error, err)
	}
}

// refreshTenants looks for tenants that another host has changed a moment ago.
func (s *service) refreshTenants(ctx context.Context) {
	if s.registry != nil {
		s.registry.Refresh(ctx, s.store.Follow)
	}
}

// isElsewhere says whether another host may have a tenant's directory.
func (s *service) isElsewhere(t *tenants.Tenant) bool {
	return s.identity != nil && !s.dirs.Of(t.DataDir).Owned()
}

// setDraining has /health tell load balancers whether to send requests here.
func (s *service) setDraining(draining bool) { s.gateway.SetDraining(draining) }
