package writer

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/rewrite"
)

// A commit to a large phext lets others go first while it works on the text.
func TestALargeCommitLetsOthersGoFirst(t *testing.T) {
	w := newWorld(t)
	queue, err := fairqueue.New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = queue.Close() })
	w.must(update(2, strings.Repeat("a large text ", 60_000)))
	turn := queue.Turn("somebody")
	if err := turn.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		ctx := fairqueue.WithTurn(context.Background(), queue.Turn("will"))
		_, err := w.Commit(ctx, w.mutate(rewrite.Update, "n", "1.1.1/1.1.1/1.1.1", "small"))
		done <- err
	}()
	for range 2 { // the file is compared with what it is to be
		for queue.Waiting() == 0 {
			select {
			case err := <-done:
				t.Fatalf("it did not wait for its turn: %v", err)
			default:
				runtime.Gosched()
			}
		}
		another := queue.Turn("another")
		took := make(chan error, 1)
		go func() { took <- another.Take(t.Context()) }()
		for queue.Waiting() < 2 { // it waits before anything can go on
			runtime.Gosched()
		}
		turn.Give()
		if err := <-took; err != nil {
			t.Fatal(err)
		}
		turn = another
	}
	turn.Give()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
