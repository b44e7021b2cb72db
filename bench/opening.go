package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// directPatience is for SQ itself, which may take far longer: what it has not
// done by then is reported as this long, in its favour.
const directPatience = 90 * time.Second

const tocOfLarge = "/api/v2/toc?p=large"

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
	b.table("20,000 scrolls, 4 MB", []string{"side", "first read after a start", "toc, a second", "toc, not modified, a second"}, append(rows, row))
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
	return []string{sq.side, inSeconds(first.Seconds()), fmt.Sprintf("%.3f (one took %s)", 1/toc.Seconds(), inSeconds(toc.Seconds())), "-"}, nil
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
	toc, _, err = s.once(ctx, directPatience, s.request("GET", tocOfLarge, nil))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.note("%s: more than %v for a toc of 20,000 scrolls, taken to be that long", s.name, directPatience)
		return first, directPatience, nil
	}
	return first, toc, err
}

// opened is what one gateway came to: seconds to its first read, and answers a second.
type opened struct{ first, toc, notModified float64 }

// openedByGates is the row of gateways, each of which is started anew.
func (b *bench) openedByGates(ctx context.Context, text string) ([]string, error) {
	var firsts, tocs, notModified []float64
	for range starts {
		o, err := b.largeGate(ctx, text)
		if err != nil {
			return nil, err
		}
		firsts, tocs, notModified = append(firsts, o.first), append(tocs, o.toc), append(notModified, o.notModified)
	}
	f, t, n := spreadOf(firsts), spreadOf(tocs), spreadOf(notModified)
	b.keep("first-read", "sqgate", f.median)
	b.keep("toc", "sqgate", t.median)
	return []string{"sqgate", f.in(inSeconds), t.in(inRate), n.in(inRate)}, nil
}

func (b *bench) largeGate(ctx context.Context, text string) (o opened, err error) {
	g, err := b.gateOn(ctx, "sqgate", "large", text)
	if err != nil {
		return o, err
	}
	defer g.process.stop()
	first, _, err := g.once(ctx, patience, g.request("GET", selectOf("large", 7), nil))
	if err != nil {
		return o, err
	}
	o.first = first.Seconds()
	if o.toc, err = b.tocRate(ctx, g.side); err != nil {
		return o, err
	}
	tag, err := g.tagOf(ctx, g.request("GET", tocOfLarge, nil))
	if err != nil {
		return o, err
	}
	o.notModified, err = b.tocRate(ctx, g.expecting(http.StatusNotModified), "If-None-Match: "+tag)
	return o, err
}

// tocRate is how many answers to toc a side gives in a second, asked with further header lines.
func (b *bench) tocRate(ctx context.Context, s side, headers ...string) (float64, error) {
	toc := s.request("GET", tocOfLarge, nil, headers...)
	l := drive(ctx, s, manyConnections, b.time/starts, func(int, int) []byte { return toc })
	return l.rate, l.firstErr
}
