package history

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// Purge erases the history of a tenant for good, also that of directories that it had before, and what a
// bucket has of it. The caller has frozen the tenant's directory, and has made sure that no phext of the
// tenant is in it. The journal of a shared directory stays, and what a bucket has of it, because others
// share them.
func (s *Service) Purge(ctx context.Context, t *tenants.Tenant) error {
	if err := s.Dirs.PurgeLeft(ctx, t); err != nil || t.SharedDataDir {
		return err
	}
	if err := s.Dirs.Of(t.DataDir).Purge(ctx); err != nil {
		return err
	}
	return s.Dirs.Journal.Purge(s.Dirs.Of(t.DataDir).Path)
}

// NoteRemoved journals which phexts are gone from a directory that a new tenant
// gets, and that the caller has frozen. Somebody may have removed an earlier
// tenant's phexts by hand: until that is noticed, they would seem to be there still,
// and the new tenant's directory could be restored to that.
func (s *Service) NoteRemoved(t *tenants.Tenant) (err error) {
	dir := s.Dirs.Of(t.DataDir)
	dir.Disown() // it was for the earlier tenant
	j, err := s.journalOf(t)
	if err != nil {
		return err
	}
	at, letGo, err := dir.Hold() // where a disk vanishes, nothing was removed
	if err != nil {
		return err
	}
	defer letGo()
	defer func() { err = fsutil.Named(err, at, dir.Path) }()
	files, err := j.FilesAt(at, time.Unix(0, math.MaxInt64))
	if err != nil {
		return err
	}
	for _, file := range files {
		id, e := fsutil.Identify(filepath.Join(at, file))
		if e == nil && !id.Exists() && t.OwnFile(file) {
			e = j.RecordEdit(file, journal.State{}, id)
		}
		err = errors.Join(err, e)
	}
	return errors.Join(err, j.Suspend())
}
