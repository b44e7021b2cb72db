package main

import (
	"context"
	"fmt"
	"time"
)

// settle is how long a process is left alone before its memory is read.
const settle = time.Second

// cellWake times first requests to tenants whose children do not run: a write
// needs one, a read does not.
func (b *bench) cellWake(ctx context.Context) error {
	const tenants = 20
	g, err := b.newGate("sqgate", 2*tenants)
	if err != nil {
		return err
	}
	for i := range 2 * tenants {
		if err := putPhext(g.dataDir(i), "notes", textOf(100, numbered(scrollSize))); err != nil {
			return err
		}
	}
	if err := b.startGate(ctx, g); err != nil {
		return err
	}
	defer g.process.stop()
	var reads, writes []float64
	for i := range tenants {
		s := g.as(i)
		took, _, err := s.once(ctx, patience, s.request("GET", selectOf("notes", 1), nil))
		if err != nil {
			return err
		}
		reads = append(reads, took.Seconds())
	}
	woken := len(childrenOf(g.pid()))
	for i := range tenants {
		s := g.as(tenants + i)
		took, _, err := s.once(ctx, patience, s.request("POST", updateOf("notes", 1), []byte("woken")))
		if err != nil {
			return err
		}
		writes = append(writes, took.Seconds())
	}
	read, write := spreadOf(reads), spreadOf(writes)
	b.table("First request to a tenant whose child is stopped, 20 tenants each; "+timeWait()+" sockets of this host are in TIME_WAIT", []string{"request", "median", "lowest", "highest", "children started"}, [][]string{
		{"select", inSeconds(read.median), inSeconds(read.low), inSeconds(read.high), fmt.Sprint(woken)},
		{"update", inSeconds(write.median), inSeconds(write.low), inSeconds(write.high), fmt.Sprint(len(childrenOf(g.pid())) - woken)},
	})
	b.keep("wake", "read", read.median)
	b.keep("wake", "write", write.median)
	b.keep("wake", "children for reads", float64(woken))
	return nil
}

// cellTenants weighs tenants that do nothing, and reads their file again.
func (b *bench) cellTenants(ctx context.Context) error {
	var rows [][]string
	resident := map[int]int64{}
	for _, n := range []int{500, 2500, 5000} {
		now, reload, err := b.tenantsOf(ctx, n)
		if err != nil {
			return err
		}
		resident[n] = now
		rows = append(rows, []string{fmt.Sprint(n), inMB(now), inSeconds(reload.median) + " (" + inSeconds(reload.low) + " to " + inSeconds(reload.high) + ")"})
	}
	b.table("Tenants configured and idle", []string{"tenants", "resident memory", "reload of the file, all tenants changed"}, rows)
	b.keep("tenants", "500", float64(resident[500]))
	b.keep("tenants", "each further", float64(resident[5000]-resident[500])/4500)
	return nil
}

func (b *bench) tenantsOf(ctx context.Context, n int) (resident int64, reload spread, err error) {
	g, err := b.newGate("sqgate", n)
	if err != nil {
		return 0, spread{}, err
	}
	if err := b.startGate(ctx, g); err != nil {
		return 0, spread{}, err
	}
	defer g.process.stop()
	time.Sleep(settle)
	resident, _ = memory(g.pid())
	manager := g.side
	manager.key = adminKey
	var times []float64
	for i := range 3 {
		if err := g.writeConfig(n, 2000+i); err != nil {
			return 0, spread{}, err
		}
		took, _, err := manager.once(ctx, patience, manager.request("POST", "/api/v2/admin/reload", nil))
		if err != nil {
			return 0, spread{}, err
		}
		times = append(times, took.Seconds())
	}
	return resident, spreadOf(times), nil
}

// cellChildren has many children live at once.
func (b *bench) cellChildren(ctx context.Context) error {
	var rows [][]string
	for _, n := range []int{100, 200} {
		row, err := b.childrenOfSize(ctx, n)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	b.table("Live children", []string{"children", "all started within", "sqgate's memory", "before", "all children's"}, rows)
	return nil
}

func (b *bench) childrenOfSize(ctx context.Context, n int) ([]string, error) {
	g, err := b.newGate("sqgate", n)
	if err != nil {
		return nil, err
	}
	if err := b.startGate(ctx, g); err != nil {
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
	children, all := childrenOf(g.pid()), int64(0)
	for _, pid := range children {
		child, _ := memory(pid)
		all += child
	}
	return []string{fmt.Sprint(len(children)), inSeconds(took.Seconds()), inMB(now), inMB(before), inMB(all)}, nil
}
