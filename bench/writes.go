package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
)

// fsyncModes are the sides of a cell of writes: a gateway for each setting.
func (b *bench) fsyncModes() (names []string, flags [][]string) {
	if !b.has("fsync") {
		b.noteOnce("this sqgate has no --fsync: it was measured as it is")
		return []string{"sqgate"}, [][]string{nil}
	}
	for _, mode := range []string{"off", "batch", "always"} {
		names, flags = append(names, "sqgate, fsync "+mode), append(flags, []string{"--fsync", mode})
	}
	return names, flags
}

func (b *bench) cellUpdate(ctx context.Context) error {
	return b.updates(ctx, "update", " on "+fileSystem(b.root), []int{1, 4, 16, 64})
}

// inMemory is a file system without a disk. On one with a disk, SQ's truncating
// write can cost many times what everything else does (ext4 allocates at once).
const inMemory = "/dev/shm"

func (b *bench) cellUpdateInMemory(ctx context.Context) error {
	root, err := os.MkdirTemp(inMemory, "sqgate-bench-")
	if err != nil {
		b.note("updates on a file system in memory were left out: %v", err)
		return nil
	}
	onDisk := b.root
	b.root = root
	defer func() { b.cleanUp(); b.root = onDisk }()
	return b.updates(ctx, "memory-update", " on "+fileSystem(root), []int{1, 4, 16, 64})
}

// updates has each connection update a scroll of its own.
func (b *bench) updates(ctx context.Context, cell, where string, connections []int) (err error) {
	text := textOf(64, numbered(scrollSize))
	var sides []side
	defer func() { stopAll(sides) }()
	direct, err := b.sqOn(ctx, b.startSQ, map[string]string{"notes": text})
	if err != nil {
		return err
	}
	sides = append(sides, direct)
	names, flags := b.fsyncModes()
	for i, name := range names {
		g, err := b.gateOn(ctx, name, "notes", text, flags[i]...)
		if err != nil {
			return err
		}
		sides = append(sides, g.side)
	}
	body := []byte(numbered(scrollSize)(0))
	updating := func(s side) func(conn, i int) []byte {
		return func(conn, _ int) []byte { return s.request("POST", updateOf("notes", conn), body) }
	}
	for _, s := range sides {
		if _, _, err := s.once(ctx, patience, updating(s)(0, 0)); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
	}
	for _, conns := range connections {
		name := cell + "-" + strconv.Itoa(conns)
		b.race(name, fmt.Sprintf("update of 200 bytes, %d connections%s", conns, where), race(ctx, sides, conns, b.time, updating))
	}
	return nil
}
