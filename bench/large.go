package main

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// patience is for requests that take long.
const patience = 2 * time.Minute

// largeTimes is how often each of these cells is measured.
const largeTimes = 3

// cellScroll writes a large scroll and reads it.
func (b *bench) cellScroll(ctx context.Context) error {
	const size = 64 << 20
	body := []byte(strings.Repeat("sixteen letters\n", size/16))
	columns := []column{{"update", aTime}, {"first select", aTime}, {"next select", aTime}, {"memory", aSize}, {"peak", aSize}}
	_, err := b.repeated(ctx, largeTimes, "scroll", "One scroll of 64 MB, written and read", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "small", "x")
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		get := g.request("GET", selectOf("large", 0), nil)
		return g.times(ctx, g.request("POST", updateOf("large", 0), body), get, get)
	})
	return err
}

// cellPhext reads a large phext of scrolls of 1 MB.
func (b *bench) cellPhext(ctx context.Context) error {
	text := textOf(200, numbered(1<<20))
	columns := []column{{"first select", aTime}, {"next select", aTime}, {"toc", aTime}, {"memory", aSize}, {"peak", aSize}}
	_, err := b.repeated(ctx, largeTimes, "phext", "A phext of 200 scrolls of 1 MB, read", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "large", text)
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		return g.times(ctx, g.get(selectOf("large", 1)), g.get(selectOf("large", 2)), g.get("/api/v2/toc?p=large"))
	})
	return err
}

// cellNames reads from a phext in which every scroll has a name. The names are
// put on the disk as sqgate keeps them: in a parallel phext, each at the
// coordinate of its scroll.
func (b *bench) cellNames(ctx context.Context) error {
	const n = 100000
	before := strings.Repeat(libraryBreak, 998) // scrolls with names begin at 999.1.1/1.1.1/1.1.1
	text := before + textOf(n, numbered(100))
	names := before + textOf(n, func(i int) string { return "bench.1.1/name." + strconv.Itoa(i) + "/1.1.1" })
	columns := []column{{"first select by name", aTime}, {"next select", aTime}, {"toc", aTime}, {"memory", aSize}, {"peak", aSize}}
	_, err := b.repeated(ctx, largeTimes, "names", "100,000 scrolls with names, read", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "large", text)
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		if err := putPhext(g.dataDir(0), "large.names", names); err != nil {
			return nil, err
		}
		const named = "/api/v2/select?p=large&c=bench.1.1/name."
		return g.times(ctx, g.get(named+"77/1.1.1"), g.get(named+"4711/1.1.1"), g.get("/api/v2/toc?p=large"))
	})
	return err
}

func (g *gateway) get(target string) []byte { return g.request("GET", target, nil) }

// times asks one request after the other. It returns the time that each took,
// in seconds, then the memory that the gateway has now and had at the most.
func (g *gateway) times(ctx context.Context, requests ...[]byte) (values []float64, err error) {
	for _, r := range requests {
		took, _, err := g.once(ctx, patience, r)
		if err != nil {
			return nil, err
		}
		values = append(values, took.Seconds())
	}
	now, peak := memory(g.pid())
	return append(values, now, peak), nil
}
