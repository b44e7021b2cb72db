package cache

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/fairqueue"
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
