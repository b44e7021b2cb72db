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

// unusedStopper sees to data directories that a tenant has lost: what was written there is
// brought to the disk, and the child of one that no enabled tenant uses any more is stopped. It
// works outside the reload, so that a child that drains slowly does not delay the next change.
type unusedStopper struct {
	children *supervisor.Supervisor
	toDisk   func(ctx context.Context, dir string) error // see datadir.Dirs.Sync
	tenants  func() *tenants.Snapshot
	log      *slog.Logger
	mu       sync.Mutex
	lost     map[string]leaving // by directory, until all is done
	wake     chan struct{}
}

// leaving is how far it is seen to a lost directory.
type leaving int

const (
	due leaving = iota
	underWay
	dueAgain // it was lost again meanwhile
)

func newUnusedStopper(children *supervisor.Supervisor, toDisk func(context.Context, string) error, current func() *tenants.Snapshot, log *slog.Logger) *unusedStopper {
	return &unusedStopper{children: children, toDisk: toDisk, tenants: current, log: log, lost: map[string]leaving{}, wake: make(chan struct{}, 1)}
}

// changed is called after every reload that changed something.
func (u *unusedStopper) changed(old *tenants.Snapshot, diff tenants.Diff) {
	u.lose(lostDirs(old, diff)...)
}

func (u *unusedStopper) lose(dirs ...string) {
	if len(dirs) == 0 {
		return
	}
	u.mu.Lock()
	for _, dir := range dirs {
		if u.lost[dir] == due {
			u.lost[dir] = due // also if it is not there yet
		} else {
			u.lost[dir] = dueAgain
		}
	}
	u.mu.Unlock()
	u.wakeUp()
}

func (u *unusedStopper) wakeUp() {
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
		if err == nil && !u.isUsed(dir) {
			l.Release()
			u.lose(dir)
			return nil, datadir.ErrTenantChanged
		}
		return l, err
	}
}

func (u *unusedStopper) isUsed(dir string) bool {
	return slices.ContainsFunc(u.tenants().At(dir), func(t *tenants.Tenant) bool { return t.Enabled })
}

// Leaving says whether a tenant has lost the directory, and not all is done: what was written
// there may not be on the disk.
func (u *unusedStopper) Leaving(dir string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, isLost := u.lost[dir]
	return isLost
}

// lostDirs is the directories that some tenant could use before the reload and
// may not use any more, or not as itself.
func lostDirs(old *tenants.Snapshot, diff tenants.Diff) []string {
	var lost []string
	for _, t := range diff.Removed {
		lost = append(lost, t.DataDir)
	}
	for _, t := range diff.Changed {
		if was, ok := old.ByID(t.ID); ok && (was.DataDir != t.DataDir || was.UniqueID() != t.UniqueID() || !t.Enabled) {
			lost = append(lost, was.DataDir)
		}
	}
	return lost
}

// dataDirs is the data directories of all tenants.
func dataDirs(s *tenants.Snapshot) map[string]struct{} {
	dirs := map[string]struct{}{}
	if s == nil {
		return dirs
	}
	for _, t := range s.All() {
		dirs[t.DataDir] = struct{}{}
	}
	return dirs
}

// run sees to lost directories until ctx ends, and waits for what it has begun.
func (u *unusedStopper) run(ctx context.Context) {
	var stops sync.WaitGroup
	defer stops.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.wake:
		}
		for _, dir := range u.takeLost() {
			stops.Go(func() { u.leave(ctx, dir) })
		}
	}
}

func (u *unusedStopper) takeLost() (dirs []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for dir, state := range u.lost {
		if state == due {
			u.lost[dir] = underWay
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// leave syncs first: nobody takes the files elsewhere before the child is stopped.
func (u *unusedStopper) leave(ctx context.Context, dir string) {
	for range syncTries {
		err := u.toDisk(ctx, dir)
		if err == nil || ctx.Err() != nil {
			break
		}
		u.log.Warn("what was written in a directory that a tenant has lost may not be on the disk", "data_dir", dir, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(syncAgain):
		}
	}
	if !u.isUsed(dir) {
		if err := u.children.Stop(ctx, dir, "no tenant uses it any more"); err != nil {
			u.log.Warn("a child was not stopped", "data_dir", dir, "error", err)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.lost[dir] == underWay {
		delete(u.lost, dir)
		return
	}
	u.lost[dir] = due
	u.wakeUp()
}

// It is tried a few times to bring a directory to the disk: somebody may have it locked.
const (
	syncTries = 12
	syncAgain = 5 * time.Second
)

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
	for dir := range dataDirs(s.store.Current()) {
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
