package main

import (
	"context"
	"fmt"
)

// room is a part of sqgate that exists for speed. It is measured beside an sqgate
// that is built with a tag, and does the same work in a plain way.
type room struct {
	name    string
	instead string // what the other sqgate has in its place
	tag     string // builds the other sqgate
	work    string
	measure func(*bench, context.Context, []binary) ([]result, error)
}

var rooms = []room{
	{"internal/http1", "net/http", "nethttp", "select, 16 connections", (*bench).roomSelects},
	{"storage/sqclient", "http.Transport", "httptransport", "forwarded select, 16 connections", (*bench).roomForwards},
	{"recreating files", "truncating them", "truncate", "update, 16 connections, fsync off", (*bench).roomUpdates},
}

// cellRooms builds the sqgate of the source tree with each tag and without, and
// compares the two. It leaves out a tag on which no file of sqgate depends, and
// says so: the two would be the same program.
func (b *bench) cellRooms(ctx context.Context) error {
	plain, err := b.buildSqgate(ctx, "")
	if err != nil {
		return err
	}
	files, err := sourceFiles(ctx, source, "")
	if err != nil {
		return err
	}
	t := newTable("room", "instead of it", "work", "with, a second", "without, a second", "the room brings")
	for _, r := range rooms {
		without, err := sourceFiles(ctx, source, r.tag)
		if err != nil {
			return err
		}
		if without == files {
			b.note("the build tag %s has no effect: no file of sqgate depends on it, so it was not measured what %q brings", r.tag, r.name)
			t.add(r.name, r.instead, r.work, "-", "-", "**the tag "+r.tag+" has no effect**")
			continue
		}
		row, err := b.roomRow(ctx, r, plain)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		t.add(row...)
	}
	b.show("What the rooms that exist for speed bring, on "+fileSystem(b.root), t)
	return nil
}

func (b *bench) roomRow(ctx context.Context, r room, plain string) ([]string, error) {
	path, err := b.buildSqgate(ctx, r.tag)
	if err != nil {
		return nil, err
	}
	results, err := r.measure(b, ctx, []binary{{"with " + r.name, plain}, {"with " + r.instead, path}})
	if err != nil {
		return nil, err
	}
	for _, x := range results {
		if x.errors > 0 {
			b.note("%s: %d errors, the first: %v", x.name, x.errors, x.firstErr)
		}
	}
	with, without := results[0], results[1]
	ratios := ratiosOf(with.rates, without.rates)
	if len(ratios) == 0 {
		return nil, fmt.Errorf("there was no answer %s", without.name)
	}
	return []string{r.name, r.instead, r.work, with.rate.in(inRate), without.rate.in(inRate), aRatio.printed(spreadOf(ratios)) + " times the rate"}, nil
}

// roomSelects has the binaries read.
func (b *bench) roomSelects(ctx context.Context, of []binary) (results []result, err error) {
	var sides []side
	defer func() { stopAll(sides) }()
	if sides, err = b.startPair(ctx, of); err != nil {
		return nil, err
	}
	if err := b.warm(ctx, sides, "notes"); err != nil {
		return nil, err
	}
	return b.turnsOf(ctx, sides, manyConnections, selecting(roomScrolls, "notes")), nil
}

// roomForwards has the binaries forward reads to SQ.
func (b *bench) roomForwards(ctx context.Context, of []binary) (results []result, err error) {
	var sides []side
	defer func() { stopAll(sides) }()
	if sides, err = b.startPair(ctx, of, "--read-memory", "0"); err != nil {
		return nil, err
	}
	if err := b.warm(ctx, sides, "notes"); err != nil {
		return nil, err
	}
	return b.turnsOf(ctx, sides, manyConnections, selecting(roomScrolls, "notes")), nil
}

// roomUpdates has the binaries write.
func (b *bench) roomUpdates(ctx context.Context, of []binary) (results []result, err error) {
	var sides []side
	defer func() { stopAll(sides) }()
	if sides, err = b.startPair(ctx, of, "--fsync", "off"); err != nil {
		return nil, err
	}
	if err := warmWrites(ctx, sides); err != nil {
		return nil, err
	}
	return b.turnsOf(ctx, sides, manyConnections, updating), nil
}

// roomScrolls is how many scrolls the phext has in which rooms are measured.
const roomScrolls = 100

// startPair starts a gateway of each binary.
func (b *bench) startPair(ctx context.Context, of []binary, flags ...string) (sides []side, err error) {
	for _, x := range of {
		g, err := b.gatewayOn(ctx, x, "", "notes", textOf(roomScrolls, numbered(scrollSize)), flags...)
		if err != nil {
			return sides, err
		}
		sides = append(sides, g.side)
	}
	return sides, nil
}
