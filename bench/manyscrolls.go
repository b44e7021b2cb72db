package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// alternatingScrolls is how many scrolls each phext has. SQ as its authors lock it
// takes more than a second to load one.
const alternatingScrolls = 5000

func (b *bench) cellAlternating(ctx context.Context) (err error) {
	text := textOf(alternatingScrolls, numbered(scrollSize))
	phexts := map[string]string{"one": text, "two": text}
	var sides []side
	defer func() { stopAll(sides) }()
	var results []result
	for _, sq := range b.sqBuilds() {
		if !b.wants(sq.side) {
			continue
		}
		r, err := b.alone(ctx, sq, phexts)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	for _, of := range b.binaries {
		g, err := b.gatewayOn(ctx, of, "", "one", text)
		if err != nil {
			return err
		}
		sides = append(sides, g.side)
		if err := putPhext(g.dataDir(0), "two", text); err != nil {
			return err
		}
	}
	if b.wants(configMode) {
		if config, err := b.sqOn(ctx, b.startSQConfig, phexts); err == nil { // cellSelect notes why not
			sides = append(sides, config)
		}
	}
	if err := b.warm(ctx, sides, "one", "two"); err != nil {
		return err
	}
	results = append(results, b.inTurns(ctx, sides, manyConnections, selecting(100, "one", "two"))...)
	b.showRates("alternating", "select, two phexts of 5,000 scrolls in turn, 16 connections", results)
	return nil
}

// alone asks a build of SQ for both phexts. It has one turn and is killed then:
// SQ goes on with requests that nobody waits for any more, far into the next turn.
func (b *bench) alone(ctx context.Context, sq sqBuild, phexts map[string]string) (result, error) {
	s, err := b.buildOn(ctx, sq, phexts)
	if err != nil {
		return result{}, err
	}
	defer s.process.kill()
	turn := max(b.time, sq.turn)
	b.note("alternating, %s: one turn of %v instead of several", s.name, turn)
	return b.ratedAlone(ctx, s, turn)
}

func (b *bench) ratedAlone(ctx context.Context, s side, turn time.Duration) (result, error) {
	l := drive(ctx, s, manyConnections, turn, selecting(100, "one", "two")(s))
	if err := ctx.Err(); err != nil {
		return result{}, err
	}
	l, err := b.atLeastOne(s.name, turn, l)
	return resultOf(s, []load{l}), err
}

// atLeastOne gives a side without one answer in its turn the rate of one answer
// in that time, in its favour. A side with nothing but errors has no rate at all.
func (b *bench) atLeastOne(name string, turn time.Duration, l load) (load, error) {
	if l.rate > 0 {
		return l, nil
	}
	if l.firstErr != nil {
		return l, fmt.Errorf("%s: %w", name, l.firstErr)
	}
	b.note("%s gave not one answer in %v: its rate is the most that it can be, one answer in that time", name, turn)
	l.rate = 1 / turn.Seconds()
	return l, nil
}

// directPatience is how long SQ itself is waited for. What takes it longer is
// reported as this long, in its favour.
const directPatience = 45 * time.Second

const tocOfLarge = "/api/v2/toc?p=large"

// starts is how often a gateway is started, to time its first read each time.
const starts = 5

func (b *bench) cellLargePhext(ctx context.Context) error {
	text := textOf(20000, numbered(scrollSize))
	t := newTable("side", "first read after a start", "toc, a second", "toc, not modified, a second")
	for _, sq := range b.sqBuilds() {
		if !b.wants(sq.side) {
			continue
		}
		if err := b.openDirect(ctx, t, sq, text); err != nil {
			return err
		}
	}
	if err := b.openByGateways(ctx, t, text); err != nil {
		return err
	}
	b.show("20,000 scrolls, 4 MB", t)
	return nil
}

// openDirect adds the row of a build of SQ. SQ answers one request at a time,
// under one lock, so that the time of one toc says how many it can answer.
func (b *bench) openDirect(ctx context.Context, t *table, sq sqBuild, text string) error {
	first, toc, err := b.timesDirect(ctx, sq, text)
	if err != nil {
		return err
	}
	b.record("first-read", sq.side, first.Seconds())
	b.record("toc", sq.side, 1/toc.Seconds())
	t.add(sq.side, inSeconds(first.Seconds()), fmt.Sprintf("%.3f (one took %s)", 1/toc.Seconds(), inSeconds(toc.Seconds())), "-")
	return nil
}

// timesDirect times a build's first read, and a toc after it.
func (b *bench) timesDirect(ctx context.Context, sq sqBuild, text string) (first, toc time.Duration, err error) {
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

// opened is what was measured after one start of a gateway: the seconds until its
// first read was answered, and answers to toc a second.
type opened struct{ first, toc, notModified float64 }

// openByGateways adds a row for each binary. They are started in turns.
func (b *bench) openByGateways(ctx context.Context, t *table, text string) error {
	firsts, tocs, notModified := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for range starts {
		for _, of := range b.binaries {
			o, err := b.openByGateway(ctx, of, text)
			if err != nil {
				return err
			}
			firsts[of.name], tocs[of.name] = append(firsts[of.name], o.first), append(tocs[of.name], o.toc)
			notModified[of.name] = append(notModified[of.name], o.notModified)
		}
	}
	for _, of := range b.binaries {
		first, toc, unchanged := spreadOf(firsts[of.name]), spreadOf(tocs[of.name]), spreadOf(notModified[of.name])
		t.add(of.name, first.in(inSeconds), toc.in(inRate), unchanged.in(inRate))
		b.record("first-read", of.name, first.median)
		b.record("toc", of.name, toc.median)
		b.compare("large-phext", "first read after a start", aTime, of.name, firsts[of.name]...)
		b.compare("large-phext", "toc", aRate, of.name, tocs[of.name]...)
		b.compare("large-phext", "toc, not modified", aRate, of.name, notModified[of.name]...)
	}
	return nil
}

func (b *bench) openByGateway(ctx context.Context, of binary, text string) (o opened, err error) {
	g, err := b.gatewayOn(ctx, of, "", "large", text)
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

// tocRate is how many answers to toc a side gives in a second, asked with
// further header lines.
func (b *bench) tocRate(ctx context.Context, s side, headers ...string) (float64, error) {
	toc := s.request("GET", tocOfLarge, nil, headers...)
	l := drive(ctx, s, manyConnections, b.time/starts, func(int, int) []byte { return toc })
	return l.rate, l.firstErr
}
