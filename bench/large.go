package main

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// patience is for what takes long.
const patience = 2 * time.Minute

// cellScroll writes and reads a large scroll, each size on a gateway of its own.
func (b *bench) cellScroll(ctx context.Context) error {
	var rows [][]string
	for _, size := range []int{32 << 20, 64 << 20} {
		row, err := b.scrollOf(ctx, size)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	b.table("One scroll, written and read through sqgate", []string{"size", "update", "first select", "next select", "sqgate's peak memory"}, rows)
	return nil
}

func (b *bench) scrollOf(ctx context.Context, size int) ([]string, error) {
	g, err := b.gateOn(ctx, "sqgate", "small", "x")
	if err != nil {
		return nil, err
	}
	defer g.process.stop()
	body := []byte(strings.Repeat("sixteen letters\n", size/16))
	row := []string{inMB(int64(size))}
	for _, r := range [][]byte{g.request("POST", updateOf("large", 0), body), g.request("GET", selectOf("large", 0), nil), g.request("GET", selectOf("large", 0), nil)} {
		took, _, err := g.once(ctx, patience, r)
		if err != nil {
			return nil, err
		}
		row = append(row, inSeconds(took.Seconds()))
	}
	_, peak := memory(g.pid())
	return append(row, inMB(peak)), nil
}

// cellPhext reads a phext of scrolls of 1 MB.
func (b *bench) cellPhext(ctx context.Context) error {
	var rows [][]string
	for _, n := range []int{100, 200} {
		row, err := b.phextOf(ctx, n)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	b.table("A phext of scrolls of 1 MB, read through sqgate", []string{"size", "first select", "next select", "toc", "memory", "peak"}, rows)
	return nil
}

func (b *bench) phextOf(ctx context.Context, n int) ([]string, error) {
	g, err := b.gateOn(ctx, "sqgate", "large", textOf(n, numbered(1<<20)))
	if err != nil {
		return nil, err
	}
	defer g.process.stop()
	row := []string{inMB(int64(n) << 20)}
	for _, target := range []string{selectOf("large", 1), selectOf("large", 2), "/api/v2/toc?p=large"} {
		took, _, err := g.once(ctx, patience, g.request("GET", target, nil))
		if err != nil {
			return nil, err
		}
		row = append(row, inSeconds(took.Seconds()))
	}
	now, peak := memory(g.pid())
	return append(row, inMB(now), inMB(peak)), nil
}

// cellNames reads from a phext whose scrolls all have names. They are put on
// disk as sqgate keeps them: the name of a scroll stands at the same coordinate
// of a parallel phext.
func (b *bench) cellNames(ctx context.Context) error {
	var rows [][]string
	for _, n := range []int{50000, 100000} {
		row, err := b.namesOf(ctx, n)
		if err != nil {
			b.note("names were left out: %v", err)
			return nil
		}
		rows = append(rows, row)
	}
	b.table("Named scrolls, read through sqgate", []string{"names", "first select by name", "next select", "toc", "memory", "peak"}, rows)
	return nil
}

func (b *bench) namesOf(ctx context.Context, n int) ([]string, error) {
	last := strings.Repeat(libraryBreak, 998) // names begin at 999.1.1/1.1.1/1.1.1
	g, err := b.gateOn(ctx, "sqgate", "large", last+textOf(n, numbered(100)))
	if err != nil {
		return nil, err
	}
	defer g.process.stop()
	names := last + textOf(n, func(i int) string { return "bench.1.1/name." + strconv.Itoa(i) + "/1.1.1" })
	if err := putPhext(g.dataDir(0), "large.names", names); err != nil {
		return nil, err
	}
	row := []string{strconv.Itoa(n)}
	for _, target := range []string{"/api/v2/select?p=large&c=bench.1.1/name.77/1.1.1", "/api/v2/select?p=large&c=bench.1.1/name.4711/1.1.1", "/api/v2/toc?p=large"} {
		took, _, err := g.once(ctx, patience, g.request("GET", target, nil))
		if err != nil {
			return nil, err
		}
		row = append(row, inSeconds(took.Seconds()))
	}
	now, peak := memory(g.pid())
	return append(row, inMB(now), inMB(peak)), nil
}
