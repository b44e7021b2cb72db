package supervisor

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var churn = flag.Duration("churn", time.Second, "how long TestNeverTwo lasts")

// Two supervisors lease one directory while its children are killed, stopped,
// evicted and stopped for being idle. There is never more than one process, and
// the directory is served again at the end.
func TestNeverTwo(t *testing.T) {
	dir, other := dataDir(t), dataDir(t)
	watch(t, dir)
	busy := func(c *Config) { c.IdleTimeout, c.MaxChildren = 3*time.Millisecond, 1 }
	first, second := newSupervisor(t, busy), newSupervisor(t, busy)
	ctx, cancel := context.WithTimeout(context.Background(), *churn)
	defer cancel()
	var all sync.WaitGroup
	each := func(f func()) {
		all.Go(func() {
			for ctx.Err() == nil {
				f()
				_ = sleep(ctx, rand.N(10*time.Millisecond)) // returns early at the end
			}
		})
	}
	for _, s := range []*Supervisor{first, second} {
		for _, d := range []string{dir, dir, other} {
			each(func() {
				if l, err := s.Lease(ctx, d); err == nil {
					l.Release()
				}
			})
		}
		each(func() { _ = s.Stop(ctx, dir, "churn") }) // fails while the other's child serves
	}
	each(func() {
		for _, pid := range servers(dir) {
			kill(t, pid)
		}
		_ = sleep(ctx, 100*time.Millisecond) // more kills would be a crash loop
	})
	all.Wait()
	if err := first.Stop(soon(t), dir, "end"); err != nil && !errors.Is(err, ErrHeld) {
		t.Fatal(err)
	}
	if err := second.Stop(soon(t), dir, "end"); err != nil {
		t.Fatal(err)
	}
	mustLease(t, first, dir).Release()
}
