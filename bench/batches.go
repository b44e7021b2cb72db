package main

import (
	"context"
	"encoding/json"
	"time"
)

// batchSize is how many updates one batch has.
const batchSize = 100

// cellBatch makes a hundred updates of a phext one by one, and the same as one batch. The
// last column is an update after a batch, for which SQ reads the file again.
func (b *bench) cellBatch(ctx context.Context) error {
	columns := []column{{"100 updates, 1 connection", aTime}, {"100 updates, 16 connections", aTime}, {"a batch of 100", aTime}, {"an update after it", aTime}}
	_, err := b.repeated(ctx, 4, "batch", "100 updates of 200 bytes in a phext of 1,000 scrolls", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "notes", textOf(1000, numbered(scrollSize)))
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		pick := updating(g.side)
		if _, _, err := g.once(ctx, patience, pick(0, 0)); err != nil {
			return nil, err
		}
		var values []float64
		for _, conns := range []int{1, manyConnections} {
			single := drive(ctx, g.side, conns, b.time, pick)
			if single.firstErr != nil {
				return nil, single.firstErr
			}
			values = append(values, batchSize/single.rate)
		}
		together := g.request("POST", "/api/v2/batch?p=notes", batchOf(batchSize))
		var batches, after time.Duration
		const times = 20
		for range times {
			took, _, err := g.once(ctx, patience, together)
			if err != nil {
				return nil, err
			}
			batches += took
			if took, _, err = g.once(ctx, patience, pick(0, 0)); err != nil {
				return nil, err
			}
			after += took
		}
		return append(values, batches.Seconds()/times, after.Seconds()/times), nil
	})
	return err
}

// batchOf is the body of a batch of so many updates.
func batchOf(n int) []byte {
	type operation struct {
		Op string `json:"op"`
		C  string `json:"c"`
		S  string `json:"s"`
	}
	var body struct {
		Operations []operation `json:"operations"`
	}
	for i := range n {
		body.Operations = append(body.Operations, operation{"update", at(i), numbered(scrollSize)(i)})
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // which strings never are
	}
	return text
}
