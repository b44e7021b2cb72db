package main

import (
	"context"
	"fmt"
	"time"
)

// cells are all cells, in the order in which they are measured. Those that start
// children come first: the other proxies leave tens of thousands of sockets in
// TIME_WAIT behind, and that makes the start of a child slower.
var cells = []cell{
	{"wake", "first request to a tenant whose child is stopped", (*bench).cellWake},
	{"tenants", "500 and 5,000 idle tenants; reload", (*bench).cellTenants},
	{"children", "200 live children", (*bench).cellChildren},
	{"select", "select in one phext of 100 scrolls, 16 connections", (*bench).cellSelect},
	{"forwarded", "the same, with every read forwarded to SQ", (*bench).cellForwarded},
	{"alternating", "select in two phexts of 5,000 scrolls in turn, 16 connections", (*bench).cellAlternating},
	{"large-phext", "20,000 scrolls, 4 MB: first read after a start, and toc", (*bench).cellLargePhext},
	{"update-1", "update of 200 bytes, 1 connection", updates(1)},
	{"update-4", "the same, 4 connections", updates(4)},
	{"update-16", "the same, 16 connections", updates(16)},
	{"update-64", "the same, 64 connections", updates(64)},
	{"hot-16", "update of one scroll, 16 connections", hot(16)},
	{"hot-64", "the same, 64 connections", hot(64)},
	{"memory-update-1", "update of 200 bytes on a file system in memory, 1 connection", updatesInMemory(1)},
	{"memory-update-16", "the same, 16 connections", updatesInMemory(16)},
	{"memory-update-64", "the same, 64 connections", updatesInMemory(64)},
	{"bucket-16", "update of 200 bytes, with a bucket of 1, 10 and 50 ms and without, 16 connections", updatesInBucket(16)},
	{"bucket-64", "the same, 64 connections", updatesInBucket(64)},
	{"hosts", "a tenant of this host, and of another one that requests are sent on to", (*bench).cellHosts},
	{"rooms", "what the rooms that exist for speed bring", (*bench).cellRooms},
	{"connections", "10,000 idle client connections", (*bench).cellConnections},
	{"scroll", "a scroll of 64 MB", (*bench).cellScroll},
	{"phext", "a phext of 200 MB", (*bench).cellPhext},
	{"search", "a search of 200 MB", (*bench).cellSearch},
	{"names", "100,000 names", (*bench).cellNames},
	{"batch", "100 updates one by one, and in one batch", (*bench).cellBatch},
	{"changes", "updates while 1,000 listen for changes", (*bench).cellChanges},
	{"neighbour", "a tenant's answers beside a busy neighbour", (*bench).cellNeighbour},
}

// stopAll ends the servers of a cell.
func stopAll(sides []side) {
	for _, s := range sides {
		if s.process != nil {
			s.process.stop()
		}
	}
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
	if sides, err = b.startAll(ctx, sides, b.binaries, "", "notes", text); err != nil {
		return err
	}
	sides = b.ownModes(ctx, sides, direct, phexts)
	sides = append(sides, b.startOthers(ctx, direct)...)
	return b.selects(ctx, "select", "select, one phext of 100 scrolls, 16 connections", sides)
}

// ownModes adds SQ's own modes for many tenants, as far as this SQ has them.
func (b *bench) ownModes(ctx context.Context, sides []side, direct side, phexts map[string]string) []side {
	if b.wants(configMode) {
		config, err := b.sqOn(ctx, b.startSQConfig, phexts)
		if err == nil {
			sides = append(sides, config)
		} else {
			b.noteOnce("SQ's --config mode was left out: %v", err)
		}
	}
	if b.wants(routeMode) {
		route, err := b.startSQRoute(ctx, direct)
		if err == nil {
			sides = append(sides, route)
		} else {
			b.noteOnce("sq route was left out: %v", err)
		}
	}
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
	if sides, err = b.startAll(ctx, sides, b.binaries, "forwarding", "notes", text, "--read-memory", "0"); err != nil {
		return err
	}
	sides = append(sides, b.startOthers(ctx, direct)...)
	return b.selects(ctx, "forwarded", "select, forwarded to SQ by every proxy, 16 connections", sides)
}

// selects measures reads of the phext notes.
func (b *bench) selects(ctx context.Context, cell, title string, sides []side) error {
	if err := b.warm(ctx, sides, "notes"); err != nil {
		return err
	}
	b.showRates(cell, title, b.inTurns(ctx, sides, manyConnections, selecting(100, "notes")))
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
