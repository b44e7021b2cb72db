package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// cellConnections holds idle connections, each of which has been used once.
func (b *bench) cellConnections(ctx context.Context) error {
	var rows [][]string
	for _, n := range []int{5000, 10000} {
		row, err := b.connectionsOf(ctx, n)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	b.table("Idle client connections", []string{"connections", "sqgate's memory", "before", "each", "a select meanwhile"}, rows)
	return nil
}

func (b *bench) connectionsOf(ctx context.Context, n int) ([]string, error) {
	g, err := b.gateOn(ctx, "sqgate", "notes", "x")
	if err != nil {
		return nil, err
	}
	defer g.process.stop()
	time.Sleep(settle)
	before, _ := memory(g.pid())
	open, err := g.connect(ctx, n)
	defer func() {
		for _, c := range open {
			c.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	time.Sleep(settle)
	now, _ := memory(g.pid())
	took, _, err := g.once(ctx, patience, g.request("GET", selectOf("notes", 0), nil))
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprint(n), inMB(now), inMB(before), fmt.Sprintf("%.1f KB", float64(now-before)/float64(n)/1024), inSeconds(took.Seconds())}, nil
}

// connect opens n connections and asks each for the health.
func (g *gate) connect(ctx context.Context, n int) (open []*caller, err error) {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
	)
	const openers = 8
	for range openers {
		group.Go(func() {
			for range n / openers {
				c := newCaller(g.side, time.Now().Add(patience))
				status, _, e := c.call(ctx, g.request("GET", "/health", nil))
				if e == nil && status != 200 {
					e = fmt.Errorf("health answered %d", status)
				}
				mu.Lock()
				open = append(open, c)
				if e != nil {
					err = e
				}
				mu.Unlock()
				if e != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return open, err
}
