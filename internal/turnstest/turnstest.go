// Package turnstest counts the turns that work takes, for tests.
package turnstest

import (
	"context"
	"runtime"
	"testing"

	"mirrorborn.us/sqgate/internal/fairqueue"
)

// Count is in how many turns work is done, if somebody else waits for each of them.
func Count(t *testing.T, work func(context.Context)) (n int) {
	t.Helper()
	q, err := fairqueue.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	take := func(turn *fairqueue.Turn) {
		if err := turn.Take(t.Context()); err != nil {
			t.Error(err)
		}
	}
	now, next := q.Turn("other"), q.Turn("other")
	take(now)
	defer func() { now.Give() }()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		turn := q.Turn("work")
		defer turn.Give()
		work(fairqueue.WithTurn(t.Context(), turn))
	}()
	for ; ; n++ {
		for q.Waiting() == 0 {
			select {
			case <-ended:
				return n
			default:
				runtime.Gosched()
			}
		}
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			take(next)
		}()
		for q.Waiting() < 2 {
			runtime.Gosched()
		}
		now.Give()
		<-taken
		now, next = next, now
	}
}
