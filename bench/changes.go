package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// cellChanges has a thousand connections listen for changes while a phext is written to:
// for those of another tenant, and then for those that are made. What they are told stays
// in their sockets, so that the client costs nothing.
func (b *bench) cellChanges(ctx context.Context) error {
	columns := []column{{"nobody listens", aRate}, {"1,000 to another tenant", aRate}, {"1,000 to these updates", aRate}, {"memory for 1,000", aSize}}
	_, err := b.repeated(ctx, 4, "changes", "update of 200 bytes, 16 connections, while 1,000 listen for changes", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.newGateway(of, "", 2)
		if err != nil {
			return nil, err
		}
		if err := putPhext(g.dataDir(0), "large", textOf(100, numbered(scrollSize))); err != nil {
			return nil, err
		}
		if err := b.startGateway(ctx, g); err != nil {
			return nil, err
		}
		defer g.process.stop()
		pick := inTheLarge("")(g.side)
		drive(ctx, g.side, manyConnections, time.Second, pick)
		alone := drive(ctx, g.side, manyConnections, b.time, pick)
		if alone.firstErr != nil {
			return nil, alone.firstErr
		}
		values := []float64{alone.rate}
		for _, s := range []side{g.as(1), g.side} {
			before, _ := memory(g.pid())
			end, err := listen(ctx, s)
			if err == nil {
				with := drive(ctx, g.side, manyConnections, b.time, pick)
				now, _ := memory(g.pid())
				values, err = append(values, with.rate, now-before), with.firstErr
			}
			end()
			if err != nil {
				return nil, err
			}
		}
		return []float64{values[0], values[1], values[3], values[2]}, nil
	})
	return err
}

// listen has a thousand connections listen to a tenant, until end is called.
func listen(ctx context.Context, s side) (end func(), err error) {
	var open []*caller
	end = func() {
		for _, c := range open {
			c.close()
		}
	}
	for range 1000 {
		c := newCaller(s, time.Now().Add(patience))
		if err := c.dial(ctx); err != nil {
			return end, err
		}
		open = append(open, c)
		if _, err := c.conn.Write(s.request("GET", "/api/v2/changes", nil, "Accept: text/event-stream")); err != nil {
			return end, err
		}
		answer, err := http.ReadResponse(c.in, nil)
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s answered a listener %s", s.name, answer.Status)
		}
		if err != nil {
			return end, err
		}
	}
	return end, nil
}
