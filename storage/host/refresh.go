package host

import (
	"context"
	"time"
)

// refreshEvery is how often a stranger can have this host look at the others.
const refreshEvery = time.Second

// Refresh looks at the other hosts, if that was not done a moment ago: one may have started.
func (h *Host) Refresh(ctx context.Context) error { return h.lookAfter(ctx, h.clock()-refreshEvery) }
