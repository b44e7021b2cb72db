package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// Whoever waits for a turn goes first while a large file is read and parsed.
func TestALargeFileIsReadInTurns(t *testing.T) {
	queue, err := fairqueue.New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = queue.Close() })
	path := filepath.Join(t.TempDir(), "large.phext")
	if err := os.WriteFile(path, []byte(strings.Repeat("a scroll\x17", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := New(8<<20, anything)
	c.Turns = queue
	first := queue.Turn("somebody")
	if err := first.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(path)
		read <- err
	}()
	await := func(waiting int) {
		for queue.Waiting() != waiting {
			select {
			case err := <-read:
				t.Fatalf("it did not wait for a turn: %v", err)
			default:
				runtime.Gosched()
			}
		}
	}
	await(1)
	for range 3 { // it reads, checks and parses
		other := queue.Turn("another")
		took := make(chan error, 1)
		go func() { took <- other.Take(t.Context()) }()
		await(2) // before anything can go on
		first.Give()
		if err := <-took; err != nil {
			t.Fatal(err)
		}
		await(1)
		first = other
	}
	first.Give()
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// While garbage is collected for a file that is parsed, others have their turns.
func TestNoTurnIsHeldWhileGarbageIsCollected(t *testing.T) {
	queue, err := fairqueue.New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = queue.Close() })
	path := filepath.Join(t.TempDir(), "large.phext")
	put(t, path, strings.Repeat("x\x17", 100_000))
	room, collected := memlimit.NewBudget(16<<20), false
	room.Take(14 << 20)
	room.OnShortage(func(collect func()) bool {
		if collect == nil {
			return false
		}
		collected = true
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		other := queue.Turn("another")
		defer other.Give()
		if err := other.Take(ctx); err != nil {
			t.Errorf("the turn is held: %v", err)
		}
		return false
	})
	c := New(8<<20, func(string) *memlimit.Reservation { return memlimit.Reserve(room) })
	c.Turns = queue
	if _, err := c.Read(path); !errors.Is(err, ErrNoMemory) || !collected {
		t.Errorf("%v, collected %v", err, collected)
	}
}
