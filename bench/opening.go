package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// directPatience is for SQ itself, which may take far longer: what it has not
// done by then is reported as this long, in its favour.
const directPatience = 90 * time.Second

// starts is how often a gateway is started to time its first read.
const starts = 5

func (b *bench) cellLargePhext(ctx context.Context) error {
	text := textOf(20000, numbered(scrollSize))
	var rows [][]string
	for _, sq := range b.builds() {
		row, err := b.openedDirect(ctx, sq, text)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	row, err := b.openedByGates(ctx, text)
	if err != nil {
		return err
	}
	b.table("20,000 scrolls, 4 MB", []string{"side", "first read after a start", "toc, a second"}, append(rows, row))
	return nil
}

// openedDirect is the row of a build of SQ. It answers one request at a time
// under one lock, so that one toc says what many would take.
func (b *bench) openedDirect(ctx context.Context, sq build, text string) ([]string, error) {
	first, toc, err := b.timesDirect(ctx, sq, text)
	if err != nil {
		return nil, err
	}
	b.keep("first-read", sq.side, first.Seconds())
	b.keep("toc", sq.side, 1/toc.Seconds())
	return []string{sq.side, inSeconds(first.Seconds()), fmt.Sprintf("%.3f (one took %s)", 1/toc.Seconds(), inSeconds(toc.Seconds()))}, nil
}

// timesDirect times a build's first read, and a toc behind it.
func (b *bench) timesDirect(ctx context.Context, sq build, text string) (first, toc time.Duration, err error) {
	s, err := b.buildOn(ctx, sq, map[string]string{"large": text})
	if err != nil {
		return 0, 0, err
	}
	defer s.process.kill()
	first, _, err = s.once(ctx, directPatience, s.request("GET", selectOf("large", 7), nil))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.note("%s: more than %v to open 20,000 scrolls, taken to be that long, and as long for a toc", s.name, directPatience)
		return directPatience, directPatience, nil
	}
	if err != nil {
		return 0, 0, err
	}
	toc, _, err = s.once(ctx, directPatience, s.request("GET", "/api/v2/toc?p=large", nil))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.note("%s: more than %v for a toc of 20,000 scrolls, taken to be that long", s.name, directPatience)
		return first, directPatience, nil
	}
	return first, toc, err
}

// openedByGates is the row of gateways, each of which is started anew.
func (b *bench) openedByGates(ctx context.Context, text string) ([]string, error) {
	var firsts, rates []float64
	for range starts {
		first, rate, err := b.largeGate(ctx, text)
		if err != nil {
			return nil, err
		}
		firsts, rates = append(firsts, first), append(rates, rate)
	}
	f, r := spreadOf(firsts), spreadOf(rates)
	b.keep("first-read", "sqgate", f.median)
	b.keep("toc", "sqgate", r.median)
	return []string{"sqgate", inSeconds(f.median) + " (" + inSeconds(f.low) + " to " + inSeconds(f.high) + ")", fmt.Sprintf("%.0f (%.0f to %.0f)", r.median, r.low, r.high)}, nil
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
