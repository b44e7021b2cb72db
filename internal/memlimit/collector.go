package memlimit

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// collector has garbage collected: once for all who wait for that, and with a rest, so that
// it takes at most a fifth of the time.
type collector struct {
	garbage atomic.Int64 // what was given back since the last collection

	mu          sync.Mutex
	began, next time.Time // of the last collection; when the rest after it ends
	gc          func()    // another in tests; nil = runtime.GC
}

// rest is how many times as long as a collection nothing is collected after it.
const rest = 4

// collect returns after a collection that began after the call, or once it is not needed
// any more. needed is nil where it always is.
func (c *collector) collect(needed func() bool) {
	asked := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.After(asked) {
		return // somebody else has done it
	}
	time.Sleep(time.Until(c.next))
	if needed != nil && !needed() {
		return
	}
	given := c.garbage.Load()
	c.began = time.Now()
	if c.gc == nil {
		runtime.GC()
	} else {
		c.gc()
	}
	c.garbage.Add(-given)
	c.next = time.Now().Add(rest * time.Since(c.began))
}
