package main

import (
	"context"
	"log/slog"
	"sync"

	"mirrorborn.us/sqgate/proxy"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
)

// retirer stops the children of directories that no enabled tenant has any
// more. It works beside the reload, so that a child that drains slowly does
// not hold up the next change.
type retirer struct {
	children *supervisor.Supervisor
	log      *slog.Logger
	mu       sync.Mutex
	pending  map[string]struct{}
	wake     chan struct{}
}

func newRetirer(children *supervisor.Supervisor, log *slog.Logger) *retirer {
	return &retirer{children: children, log: log, pending: map[string]struct{}{}, wake: make(chan struct{}, 1)}
}

// changed is told of every reload that changed something.
func (r *retirer) changed(old, now *tenants.Snapshot, _ tenants.Diff) {
	used := directories(now)
	r.mu.Lock()
	for dir := range directories(old) {
		if _, still := used[dir]; !still {
			r.pending[dir] = struct{}{}
		}
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// directories are those of enabled tenants, as the gateway leases them.
func directories(s *tenants.Snapshot) map[string]struct{} {
	dirs := map[string]struct{}{}
	if s == nil {
		return dirs
	}
	for _, t := range s.All() {
		if t.Enabled {
			dirs[proxy.Resolve(t.DataDir)] = struct{}{}
		}
	}
	return dirs
}

// run stops what is pending until ctx ends, and waits for what it began.
func (r *retirer) run(ctx context.Context) {
	var stops sync.WaitGroup
	defer stops.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for _, dir := range r.take() {
			stops.Go(func() { r.stop(ctx, dir) })
		}
	}
}

func (r *retirer) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	dirs := make([]string, 0, len(r.pending))
	for dir := range r.pending {
		dirs = append(dirs, dir)
	}
	clear(r.pending)
	return dirs
}

func (r *retirer) stop(ctx context.Context, dir string) {
	if err := r.children.Stop(ctx, dir, "no tenant uses it any more"); err != nil {
		r.log.Warn("a child was not stopped", "data_dir", dir, "error", err)
	}
}
