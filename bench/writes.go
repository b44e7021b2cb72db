package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
)

// fsyncModes are the settings with which writes are measured.
var fsyncModes = []string{"off", "batch", "always"}

// inMemory is a file system without a disk. On one with a disk, SQ's write to a
// truncated file can cost many times what everything else does: ext4 allocates
// at once.
const inMemory = "/dev/shm"

// updates is a cell in which so many connections update.
func updates(conns int) func(*bench, context.Context) error {
	return func(b *bench, ctx context.Context) error {
		return b.updates(ctx, "update", "update of 200 bytes", conns, updating)
	}
}

// hot is a cell in which so many connections update one scroll.
func hot(conns int) func(*bench, context.Context) error {
	return func(b *bench, ctx context.Context) error {
		return b.updates(ctx, "hot", "update of one scroll, 200 bytes", conns, updatingOne)
	}
}

// updatesInMemory is the same on a file system in memory.
func updatesInMemory(conns int) func(*bench, context.Context) error {
	return func(b *bench, ctx context.Context) error {
		root, err := os.MkdirTemp(inMemory, "sqgate-bench-")
		if err != nil {
			b.noteOnce("updates on a file system in memory were left out: %v", err)
			return nil
		}
		onDisk := b.root
		b.root = root
		defer func() { b.cleanUp(); b.root = onDisk }()
		return b.updates(ctx, "memory-update", "update of 200 bytes", conns, updating)
	}
}

func (b *bench) updates(ctx context.Context, cell, what string, conns int, requests func(side) func(conn, i int) []byte) (err error) {
	text := textOf(64, numbered(scrollSize))
	var sides []side
	defer func() { stopAll(sides) }()
	direct, err := b.sqOn(ctx, b.startSQ, map[string]string{"notes": text})
	if err != nil {
		return err
	}
	sides = append(sides, direct)
	for _, mode := range fsyncModes {
		if sides, err = b.startAll(ctx, sides, b.binaries, "fsync "+mode, "notes", text, "--fsync", mode); err != nil {
			return err
		}
	}
	if err := warmWrites(ctx, sides); err != nil {
		return err
	}
	title := fmt.Sprintf("%s, %d connections, on %s", what, conns, fileSystem(b.root))
	b.showRates(cell+"-"+strconv.Itoa(conns), title, b.inTurns(ctx, sides, conns, requests))
	return nil
}

// warmWrites has each side write once, which starts its child.
func warmWrites(ctx context.Context, sides []side) error {
	for _, s := range sides {
		if _, _, err := s.once(ctx, patience, updating(s)(0, 0)); err != nil {
			return fmt.Errorf("warming up %s: %w", s.name, err)
		}
	}
	return nil
}
