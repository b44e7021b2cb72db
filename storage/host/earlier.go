package host

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/replica"
	"mirrorborn.us/sqgate/tenants"
)

// An id may be used again for another tenant. Hosts that had the directory of the one before,
// and gave it away, still have its files and its journal: old copies of what was in the
// bucket. The next tenant must see nothing of them.

// isOld says whether what is here of the ownership that the mark is of is no more than an old
// copy: others have had the directory since. owner is who had it last.
func (m mark) isOld(owner object.Owner) bool { return m.Epoch > 0 && owner.Epoch > m.Epoch }

// ClearEarlier sets aside what is here of a tenant whose id is to be used again at a data
// directory, if that is no more than an old copy of what was in the bucket. No tenant has the
// id, and the caller has the directory locked.
func (ds *Directories) ClearEarlier(ctx context.Context, d *datadir.Dir, id string) error {
	t := &takeOver{Directories: ds, d: d, dir: &replica.Directory{Bucket: ds.Bucket, Name: id}}
	m, err := readMarkFile(t.markPath())
	if err != nil || m.Path != d.Path || len(ds.tenantsOf(d)) > 0 { // by now, all there may be others'
		return err
	}
	owner, _, err := t.dir.Owner(ctx)
	if err != nil || !m.isOld(owner) {
		return err
	}
	if err := t.clearEarlier(ctx, m); err != nil {
		return err
	}
	return fsutil.IgnoreMissing(os.Remove(t.markPath()))
}

// keepClearing has clearPurged look every lookAtLogs until ctx ends.
func (ds *Directories) keepClearing(ctx context.Context) {
	var seen *tenants.Snapshot
	left := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAtLogs):
		}
		seen = ds.clearPurged(ctx, seen, left)
	}
}

// clearPurged removes what is here of tenants that were purged at other hosts. It looks for
// them when the tenants have changed since the snapshot before, which costs a request for
// each that was here and is gone. Those of which that cannot be found out, or that cannot be
// removed, are left, by name: it is logged, and they are looked at again. The snapshot that it
// returns is that of now, unless it has to look at all again.
func (ds *Directories) clearPurged(ctx context.Context, before *tenants.Snapshot, left map[string]bool) *tenants.Snapshot {
	now := ds.Tenants()
	if now == before && len(left) == 0 || ds.Dirs == nil {
		return now
	}
	entries, err := os.ReadDir(ds.MarkDir)
	if fsutil.IgnoreMissing(err) != nil {
		ds.Logger.Warn("it is not known which directories were in the bucket", slog.Any(logkey.Error, err))
		return before
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || now == before && !left[name] {
			continue
		}
		since := before
		if left[name] {
			since = nil
		}
		m, err := readMarkFile(filepath.Join(ds.MarkDir, name))
		if err == nil && (ds.isGone(name, m, now) || ds.mayBeAnother(name, m, since, now)) {
			err = ds.clearIfPurged(ctx, name, m)
		}
		if ctx.Err() != nil {
			return before
		}
		if err != nil && !left[name] {
			ds.Logger.Warn("what is here of a tenant that is gone is left for now", slog.String("directory", name), slog.Any(logkey.Error, err))
		}
		if delete(left, name); err != nil && !errors.Is(err, ErrMark) { // which does not go away by itself
			left[name] = true
		}
	}
	return now
}

// isGone says whether the tenant that a mark is of is not there any more, and nobody but a
// later one with its id has the directory.
func (ds *Directories) isGone(name string, m mark, now *tenants.Snapshot) bool {
	if m.Epoch == 0 || m.Of == "" {
		return false
	}
	if t, ok := now.ByID(name); ok && t.UniqueID() == m.Of {
		return false
	}
	return ds.nobodyBut(name, m)
}

// nobodyBut says whether nobody has the directory of a mark but a tenant with an id, if that.
func (ds *Directories) nobodyBut(id string, m mark) bool {
	return !slices.ContainsFunc(ds.tenantsOf(ds.Dirs.Of(m.Path)), func(t *tenants.Tenant) bool { return t.ID != id })
}

// mayBeAnother says whether the tenant that a mark is of may have been purged, and another one be
// called the same, as those are that have no incarnation. Where hosts share the bucket, that is
// asked about those that this host does not have now, when it starts and when they have
// changed since the snapshot before.
func (ds *Directories) mayBeAnother(name string, m mark, before, now *tenants.Snapshot) bool {
	t, ok := now.ByID(name)
	if !ok || !ds.Many || m.Epoch == 0 || m.Of != name || t.UniqueID() != m.Of || m.Ahead {
		return false
	}
	if before != nil {
		if was, ok := before.ByID(name); ok && reflect.DeepEqual(was, t) {
			return false
		}
	}
	return !ds.Dirs.Of(m.Path).Owned() && ds.nobodyBut(name, m)
}

func (ds *Directories) clearIfPurged(ctx context.Context, name string, m mark) error {
	d := ds.Dirs.Of(m.Path)
	t := &takeOver{Directories: ds, d: d, dir: &replica.Directory{Bucket: ds.Bucket, Name: name}}
	asked, cancel := context.WithTimeout(ctx, askWithin)
	purged, err := t.dir.IsPurged(asked, m.Of, m.Epoch)
	cancel()
	if !purged || err != nil {
		return err
	}
	if r, err := d.Replica(); r != nil && err == nil {
		r.Lose(replica.ErrDeposed) // of which a tenant that is gone has no request to find out
	}
	unlock, err := d.LockUnserved(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Meanwhile it may have been taken over for the next one.
	again, err := readMarkFile(t.markPath())
	if now := ds.Tenants(); err != nil || again.Of != m.Of || again.Epoch != m.Epoch || !ds.isGone(name, again, now) && !ds.mayBeAnother(name, again, nil, now) {
		return err
	}
	if err := ds.Dirs.StopChild(ctx, d.Path, "the tenant was purged"); err != nil {
		return err
	}
	if theirs, err := t.isOnlyTheirs(m); err != nil {
		return err
	} else if theirs {
		if err := t.clear(again, !again.Ahead || again.Of != name); err != nil {
			return err
		}
	}
	return fsutil.IgnoreMissing(os.Remove(t.markPath()))
}

// isOnlyTheirs says whether nobody else has had the directory's path since the mark was made, as
// far as the journal notes that: else what is there may be theirs.
func (t *takeOver) isOnlyTheirs(m mark) (bool, error) {
	j, err := t.Journal.Of(t.d.Path)
	if err != nil {
		return false, err
	}
	return j.IsOnlyOf(m.Of)
}

// clearEarlier moves the journal, and then the files, to the quarantine, or removes them if the
// earlier tenant was purged. What may have been acknowledged without the bucket, maybe for a
// later tenant, is not removed. It can be repeated. The mark stays.
func (t *takeOver) clearEarlier(ctx context.Context, m mark) error {
	purged, err := t.dir.IsPurged(ctx, m.Of, m.Epoch)
	if err != nil {
		return err
	}
	return t.clear(m, purged && !m.Ahead)
}

// clear is clearEarlier where it is known whether all is to be removed.
func (t *takeOver) clear(m mark, purged bool) (err error) {
	files, err := datadir.PhextFiles(t.d.Path)
	if err != nil {
		return err
	}
	at, letGo, err := t.d.Hold()
	if err != nil {
		return err
	}
	defer letGo()
	defer func() { err = fsutil.Named(err, at, t.d.Path) }()
	if purged {
		if t.Calls != nil {
			t.Calls.ForgetID(m.Of)
		}
		err = t.removePurged(at, files)
	} else {
		err = t.Journal.SetAside(t.d.Path, at, files)
	}
	if err != nil {
		return err
	}
	t.there = nil
	said := "an id is used again, and what was here of the earlier tenant was set aside: the journal, and phexts as the bucket had them"
	if purged {
		said = "a tenant was purged at another host, and what was here of it is removed"
	}
	t.Logger.Warn(said, slog.String(logkey.DataDir, t.d.Path), slog.String("tenant", m.Of), slog.Int("files", len(files)))
	return nil
}

// removePurged removes the journal and the files that are as the journal knows them: old copies
// of what was purged. What somebody has put there or changed by hand is set aside.
func (t *takeOver) removePurged(at string, files []string) error {
	j, err := t.Journal.Of(t.d.Path)
	if err != nil {
		return err
	}
	var others []string
	for _, file := range files {
		last, known := j.LastSeen(strings.TrimSuffix(file, ".json"))
		now, err := fsutil.Identify(filepath.Join(at, file))
		switch {
		case err == nil && known && (last == now || strings.HasSuffix(file, ".json")):
			err = fsutil.IgnoreMissing(os.Remove(filepath.Join(at, file)))
		case err == nil:
			others = append(others, file)
		}
		if err != nil {
			return err
		}
	}
	if err := t.Journal.Purge(t.d.Path); err != nil {
		return err
	}
	return t.Journal.SetAside(t.d.Path, at, others)
}
