package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// cellHosts asks for a tenant at the host that has it, and at another one, which sends the
// requests on.
func (b *bench) cellHosts(ctx context.Context) (err error) {
	var sides []side
	defer func() { stopAll(sides) }()
	store := newObjectStore(time.Millisecond)
	defer store.Close()
	for i, detail := range []string{"the host that has the tenant", "another host"} {
		g, err := b.newGateway(b.binaries[0], detail, 1)
		if err != nil {
			return err
		}
		if i == 0 {
			err = b.fillBucket(ctx, g, store)

		} else { // it gets the tenants from the bucket
			g.env = inStore
			err = os.Remove(g.config)
		}
		if err != nil {
			return err
		}
		listen, _, err := freeAddr()
		if err != nil {
			return err
		}
		if err := b.startGateway(ctx, g, "--bucket", store.url(), "--private-network=false", "--host-name", fmt.Sprint("h", i), "--host-listen", listen); err != nil {
			return err
		}
		sides = append(sides, g.side)
		if i > 0 {
			break
		}
		for n := range bucketScrolls { // before there is another host, so that this one has the tenant
			if _, _, err := g.once(ctx, patience, g.request("POST", updateOf("notes", n), []byte(numbered(scrollSize)(0)))); err != nil {
				return err
			}
		}
	}
	if err := warmWrites(ctx, sides); err != nil {
		return err
	}
	b.showRates("hosts-select", "select of 200 bytes at two hosts, 16 connections", b.inTurns(ctx, sides, manyConnections, selecting(bucketScrolls, "notes")))
	b.showRates("hosts-update", "update of 200 bytes at two hosts with a bucket of 1 ms, 16 connections", b.inTurns(ctx, sides, manyConnections, writingTexts))
	return nil
}
