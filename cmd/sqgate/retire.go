package main

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"

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

// changed is told of every reload that changed something. Directories are
// compared only if some tenant lost one: adding a tenant must not cost more the
// more there are.
func (r *retirer) changed(old, now *tenants.Snapshot, diff tenants.Diff) {
	lost := lostBy(old, diff)
	if len(lost) == 0 {
		return
	}
	used := directories(now, false)
	r.mu.Lock()
	for _, dir := range lost {
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

// lostBy are the directories that some tenant had and may not have any more.
func lostBy(old *tenants.Snapshot, diff tenants.Diff) []string {
	var lost []string
	for _, t := range diff.Removed {
		lost = append(lost, proxy.Resolve(t.DataDir))
	}
	for _, t := range diff.Changed {
		if was, ok := old.ByID(t.ID); ok && (was.DataDir != t.DataDir || !t.Enabled) {
			lost = append(lost, proxy.Resolve(was.DataDir))
		}
	}
	return lost
}

// directories are those of tenants, of enabled ones or of all, as the gateway leases them.
func directories(s *tenants.Snapshot, all bool) map[string]struct{} {
	dirs := map[string]struct{}{}
	if s == nil {
		return dirs
	}
	for _, t := range s.All() {
		if all || t.Enabled {
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

// endOrphans ends the children that a killed gateway left behind, those of
// directories too that nobody is going to ask for.
func (s *service) endOrphans() {
	ctx, cancel := context.WithTimeout(context.Background(), orphanPatience)
	defer cancel()
	var stops errgroup.Group
	stops.SetLimit(16)
	for dir := range directories(s.store.Current(), true) {
		stops.Go(func() error {
			if err := s.children.Stop(ctx, dir, "left by an earlier gateway"); err != nil {
				s.log.Warn("a directory is in use", "data_dir", dir, "error", err)
			}
			return nil
		})
	}
	_ = stops.Wait() // what went wrong was logged
}
