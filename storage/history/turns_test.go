package history

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/fairqueue"
)

// What an operator does waits for its turn, again and again, so that tenants go in
// between.
func TestTheOperatorsWorkIsDoneInTurns(t *testing.T) {
	for name, do := range map[string]func(w *world, backup []byte) error{
		"backup": func(w *world, _ []byte) error { return w.Backup(w.Context(), w.tenant, io.Discard) },
		"history": func(w *world, _ []byte) error {
			page, err := w.Events(w.Context(), w.tenant, Selection{Limit: MostEvents})
			if err == nil {
				page.Release()
			}
			return err
		},
		"restore": func(w *world, _ []byte) error {
			_, err := w.Restore(w.Context(), w.tenant, Target{At: w.now, DryRun: true})
			return err
		},
		"restore of a backup": func(w *world, backup []byte) error {
			_, err := w.restoreBackup(backup, Target{DryRun: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.update("n.phext", 1, strings.Repeat("a large text ", 80_000))
			w.update("n.phext", 2, strings.Repeat("and another ", 80_000))
			backup := w.backup()
			queue, err := fairqueue.New(1)
			w.check(err)
			t.Cleanup(func() { w.check(queue.Close()) })
			w.Dirs.Turns = queue
			turn := queue.Turn("somebody")
			w.check(turn.Take(t.Context()))
			done := make(chan error, 1)
			go func() { done <- do(w, bytes.Clone(backup)) }()
			for range 4 {
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
				w.check(<-took)
				turn = another
			}
			turn.Give()
			w.check(<-done)
		})
	}
}
