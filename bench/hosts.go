package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// The hosts of the cell share this many tenants.
const (
	manyHosts       = 3
	tenantsOfHosts  = 10000
	idleOfHosts     = 10 * time.Second // how long their requests to the bucket are counted
	knownElsewhere  = 10 * time.Second // after which a new tenant must be known on another host
	latencyOfHosts  = time.Millisecond
	askForNewTenant = 20 * time.Millisecond
)

// cellHosts measures hosts that share a bucket: what their tenants take while idle, and what
// it costs that a request comes in at another host than the one that has its tenant.
func (b *bench) cellHosts(ctx context.Context) error {
	store := newObjectStore(latencyOfHosts)
	defer store.Close()
	var hosts []*gateway
	defer func() {
		for _, g := range hosts {
			g.process.stop()
		}
	}()
	t := newTable("host", "starts within", "resident memory")
	for i := range manyHosts {
		began := time.Now()
		g, err := b.startHost(ctx, store, i)
		if err != nil {
			return err
		}
		took := time.Since(began)
		time.Sleep(settle)
		now, _ := memory(g.pid())
		t.add(g.name, inSeconds(took.Seconds()), inMB(now))
		hosts = append(hosts, g)
	}
	b.show(fmt.Sprintf("%d hosts that share a bucket of %v and %d idle tenants", manyHosts, latencyOfHosts, tenantsOfHosts), t)
	before := store.all()
	select {
	case <-time.After(idleOfHosts):
	case <-ctx.Done():
		return ctx.Err()
	}
	idle := float64(store.all()-before) / manyHosts * float64(time.Minute/idleOfHosts)
	known, err := newTenant(ctx, hosts[0], hosts[manyHosts-1])
	if err != nil {
		return err
	}
	t = newTable("figure", "value")
	t.add("requests to the bucket by an idle host, a minute", inRate(idle))
	t.add("a new tenant is known on another host within", inSeconds(known.Seconds()))
	b.show("The same hosts, idle", t)
	return b.forwardedByHosts(ctx, hosts)
}

// startHost starts one of the hosts. The first one puts its tenants into the bucket before.
func (b *bench) startHost(ctx context.Context, store *objectStore, i int) (*gateway, error) {
	g, err := b.newGateway(b.binaries[0], fmt.Sprintf("host %d", i+1), tenantsOfHosts)
	if err != nil {
		return nil, err
	}
	if i == 0 {
		err = b.fillBucket(ctx, g, store)
	} else { // it gets the tenants from the bucket
		g.env = inStore
		err = os.Remove(g.config)
	}
	if err != nil {
		return nil, err
	}
	addr, _, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return g, b.startGateway(ctx, g, "--bucket", store.url(), "--private-network=false", "--host-name", fmt.Sprintf("h%d", i+1), "--host-listen", addr)
}

// newTenant adds a tenant on one host, and returns how long it takes until another knows it.
func newTenant(ctx context.Context, at, elsewhere *gateway) (time.Duration, error) {
	operator, other := at.side, elsewhere.side
	operator.key, other.key = adminKey, adminKey
	const id = "newcomer"
	if _, _, err := operator.expecting(http.StatusCreated).once(ctx, patience, operator.request("POST", "/api/v2/admin/tenants", []byte(`{"id":"`+id+`"}`), "Content-Type: application/json")); err != nil {
		return 0, fmt.Errorf("adding a tenant: %w", err)
	}
	began := time.Now()
	for {
		_, _, err := other.once(ctx, patience, other.request("GET", "/api/v2/admin/tenants/"+id, nil))
		took := time.Since(began)
		switch {
		case err == nil:
			return took, nil
		case took > knownElsewhere:
			return 0, fmt.Errorf("a new tenant is not known on another host: %w", err)
		}
		select {
		case <-time.After(askForNewTenant):
		case <-ctx.Done():
			return 0, errors.Join(err, ctx.Err())
		}
	}
}

// forwardedByHosts compares requests at the host that has the tenant with those at another.
func (b *bench) forwardedByHosts(ctx context.Context, hosts []*gateway) error {
	operator := hosts[0].side
	operator.key = adminKey
	body := []byte(numbered(scrollSize)(0))
	for i := range bucketScrolls {
		if _, _, err := hosts[0].once(ctx, patience, hosts[0].request("POST", updateOf("notes", i), body)); err != nil {
			return err
		}
	}
	if _, _, err := operator.once(ctx, patience, operator.request("POST", "/api/v2/admin/tenants/t0/move", []byte(`{"host":"h1"}`), "Content-Type: application/json")); err != nil {
		return fmt.Errorf("moving a tenant: %w", err)
	}
	owner, other := hosts[0].side, hosts[1].side
	owner.name, other.name = underTest+", at the host of the tenant", underTest+", at another host"
	for _, k := range []struct {
		cell, title string
		pick        picker
	}{
		{"hosts-select", "select", selecting(bucketScrolls, "notes")},
		{"hosts-update", "update of 200 bytes", updating},
	} {
		results := b.inTurns(ctx, []side{owner, other}, manyConnections, k.pick)
		b.showRates(k.cell, fmt.Sprintf("%s through one of %d hosts with a bucket of %v, %d connections", k.title, manyHosts, latencyOfHosts, manyConnections), results)
	}
	return nil
}
