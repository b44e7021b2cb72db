package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// settle is how long a process is left alone before its memory is read.
const settle = time.Second

// wakeTenants is how many tenants are asked for the first time, for each kind of request.
const wakeTenants = 20

// cellWake times first requests to tenants whose children do not run: a write
// needs one, a read does not.
func (b *bench) cellWake(ctx context.Context) error {
	var gateways []*gateway
	defer func() {
		for _, g := range gateways {
			g.process.stop()
		}
	}()
	for _, of := range b.binaries {
		g, err := b.sleeping(ctx, of)
		if err != nil {
			return err
		}
		gateways = append(gateways, g)
	}
	t := newTable("side", "request", "median", "lowest", "highest", "children started")
	for _, k := range []struct {
		name  string
		first int // tenant
		text  func(side) []byte
	}{
		{"select", 0, func(s side) []byte { return s.request("GET", selectOf("notes", 1), nil) }},
		{"update", wakeTenants, func(s side) []byte { return s.request("POST", updateOf("notes", 1), []byte("woken")) }},
	} {
		all, err := firstRequests(ctx, gateways, k.first, k.text)
		if err != nil {
			return err
		}
		for i, g := range gateways {
			s, started := spreadOf(all[i]), len(childrenOf(g.pid()))
			t.add(g.name, k.name, inSeconds(s.median), inSeconds(s.low), inSeconds(s.high), fmt.Sprint(started))
			b.record("wake-"+k.name, g.name, s.median)
			b.record("wake-"+k.name+"-children", g.name, float64(started))
			b.compare("wake", k.name, aTime, g.name, all[i]...)
		}
	}
	b.show(fmt.Sprintf("First request to a tenant whose child is stopped, %d tenants each; %s sockets of this host are in TIME_WAIT", wakeTenants, timeWait()), t)
	return nil
}

// sleeping starts a gateway with tenants whose children do not run.
func (b *bench) sleeping(ctx context.Context, of binary) (*gateway, error) {
	g, err := b.newGateway(of, "", 2*wakeTenants)
	if err != nil {
		return nil, err
	}
	for i := range 2 * wakeTenants {
		if err := putPhext(g.dataDir(i), "notes", textOf(100, numbered(scrollSize))); err != nil {
			return nil, err
		}
	}
	return g, b.startGateway(ctx, g)
}

// firstRequests times one request for each tenant from the first on, at all
// gateways in turns, in seconds.
func firstRequests(ctx context.Context, gateways []*gateway, first int, text func(side) []byte) (times [][]float64, err error) {
	times = make([][]float64, len(gateways))
	for i := range wakeTenants {
		for j, g := range gateways {
			s := g.as(first + i)
			took, _, err := s.once(ctx, patience, text(s))
			if err != nil {
				return nil, err
			}
			times[j] = append(times[j], took.Seconds())
		}
	}
	return times, nil
}

// cellTenants measures tenants that do nothing, and a reload of their file.
func (b *bench) cellTenants(ctx context.Context) error {
	for _, n := range []int{500, 5000} {
		cell := fmt.Sprintf("tenants, %d", n)
		columns := []column{{"resident memory", aSize}, {"reload of the file, all tenants changed", aTime}}
		s, err := b.repeated(ctx, 3, cell, fmt.Sprintf("%d tenants, configured and idle", n), columns, func(ctx context.Context, of binary) ([]float64, error) {
			return b.tenantsOf(ctx, of, n)
		})
		if err != nil {
			return err
		}
		b.record("tenants", fmt.Sprint(n), s[0].median)
	}
	b.record("tenants", "each further", (b.values["tenants/5000"]-b.values["tenants/500"])/4500)
	return nil
}

func (b *bench) tenantsOf(ctx context.Context, of binary, n int) ([]float64, error) {
	g, err := b.newGateway(of, "", n)
	if err != nil {
		return nil, err
	}
	if err := b.startGateway(ctx, g); err != nil {
		return nil, err
	}
	defer g.process.stop()
	time.Sleep(settle)
	resident, _ := memory(g.pid())
	operator := g.side
	operator.key = adminKey
	var times []float64
	for i := range 3 {
		if err := g.writeConfig(n, 2000+i); err != nil {
			return nil, err
		}
		took, _, err := operator.once(ctx, patience, operator.request("POST", "/api/v2/admin/reload", nil))
		if err != nil {
			return nil, err
		}
		times = append(times, took.Seconds())
	}
	return []float64{resident, spreadOf(times).median}, nil
}

// cellChildren has many children live at once.
func (b *bench) cellChildren(ctx context.Context) error {
	const n = 200
	columns := []column{{"all started within", aTime}, {"sqgate's memory", aSize}, {"without children", aSize}, {"memory of all children", aSize}}
	_, err := b.repeated(ctx, 1, "children", fmt.Sprintf("%d live children", n), columns, func(ctx context.Context, of binary) ([]float64, error) {
		return b.childrenAt(ctx, of, n)
	})
	return err
}

func (b *bench) childrenAt(ctx context.Context, of binary, n int) ([]float64, error) {
	g, err := b.newGateway(of, "", n)
	if err != nil {
		return nil, err
	}
	if err := b.startGateway(ctx, g); err != nil {
		return nil, err
	}
	defer g.process.stop()
	time.Sleep(settle)
	before, _ := memory(g.pid())
	start := time.Now()
	for i := range n {
		s := g.as(i)
		if _, _, err := s.once(ctx, patience, s.request("POST", updateOf("notes", 0), []byte("hello"))); err != nil {
			return nil, err
		}
	}
	took := time.Since(start)
	time.Sleep(settle)
	now, _ := memory(g.pid())
	children, all := childrenOf(g.pid()), 0.
	for _, pid := range children {
		child, _ := memory(pid)
		all += child
	}
	if len(children) != n {
		return nil, fmt.Errorf("%s has %d children instead of %d", g.name, len(children), n)
	}
	return []float64{took.Seconds(), now, before, all}, nil
}

// cellConnections holds idle connections, each of which has been used once.
func (b *bench) cellConnections(ctx context.Context) error {
	const n = 10000
	columns := []column{{"sqgate's memory", aSize}, {"without connections", aSize}, {"a select meanwhile", aTime}}
	_, err := b.repeated(ctx, 1, "connections", fmt.Sprintf("%d idle client connections", n), columns, func(ctx context.Context, of binary) ([]float64, error) {
		return b.connectionsTo(ctx, of, n)
	})
	return err
}

func (b *bench) connectionsTo(ctx context.Context, of binary, n int) ([]float64, error) {
	g, err := b.gatewayOn(ctx, of, "", "notes", "x")
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
	return []float64{now, before, took.Seconds()}, err
}

// connect opens n connections and asks for the health on each.
func (g *gateway) connect(ctx context.Context, n int) (open []*caller, err error) {
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
				if e == nil {
					e = g.check(status)
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
