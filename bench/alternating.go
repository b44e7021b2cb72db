package main

import (
	"context"
	"fmt"
	"time"
)

// alternatingScrolls take SQ as its authors lock it more than a second to load.
const alternatingScrolls = 5000

func (b *bench) cellAlternating(ctx context.Context) (err error) {
	text := textOf(alternatingScrolls, numbered(scrollSize))
	phexts := map[string]string{"one": text, "two": text}
	var sides []side
	defer func() { stopAll(sides) }()
	var results []result
	for _, sq := range b.builds() {
		r, err := b.alone(ctx, sq, phexts)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	g, err := b.gateOn(ctx, "sqgate", "one", text)
	if err != nil {
		return err
	}
	sides = append(sides, g.side)
	if err := putPhext(g.dataDir(0), "two", text); err != nil {
		return err
	}
	config, err := b.sqOn(ctx, b.startSQConfig, phexts)
	if err == nil {
		sides = append(sides, config)
	}
	if err := b.warm(ctx, sides, "one", "two"); err != nil {
		return err
	}
	results = append(results, race(ctx, sides, manyConnections, b.time, selecting(100, "one", "two"))...)
	b.race("alternating", "select, two phexts of 5,000 scrolls in turn, 16 connections", results)
	return nil
}

// alone asks a build of SQ for both phexts. SQ goes on with what nobody waits
// for any more, far into the next turn: it has one turn, and then it is ended.
func (b *bench) alone(ctx context.Context, sq build, phexts map[string]string) (result, error) {
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
	return summary(s.name, []load{l}), err
}

// atLeastOne takes a side that has not given one answer in its turn to give one
// in that time, in its favour. One that gave errors alone has no rate at all.
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
