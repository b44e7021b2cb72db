package datadir

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
)

// TestAPartIsMadeOnce for those who ask for it at a time, also if the client for whom it is made goes.
func TestAPartIsMadeOnce(t *testing.T) {
	for _, goes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			prefix, err := rewrite.ParsePrefix("1.1.1")
			w.check(err)
			scope := &rewrite.Scope{Access: rewrite.ReadAccess, Prefix: &prefix}
			view := View{cache.Missing().With(phext.Origin(), "text"), cache.Missing()}
			hold, made := make(chan struct{}), make(chan View, 2)
			first, leave := context.WithCancel(t.Context())
			for _, ctx := range []context.Context{first, t.Context()} {
				call := w.call("toc", "p=n")
				w.check(scope.Authorize(call))
				call.Pace = func(int) { <-hold }
				go func() {
					part, err := w.dir.restrict(ctx, view, call)
					if goes && ctx == first {
						if !errors.Is(err, context.Canceled) {
							t.Errorf("the client has gone: %v", err)
						}
						return
					}
					w.check(err)
					made <- part
				}()
				synctest.Wait()
			}
			defer leave()
			if !goes {
				close(hold)
				one, other := <-made, <-made
				if one.Phext != other.Phext || one.Phext.Text() != "text" {
					t.Errorf("two were made: %q and %q", one.Phext.Text(), other.Phext.Text())
				}
				release, err := w.dir.Use(one)
				w.check(err)
				once := w.dir.memory.Above(0)
				again, err := w.dir.Use(other)
				w.check(err)
				if twice := w.dir.memory.Above(0); once == 0 || twice != once {
					t.Errorf("one user counts %d bytes, and two %d", once, twice)
				}
				again()
				release()
				return
			}
			leave()
			close(hold)
			if one := <-made; one.Phext.Text() != "text" {
				t.Errorf("%q", one.Phext.Text())
			}
		})
	}
}
