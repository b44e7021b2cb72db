package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
)

// unusedStopper stops the children of data directories that no enabled tenant
// uses any more. It works outside the reload, so that a child that drains slowly
// does not delay the next change.
type unusedStopper struct {
	children *supervisor.Supervisor
	tenants  func() *tenants.Snapshot
	log      *slog.Logger
	mu       sync.Mutex
	pending  map[string]struct{}
	wake     chan struct{}
}

func newUnusedStopper(children *supervisor.Supervisor, current func() *tenants.Snapshot, log *slog.Logger) *unusedStopper {
	return &unusedStopper{children: children, tenants: current, log: log, pending: map[string]struct{}{}, wake: make(chan struct{}, 1)}
}

// changed is called after every reload that changed something. It looks at the
// directories of all tenants only if some tenant lost its own, so that the cost
// of adding a tenant does not grow with their number.
func (u *unusedStopper) changed(old, now *tenants.Snapshot, diff tenants.Diff) {
	lost := lostDirs(old, diff)
	if len(lost) == 0 {
		return
	}
	used := dataDirs(now, false)
	u.stopSoon(slices.DeleteFunc(lost, func(dir string) bool { _, still := used[dir]; return still })...)
}

func (u *unusedStopper) stopSoon(dirs ...string) {
	u.mu.Lock()
	for _, dir := range dirs {
		u.pending[dir] = struct{}{}
	}
	u.mu.Unlock()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// around is lease for directories that an enabled tenant uses. A request that began before
// its tenant lost the directory would start a child there, which nobody stops any more.
func (u *unusedStopper) around(lease func(context.Context, string) (sqclient.Lease, error)) func(context.Context, string) (sqclient.Lease, error) {
	return func(ctx context.Context, dir string) (sqclient.Lease, error) {
		l, err := lease(ctx, dir)
		if err == nil && !slices.ContainsFunc(u.tenants().At(dir), func(t *tenants.Tenant) bool { return t.Enabled }) {
			l.Release()
			u.stopSoon(dir)
			return nil, datadir.ErrTenantChanged
		}
		return l, err
	}
}

// lostDirs is the directories that some tenant could use before the reload and
// may not use any more.
func lostDirs(old *tenants.Snapshot, diff tenants.Diff) []string {
	var lost []string
	for _, t := range diff.Removed {
		lost = append(lost, t.DataDir)
	}
	for _, t := range diff.Changed {
		if was, ok := old.ByID(t.ID); ok && (was.DataDir != t.DataDir || !t.Enabled) {
			lost = append(lost, was.DataDir)
		}
	}
	return lost
}

// dataDirs is the data directories of all tenants, or only of the enabled ones,
// with symbolic links resolved, as the gateway names them to the supervisor.
func dataDirs(s *tenants.Snapshot, all bool) map[string]struct{} {
	dirs := map[string]struct{}{}
	if s == nil {
		return dirs
	}
	for _, t := range s.All() {
		if all || t.Enabled {
			dirs[t.DataDir] = struct{}{}
		}
	}
	return dirs
}

// run stops the children of pending directories until ctx ends, and waits for
// the stops that it has begun.
func (u *unusedStopper) run(ctx context.Context) {
	var stops sync.WaitGroup
	defer stops.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.wake:
		}
		for _, dir := range u.takePending() {
			stops.Go(func() { u.stop(ctx, dir) })
		}
	}
}

func (u *unusedStopper) takePending() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	dirs := make([]string, 0, len(u.pending))
	for dir := range u.pending {
		dirs = append(dirs, dir)
	}
	clear(u.pending)
	return dirs
}

func (u *unusedStopper) stop(ctx context.Context, dir string) {
	if err := u.children.Stop(ctx, dir, "no tenant uses it any more"); err != nil {
		u.log.Warn("a child was not stopped", "data_dir", dir, "error", err)
	}
}

// orphanTimeout is how long the start waits for the children of a killed gateway.
// Whoever leases a directory waits for what is left.
const orphanTimeout = 10 * time.Second

// stopOrphans stops the children that a killed gateway left behind. Without it,
// the child of a directory that nobody asks for would live on. It reports whether
// one is still writing.
func (s *service) stopOrphans() (writing bool) {
	ctx, cancel := context.WithTimeout(context.Background(), orphanTimeout)
	defer cancel()
	var stops errgroup.Group
	stops.SetLimit(16)
	var late atomic.Bool
	for dir := range dataDirs(s.store.Current(), true) {
		stops.Go(func() error {
			if err := s.children.Stop(ctx, dir, "left by an earlier gateway"); err != nil {
				s.log.Warn("a directory is in use", "data_dir", dir, "error", err)
				if ctx.Err() != nil {
					late.Store(true)
				}
			}
			return nil
		})
	}
	_ = stops.Wait() // failures were logged
	return late.Load()
}
