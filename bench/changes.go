package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// cellChanges has a thousand connections listen for the changes of the phext that is
// written to. What they are told stays in their sockets, so that the client costs nothing.
func (b *bench) cellChanges(ctx context.Context) error {
	const listeners = 1000
	columns := []column{{"updates, nobody listening", aRate}, {"updates, 1,000 listening", aRate}, {"memory for them", aSize}}
	_, err := b.repeated(ctx, 5, "changes", "update of 200 bytes, 16 connections, while 1,000 listen for changes", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "large", textOf(100, numbered(scrollSize)))
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		pick := inTheLarge("")(g.side)
		drive(ctx, g.side, manyConnections, time.Second, pick)
		alone := drive(ctx, g.side, manyConnections, 3*time.Second, pick)
		before, _ := memory(g.pid())
		for range listeners {
			c := newCaller(g.side, time.Now().Add(patience))
			if err := c.dial(ctx); err != nil {
				return nil, err
			}
			defer c.close()
			if _, err := c.conn.Write(g.request("GET", "/api/v2/changes", nil, "Accept: text/event-stream")); err != nil {
				return nil, err
			}
			answer, err := http.ReadResponse(c.in, nil)
			if err != nil {
				return nil, err
			}
			if answer.StatusCode != http.StatusOK {
				return nil, fmt.Errorf("%s answered a listener %s", g.name, answer.Status)
			}
		}
		with := drive(ctx, g.side, manyConnections, 3*time.Second, pick)
		now, _ := memory(g.pid())
		if err := alone.firstErr; err != nil {
			return nil, err
		}
		return []float64{alone.rate, with.rate, now - before}, with.firstErr
	})
	return err
}
