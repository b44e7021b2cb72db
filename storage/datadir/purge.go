package datadir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// PurgeLeft erases what is known of a tenant at paths that it had before: the whole journal, with
// the marks, if nobody else has had the path since, or else what that has from before then. A journal
// that it has shared stays. The caller has the tenant's directory locked.
func (ds *Dirs) PurgeLeft(ctx context.Context, t *tenants.Tenant) error {
	if err := ds.notePurged(t.UniqueID()); err != nil {
		return err
	}
	if journal.TenantAt(t.DataDir) == t.UniqueID() { // the next phexts there are not its own
		if err := journal.Unstamp(t.DataDir); err != nil {
			return err
		}
	}
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
	only = []string{t.UniqueID()} // where it was never written to, there is no journal
	return errors.Join(err, ds.forgetMarks(func(m *mark) bool { return slices.Equal(m.tenants, only) }))
}

// purgedFile has hashes of the UniqueIDs of purged tenants, one a line: the disk of one may have been away.
const purgedFile = ".purged"

func hashOf(tenant string) string {
	sum := sha256.Sum256([]byte(tenant))
	return hex.EncodeToString(sum[:16])
}

func (ds *Dirs) purged() []string {
	text, err := fsutil.ReadFile(filepath.Join(ds.MarkDir, purgedFile))
	if ds.MarkDir == "" || err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

func (ds *Dirs) notePurged(tenant string) error {
	ds.purging.Lock()
	defer ds.purging.Unlock()
	all, hash := ds.purged(), hashOf(tenant)
	if ds.MarkDir == "" || slices.Contains(all, hash) {
		return nil
	}
	err := os.MkdirAll(ds.MarkDir, 0o700)
	return errors.Join(err, fsutil.Replace(filepath.Join(ds.MarkDir, purgedFile), strings.Join(append(all, hash), "\n"), 0o600, true))
}

// forgetPurged takes note that there is a tenant again with the UniqueID of one that was purged, as entries without an
// incarnation have.
func (ds *Dirs) forgetPurged(tenant string) error {
	ds.purging.Lock()
	defer ds.purging.Unlock()
	all := ds.purged()
	left := slices.DeleteFunc(slices.Clone(all), func(hash string) bool { return hash == hashOf(tenant) })
	if len(left) == len(all) {
		return nil
	}
	return fsutil.Replace(filepath.Join(ds.MarkDir, purgedFile), strings.Join(left, "\n"), 0o600, true)
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
	d.forgetSeen()
	return ds.forgetMarks(func(m *mark) bool { // also of links to it
		return m.path == path && !slices.ContainsFunc(m.tenants, func(t string) bool { return t != tenant })
	})
}
