package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// patience is for what takes long.
const patience = 2 * time.Minute

// directPatience is for SQ itself, which may take far longer: what it has not
// done by then is reported as this long, in its favour.
const directPatience = 90 * time.Second

// starts is how often a gateway is started to time its first read.
const starts = 5

func (b *bench) cellLargePhext(ctx context.Context) error {
	text := textOf(20000, numbered(scrollSize))
	first, toc, err := b.largeDirect(ctx, text)
	if err != nil {
		return err
	}
	var firsts, rates []float64
	for range starts {
		f, rate, err := b.largeGate(ctx, text)
		if err != nil {
			return err
		}
		firsts, rates = append(firsts, f), append(rates, rate)
	}
	f, r := spreadOf(firsts), spreadOf(rates)
	b.table("20,000 scrolls, 4 MB", []string{"side", "first read after a start", "toc, a second"}, [][]string{
		{"SQ, direct", inSeconds(first), fmt.Sprintf("%.3f (one took %s)", 1/toc, inSeconds(toc))},
		{"sqgate", inSeconds(f.median) + " (" + inSeconds(f.low) + " to " + inSeconds(f.high) + ")", fmt.Sprintf("%.0f (%.0f to %.0f)", r.median, r.low, r.high)},
	})
	b.keep("first-read", "SQ, direct", first)
	b.keep("first-read", "sqgate", f.median)
	b.keep("toc", "SQ, direct", 1/toc)
	b.keep("toc", "sqgate", r.median)
	return nil
}

// largeDirect times SQ's first read, and a toc behind it. SQ answers one
// request at a time under one lock, so that one says what many would take.
func (b *bench) largeDirect(ctx context.Context, text string) (first, toc float64, err error) {
	s, err := b.sqOn(ctx, b.startSQ, map[string]string{"large": text})
	if err != nil {
		return 0, 0, err
	}
	defer s.process.kill()
	took, _, err := s.once(ctx, directPatience, s.request("GET", selectOf("large", 7), nil))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.note("SQ took more than %v to open 20,000 scrolls, and is taken to need that long, and as long for a toc", directPatience)
		return directPatience.Seconds(), directPatience.Seconds(), nil
	}
	if err != nil {
		return 0, 0, err
	}
	again, _, err := s.once(ctx, directPatience, s.request("GET", "/api/v2/toc?p=large", nil))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.note("SQ took more than %v for a toc of 20,000 scrolls, and is taken to need that long", directPatience)
		return took.Seconds(), directPatience.Seconds(), nil
	}
	return took.Seconds(), again.Seconds(), err
}

func (b *bench) largeGate(ctx context.Context, text string) (first, tocRate float64, err error) {
	g, err := b.gateOn(ctx, "sqgate", "large", text)
	if err != nil {
		return 0, 0, err
	}
	defer g.process.stop()
	took, _, err := g.once(ctx, patience, g.request("GET", selectOf("large", 7), nil))
	if err != nil {
		return 0, 0, err
	}
	toc := g.request("GET", "/api/v2/toc?p=large", nil)
	l := drive(ctx, g.side, manyConnections, b.time/starts, func(int, int) []byte { return toc })
	return took.Seconds(), l.rate, l.firstErr
}

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
