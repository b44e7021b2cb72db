package datadir

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/tenants"
)

// PurgeLeft erases what is known of a tenant at paths that it had before: the whole journal, with
// the marks, if nobody else has had the path since, or else what that has from before then. A journal
// that it has shared stays. The caller has the tenant's directory locked.
func (ds *Dirs) PurgeLeft(ctx context.Context, t *tenants.Tenant) error {
	only, earlier, err := ds.Journal.LeftBy(t.UniqueID())
	for _, path := range only {
		if path != t.DataDir {
			err = errors.Join(err, ds.purgeLeft(ctx, path, t.UniqueID()))
		}
	}
	for _, path := range earlier {
		j, e := ds.Journal.Of(path)
		if e == nil {
			e = j.PurgeEarlier()
		}
		err = errors.Join(err, e)
	}
	return err
}

func (ds *Dirs) purgeLeft(ctx context.Context, path, tenant string) error {
	d := ds.Of(path)
	unlock, err := d.lockForWrite(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	j, err := ds.JournalOf(d)
	if err != nil {
		return err
	}
	if only, err := j.IsOnlyOf(tenant); err != nil || !only { // it is somebody else's by now
		return err
	}
	if err := ds.StopChild(ctx, path, "what a purged tenant has left there is erased"); err != nil {
		return err
	}
	if err := ds.Journal.Purge(path); err != nil {
		return err
	}
	d.MarkUnrecovered()
	return errors.Join(d.forgetMark(), ds.forgetMarksOf(path))
}

// forgetMarksOf removes the marks of all paths that led to a directory through links.
func (ds *Dirs) forgetMarksOf(path string) error {
	if ds.MarkDir == "" {
		return nil
	}
	entries, err := os.ReadDir(ds.MarkDir)
	err = fsutil.IgnoreMissing(err)
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		mark := filepath.Join(ds.MarkDir, e.Name())
		text, failed := fsutil.ReadFile(mark)
		if failed == nil && parseMark(text).path == path {
			failed = os.Remove(mark)
		}
		err = errors.Join(err, fsutil.IgnoreMissing(failed))
	}
	return err
}
