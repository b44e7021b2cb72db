package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

// bucketLatencies are the times that a bucket takes for each request.
var bucketLatencies = []time.Duration{time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond}

const noBucket = "no bucket"

// inBucket names the sides with a bucket of a latency.
func inBucket(latency time.Duration) string { return fmt.Sprintf("bucket of %v", latency) }

// bucketScrolls is how many scrolls the phext has that is written.
const bucketScrolls = 64

// bucketWrites is how many writes each connection makes to count what they cost.
const bucketWrites = 30

// writingTexts has each connection update a scroll of its own with a text that can hardly be
// compressed: texts that are all the same would cost a bucket next to nothing.
func writingTexts(s side) func(conn, i int) []byte {
	all := make([][]byte, bucketScrolls)
	for i := range all {
		var text string
		for len(text) < scrollSize {
			text += rand.Text()
		}
		all[i] = s.request("POST", updateOf("notes", i), []byte(text[:scrollSize]))
	}
	return func(conn, _ int) []byte { return all[conn] }
}

// updatesInBucket is a cell in which so many connections update, with buckets and without.
func updatesInBucket(conns int) func(*bench, context.Context) error {
	return func(b *bench, ctx context.Context) (err error) {
		var sides []side
		defer func() { stopAll(sides) }()
		plain, err := b.gatewayOn(ctx, b.binaries[0], noBucket, "notes", textOf(bucketScrolls, numbered(scrollSize)))
		if err != nil {
			return err
		}
		sides = append(sides, plain.side)
		stores := map[string]*objectStore{}
		for _, latency := range bucketLatencies {
			store := newObjectStore(latency)
			defer store.Close()
			s, err := b.gatewayInBucket(ctx, b.binaries[0], inBucket(latency), store)
			if err != nil {
				return err
			}
			sides, stores[s.name] = append(sides, s), store
		}
		if err := warmWrites(ctx, sides); err != nil {
			return err
		}
		results := b.inTurns(ctx, sides, conns, writingTexts)
		return b.showBuckets(ctx, conns, results, stores)
	}
}

// gatewayInBucket starts a gateway with an empty bucket, and writes the phext.
func (b *bench) gatewayInBucket(ctx context.Context, of binary, detail string, store *objectStore) (side, error) {
	g, err := b.newGateway(of, detail, 1)
	if err != nil {
		return side{}, err
	}
	if err := b.fillBucket(ctx, g, store); err != nil {
		return side{}, err
	}
	if err := b.startGateway(ctx, g, "--bucket", store.url(), "--private-network=false"); err != nil {
		return side{}, err
	}
	body := []byte(numbered(scrollSize)(0))
	for i := range bucketScrolls {
		if _, _, err := g.once(ctx, patience, g.request("POST", updateOf("notes", i), body)); err != nil {
			g.process.stop()
			return side{}, err
		}
	}
	return g.side, nil
}

// inStore is what a gateway needs to use an objectStore.
var inStore = []string{"AWS_ACCESS_KEY_ID=" + storeKey, "AWS_SECRET_ACCESS_KEY=" + storeKey}

// fillBucket gives a gateway that does not run what it needs of a bucket, and puts its
// tenants there.
func (b *bench) fillBucket(ctx context.Context, g *gateway, store *objectStore) error {
	g.env = inStore
	if err := b.startGateway(ctx, g, "--private-network=false"); err != nil {
		return err
	}
	defer g.process.stop()
	cmd := exec.CommandContext(ctx, g.program, "bucket", "init", "--bucket", store.url(), "--url", "http://"+g.addr)
	cmd.Env = append(append(os.Environ(), g.env...), "SQ_ADMIN_KEY="+adminKey)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sqgate bucket init: %w: %s", err, said)
	}
	return nil
}

// showBuckets counts what a write costs on each side, and adds the cell to the report.
func (b *bench) showBuckets(ctx context.Context, conns int, results []result, stores map[string]*objectStore) error {
	cell := fmt.Sprintf("bucket-%d", conns)
	t := newTable("side", "a second", "of the turns", "to "+noBucket, "of the most", "p50", "p99", "requests a write", "bytes a write", "errors")
	for i, x := range results {
		most, requests, bytes := "-", "-", "-"
		if store := stores[x.name]; store != nil {
			most = inRatio(x.rate.median * store.latency.Seconds() / float64(conns))
			store.spent()
			if err := writeEach(ctx, x.side, conns, bucketWrites); err != nil {
				return err
			}
			n, size := store.spent()
			writes := float64(conns * bucketWrites)
			requests, bytes = inRatio(float64(n)/writes), inRate(float64(size)/writes)
		}
		t.add(x.name, inRate(x.rate.median), inRate(x.rate.low)+" to "+inRate(x.rate.high), inRatio(x.rate.median/results[0].rate.median), most,
			inSeconds(x.p50.median), inSeconds(x.p99.median), requests, bytes, fmt.Sprint(x.errors))
		b.recordRates(cell, results[i])
	}
	title := fmt.Sprintf("update of 200 bytes with a bucket, %d connections, on %s; the most are so many connections that wait for nothing but the bucket", conns, fileSystem(b.root))
	b.show(title, t)
	return nil
}

// writeEach has each of several connections write so often.
func writeEach(ctx context.Context, s side, conns, each int) (err error) {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
	)
	pick := writingTexts(s)
	for conn := range conns {
		group.Go(func() {
			c := newCaller(s, time.Now().Add(patience))
			defer c.close()
			for i := range each {
				status, _, failed := c.call(ctx, pick(conn, i))
				if failed == nil {
					failed = s.check(status)
				}
				if failed != nil {
					mu.Lock()
					err = failed
					mu.Unlock()
					return
				}
			}
		})
	}
	group.Wait()
	return err
}
