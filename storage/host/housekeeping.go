package host

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// A log is compacted when it has compactAfter objects or compactBytes more than at the last
// time, so that a take-over has little to read, and once a day if it has any, so that what is older
// than the history can be removed. A log that does not grow costs no request. Bytes are those
// that a reader has in memory. If it has bytesToWait more, it is compacted before anything
// is appended: a log is never much longer, however fast it grows.
const (
	compactAfter  = 1000
	compactBytes  = 64 << 20
	bytesToWait   = 8 * compactBytes
	compactEvery  = 24 * time.Hour
	lookAtLogs    = 10 * time.Second
	compactWithin = 10 * time.Minute
)

// housekeeping has the logs that this host appends to.
type housekeeping struct {
	mu      sync.Mutex
	maximum int64            // another compactBytes, in tests
	waiting gate             // of those who wait for it, one log is compacted at a time
	logs    map[string]*kept // by name in the bucket
}

type kept struct {
	log       *replica.Log
	uploader  *replica.Uploader
	lease     *lease
	path      string                   // of the data directory
	tenants   func() []*tenants.Tenant // of the directory
	ownership context.Context          // ends with it
	end       context.CancelFunc
	endFetch  func()        // ends what comes in the background
	fetched   func() bool   // says whether nothing comes any more
	compacted atomic.Uint64 // number of the last checkpoint
	appended  atomic.Int64  // bytes of the log at that time, as Log.Appended; below 0 = before this ownership
	tried     atomic.Int64  // the same of the last time that it was to be compacted
	since     atomic.Int64  // when it was begun, by the clock of the host
}

// keep takes a log over from an earlier ownership.
func (ds *Directories) keep(name string, one *kept) {
	k := &ds.housekeeping
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.logs == nil {
		k.logs = map[string]*kept{}
	}
	if before := k.logs[name]; before != nil {
		before.end()
	}
	k.logs[name] = one
	ds.held.Store(int64(len(k.logs)))
}

// endOwnership lets go of a log.
func (ds *Directories) endOwnership(name string, one *kept) {
	one.end()
	k := &ds.housekeeping
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.logs[name] == one {
		delete(k.logs, name)
	}
	ds.held.Store(int64(len(k.logs)))
}

func (k *housekeeping) of(name string) *kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.logs[name]
}

// due removes logs whose lease has ended, and returns those that are to be compacted.
func (ds *Directories) due(now time.Duration) (due []*kept) {
	k := &ds.housekeeping
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() { ds.held.Store(int64(len(k.logs))) }()
	for name, one := range k.logs {
		grown := one.log.End() - one.compacted.Load()
		switch {
		case one.ownership.Err() != nil || !one.lease.holds():
			one.end()
			delete(k.logs, name)
		case grown >= compactAfter || one.grown() >= cmp.Or(k.maximum, compactBytes) || grown > 0 && now-time.Duration(one.since.Load()) >= compactEvery:
			due = append(due, one)
		}
	}
	return due
}

// wait waits for the uploads under way, which end with the lease at the latest, and ends
// what is fetched.
func (ds *Directories) wait() {
	k := &ds.housekeeping
	k.mu.Lock()
	defer k.mu.Unlock()
	defer ds.fetching.running.Wait()
	for _, one := range k.logs {
		one.endFetch()
	}
	for name, one := range k.logs {
		one.uploader.Wait()
		if ds.Lag == 0 || one.uploader.Failed() != nil || !one.lease.holds() {
			continue
		}
		if err := ds.editMark(name, one.log.Epoch(), func(m *mark) { m.Ahead = false }); err != nil {
			ds.Logger.Warn("a directory will be compared with the bucket at the next start", slog.String(logkey.DataDir, one.path), slog.Any(logkey.Error, err))
		}
	}
}

// KeepLease is Run and Keep until ctx ends, which is after the last write. Only when
// everything that was acknowledged is uploaded, the lease is given up.
func (ds *Directories) KeepLease(ctx context.Context) error {
	var keeping sync.WaitGroup
	defer keeping.Wait()
	uploaded, end := context.WithCancel(context.WithoutCancel(ctx))
	keeping.Go(func() { ds.Keep(ctx); end() })
	return ds.Run(uploaded)
}

// Keep compacts logs, one at a time, removes what is older than the history, and what was
// purged at other hosts, until ctx ends. Then it waits for the uploads under way: nothing may
// be written any more.
func (ds *Directories) Keep(ctx context.Context) {
	var clearing sync.WaitGroup
	clearing.Go(func() { ds.keepClearing(ctx) })
	for {
		select {
		case <-ctx.Done():
			clearing.Wait()
			ds.wait()
			return
		case <-time.After(lookAtLogs):
		}
		if ds.draining.Load() && len(ds.candidates()) > 0 { // something came back
			if err := ds.handOverAll(ctx); err != nil && ctx.Err() == nil {
				ds.Logger.Warn("not all directories could be handed over", slog.Any(logkey.Error, err))
			}
		}
		ds.handOverMissing(ctx)
		for _, one := range ds.due(ds.clock()) {
			if err := ds.compact(ctx, one); err != nil && ctx.Err() == nil {
				ds.Logger.Warn("the log of a directory in the bucket was not compacted", slog.String(logkey.DataDir, one.path), slog.Any(logkey.Error, err))
			}
		}
	}
}

// grown is how many bytes the log has since it was compacted.
func (one *kept) grown() int64 { return one.log.Appended() - one.appended.Load() }

// append is Log.Append, for which a log that is too long is compacted first. If that fails, it
// is appended to all the same.
func (ds *Directories) append(ctx context.Context, one *kept, groups []object.Group) (seq uint64, err error) {
	most := int64(bytesToWait)
	if k := &ds.housekeeping; k.maximum > 0 {
		most = k.maximum * bytesToWait / compactBytes
	}
	if one.grown() >= most && one.log.Appended()-one.tried.Load() >= most && ds.housekeeping.waiting.enter(ctx) == nil {
		err := ds.compact(ctx, one)
		ds.housekeeping.waiting.leave()
		if err != nil && ctx.Err() == nil {
			ds.Logger.Warn("a long log of a directory in the bucket was not compacted before it was appended to", slog.String(logkey.DataDir, one.path), slog.Any(logkey.Error, err))
		}
	}
	return one.log.Append(ctx, groups)
}

func (ds *Directories) compact(ctx context.Context, one *kept) error {
	ctx, cancel := context.WithTimeout(ctx, compactWithin)
	defer cancel()
	defer context.AfterFunc(one.ownership, cancel)()
	one.since.Store(int64(ds.clock())) // also after an error: it is tried again when the log has grown
	appended := one.log.Appended()
	one.tried.Store(appended)
	seq, err := one.log.Compact(ctx, func(file string) (journal.State, error) {
		return journal.ReadState(ds.Links, filepath.Join(one.path, file))
	}, ds.callsOf(one.tenants()))
	if err != nil {
		return err
	}
	one.compacted.Store(seq)
	one.appended.Store(appended)
	if !one.fetched() {
		return nil // what comes still needs the log
	}
	removed, err := one.log.Prune(ctx, ds.History)
	ds.Logger.Debug("the log of a directory in the bucket was compacted", slog.String(logkey.DataDir, one.path),
		slog.Uint64("position", seq), slog.Int("removed", removed))
	return err
}

// callsOf are today's counts of tenants, as a checkpoint has them.
func (ds *Directories) callsOf(all []*tenants.Tenant) (counts []object.CallCounts) {
	if ds.Calls == nil {
		return nil
	}
	for _, t := range all {
		if n := ds.Calls.Of(t, time.Now()); n.Today > 0 {
			counts = append(counts, object.CallCounts{Tenant: t.UniqueID(), Day: n.Day, Calls: n.Today, LastActive: n.LastActive.UnixNano()})
		}
	}
	return counts
}

// continueCalls has the counts of tenants go on from those of a checkpoint.
func (ds *Directories) continueCalls(all []*tenants.Tenant, counts []object.CallCounts) {
	if ds.Calls == nil {
		return
	}
	for _, n := range counts {
		for _, t := range all {
			if t.UniqueID() == n.Tenant {
				ds.Calls.Continue(t, quota.CallStats{Today: n.Calls, Day: n.Day, LastActive: time.Unix(0, n.LastActive)}, time.Now())
			}
		}
	}
}
