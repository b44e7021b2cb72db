package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// cells are everything that is measured, in this order. What starts children
// comes first: the proxies leave tens of thousands of sockets in TIME_WAIT
// behind, and they all stand in the table that sqgate looks a child's port up in.
var cells = []cell{
	{"wake", "first request to a tenant whose child is stopped", (*bench).cellWake},
	{"tenants", "500 and 5,000 tenants, idle; reload", (*bench).cellTenants},
	{"children", "200 live children", (*bench).cellChildren},
	{"select", "select in one phext of 100 scrolls, 16 connections", (*bench).cellSelect},
	{"forwarded", "the same, with every read forwarded to SQ", (*bench).cellForwarded},
	{"alternating", "select in two phexts of 5,000 scrolls in turn, 16 connections", (*bench).cellAlternating},
	{"large-phext", "20,000 scrolls, 4 MB: first read after a start, and toc", (*bench).cellLargePhext},
	{"update", "update of 200 bytes, 1 to 64 connections", (*bench).cellUpdate},
	{"memory-update", "the same on a file system in memory", (*bench).cellUpdateInMemory},
	{"connections", "10,000 idle client connections", (*bench).cellConnections},
	{"scroll", "a scroll of 64 MB", (*bench).cellScroll},
	{"phext", "a phext of 200 MB", (*bench).cellPhext},
	{"names", "100,000 names", (*bench).cellNames},
}

// stopAll ends the servers of a cell.
func stopAll(sides []side) {
	for _, s := range sides {
		if s.process != nil {
			s.process.stop()
		}
	}
}

// sqOn runs SQ on a data directory of its own with the given phexts.
func (b *bench) sqOn(ctx context.Context, start func(context.Context, string) (side, error), phexts map[string]string) (side, error) {
	dir, err := os.MkdirTemp(b.root, "data-")
	if err != nil {
		return side{}, err
	}
	for name, text := range phexts {
		if err := putPhext(dir, name, text); err != nil {
			return side{}, err
		}
	}
	return start(ctx, dir)
}

func (b *bench) cellSelect(ctx context.Context) (err error) {
	text := textOf(100, numbered(scrollSize))
	phexts := map[string]string{"notes": text}
	var sides []side
	defer func() { stopAll(sides) }()
	direct, err := b.sqOn(ctx, b.startSQ, phexts)
	if err != nil {
		return err
	}
	sides = append(sides, direct)
	g, err := b.gateOn(ctx, "sqgate", "notes", text)
	if err != nil {
		return err
	}
	sides = append(sides, g.side)
	sides = b.ownModes(ctx, sides, direct, phexts)
	sides = append(sides, b.startOthers(ctx, direct)...)
	if err := b.warm(ctx, sides, "notes"); err != nil {
		return err
	}
	b.race("select", "select, one phext of 100 scrolls, 16 connections", race(ctx, sides, manyConnections, b.time, selecting(100, "notes")))
	return nil
}

// ownModes adds SQ's own modes for many tenants, as far as this SQ has them.
func (b *bench) ownModes(ctx context.Context, sides []side, direct side, phexts map[string]string) []side {
	config, err := b.sqOn(ctx, b.startSQConfig, phexts)
	if err == nil {
		sides = append(sides, config)
	} else {
		b.noteOnce("SQ's --config mode was left out: %v", err)
	}
	route, err := b.startSQRoute(ctx, direct)
	if err == nil {
		return append(sides, route)
	}
	b.noteOnce("sq route was left out: %v", err)
	return sides
}

func (b *bench) cellForwarded(ctx context.Context) (err error) {
	text := textOf(100, numbered(scrollSize))
	var sides []side
	defer func() { stopAll(sides) }()
	direct, err := b.sqOn(ctx, b.startSQ, map[string]string{"notes": text})
	if err != nil {
		return err
	}
	sides = append(sides, direct)
	var flags []string
	if b.has("read-memory") {
		flags = []string{"--read-memory", "0"}
	}
	g, err := b.gateOn(ctx, "sqgate, forwarding", "notes", text, flags...)
	if err != nil {
		return err
	}
	sides = append(sides, g.side)
	sides = append(sides, b.startOthers(ctx, direct)...)
	if err := b.warm(ctx, sides, "notes"); err != nil {
		return err
	}
	b.race("forwarded", "select, forwarded to SQ by every proxy, 16 connections", race(ctx, sides, manyConnections, b.time, selecting(100, "notes")))
	return nil
}

// warm has each side read each phext once.
func (b *bench) warm(ctx context.Context, sides []side, phexts ...string) error {
	for _, s := range sides {
		for _, p := range phexts {
			if _, _, err := s.once(ctx, time.Minute, s.request("GET", selectOf(p, 0), nil)); err != nil {
				return fmt.Errorf("warming up %s: %w", s.name, err)
			}
		}
	}
	return nil
}
