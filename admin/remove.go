package admin

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/tenants"
)

// deleteTenant disables a tenant, archives its files and removes them. Its entry
// stays, marked as archived. If it fails at any step, the call can be repeated.
func (a *API) deleteTenant(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	if err := a.canArchive(t); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	defer a.deletions.begin(t.ID)() // before it is disabled: from then on, it cannot be enabled
	if err := a.changeEntry(t.ID, func(e *tenants.Entry) error { e.Enabled = ptr(false); return nil }); err != nil {
		return err
	}
	archive, files, err := a.archiveFiles(r, t)
	if err != nil {
		if t.Enabled {
			a.record(r, "change", t.ID, patch{Enabled: ptr(true)}, patch{Enabled: ptr(false)})
		}
		if fromHost(r) && errors.Is(err, datadir.ErrMoved) {
			return err // the other host asks the new owner
		}
		return notDeleted(t.ID, err)
	}
	a.record(r, "delete", t.ID, map[string]any{"files": files}, map[string]any{"archive": archive})
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "status": archived, "archive": archive})
	return nil
}

// canArchive is the error if a disk is missing, read-only, or closed to sqgate, that deleting
// the tenant has to write to, or if its archive is not there.
func (a *API) canArchive(t *tenants.Tenant) error {
	if err := a.archives.CheckPresent(); err != nil {
		return err
	}
	files, err := t.OwnFiles()
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return a.checkArchive(t)
	}
	for _, dir := range []string{t.DataDir, a.ArchiveDir} {
		if err := fsutil.CheckWritable(fsutil.Resolve(dir)); err != nil {
			return fmt.Errorf("the files of tenant %q cannot be moved into an archive, because %s cannot be written (%w): mount its disk for writing, or add it to the unit's ReadWritePaths=", t.ID, dir, err)
		}
	}
	return nil
}

// checkArchive is the error if the archive of an archived tenant is not there: deleting it
// again would make an empty one.
func (a *API) checkArchive(t *tenants.Tenant) error {
	if !t.Archived {
		return nil
	}
	archive, err := a.archives.Latest(t.ArchiveID())
	if archive == "" && err == nil {
		err = apierror.New(apierror.Conflict, "tenant %q is archived, and its archive is not in %s: put it back there, or purge the tenant", t.ID, a.ArchiveDir)
	}
	return err
}

// archiveFiles moves a tenant's files into an archive.
func (a *API) archiveFiles(r *http.Request, t *tenants.Tenant) (archive string, files int, err error) {
	release, err := a.takeOver(r, t)
	if err != nil {
		return "", 0, err
	}
	defer release()
	if t, err = a.unchanged(t); err != nil {
		return "", 0, err
	}
	if t.Enabled { // in the tenants file, by hand
		return "", 0, apierror.New(apierror.Conflict, "tenant %q was enabled at the same time", t.ID)
	}
	dir := a.Dirs.Of(t.DataDir)
	at, letGo, err := dir.Hold() // where its disk is unmounted, no file is gone
	if err != nil {
		return "", 0, err
	}
	defer letGo()
	defer func() { err = fsutil.Named(err, at, dir.Path) }()
	names, err := t.OwnFilesIn(at)
	if err != nil {
		return "", 0, err
	}
	archive, err = a.archives.Create(t.ArchiveID(), at, names, func(gone []string) error {
		files = len(gone)
		if err := errors.Join(a.History.FilesReplaced(t, at, gone, a.keyFingerprint(), "the tenant was deleted"), a.Ledger.Recount(t), dir.Forget(t.UniqueID())); err != nil {
			return err
		}
		return a.setArchived(t.ID, true)
	})
	return archive, files, notDeleted(t.ID, err)
}

func notDeleted(id string, err error) error {
	return apierror.Partly(err, "tenant %q is disabled, and not deleted yet: mend what follows, and delete it again", id)
}

// setArchived marks a tenant's entry as archived, or enables the tenant again.
// The caller keeps requests out of the tenant's directory.
func (a *API) setArchived(id string, archived bool) error {
	return a.changeEntry(id, func(e *tenants.Entry) error {
		e.Archived, e.Enabled = nil, ptr(!archived)
		if archived {
			e.Archived = ptr(true)
		}
		return nil
	})
}

func errArchived(id string) error {
	return apierror.New(apierror.Conflict, "tenant %q is archived: restore it from its archive, or purge it", id)
}

// takeOver keeps requests out of a tenant's directory until release is called,
// and stops its SQ process, which would write what it has in memory over any
// file that changes.
func (a *API) takeOver(r *http.Request, t *tenants.Tenant) (release func(), err error) {
	release, err = a.Dirs.LockExclusive(r.Context(), t.DataDir)
	if err != nil {
		return nil, err
	}
	if err := a.Children.Stop(r.Context(), t.DataDir, "the tenant's files are moved"); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// unchanged is the tenant as it is now, when its directory is frozen. It is an error
// if somebody gave the id or the directory to another tenant during the wait.
func (a *API) unchanged(t *tenants.Tenant) (*tenants.Tenant, error) {
	now, ok := a.Store.Current().ByID(t.ID)
	switch {
	case !ok:
		return nil, tenants.ErrNoTenant
	case now.UniqueID() != t.UniqueID() || now.DataDir != t.DataDir || now.SharedDataDir != t.SharedDataDir:
		return nil, apierror.New(apierror.Conflict, "tenant %q was changed at the same time: look at it, and repeat the call", t.ID)
	}
	return now, nil
}

// restoreArchive undoes deleteTenant: it brings back the files of an archive
// and enables the tenant.
func (a *API) restoreArchive(w http.ResponseWriter, r *http.Request, archive string) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	n, err := a.restoreFiles(r, t, archive)
	if err != nil {
		return err
	}
	a.record(r, "restore", t.ID, nil, map[string]any{"archive": archive, "files": n})
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "status": active, "files": n})
	return nil
}

func (a *API) restoreFiles(r *http.Request, t *tenants.Tenant, archive string) (files int, err error) {
	release, err := a.takeOver(r, t)
	if err != nil {
		return 0, err
	}
	defer release()
	if t, err = a.unchanged(t); err != nil {
		return 0, err
	}
	if t.Enabled {
		return 0, apierror.New(apierror.Conflict, "tenant %q is not deleted: delete it first, so that its present files are archived", t.ID)
	}
	if unfinished, err := a.deletionOf(t); err != nil {
		return 0, err
	} else if unfinished != "" && filepath.Base(unfinished) != filepath.Base(archive) {
		return 0, errDeletion(t, unfinished)
	}
	dir := a.Dirs.Of(t.DataDir)
	at, letGo, err := dir.Hold()
	if err != nil {
		return 0, err
	}
	defer letGo()
	defer func() { err = fsutil.Named(err, at, dir.Path) }()
	before, err := t.OwnFilesIn(at)
	if err != nil {
		return 0, err
	}
	// As OwnFiles: an archive has what SQ's json-export left, too.
	own := func(name string) bool { return t.OwnFile(strings.TrimSuffix(name, ".json")) }
	files, err = a.archives.Restore(t.ArchiveID(), archive, at, before, own)
	after, looked := t.OwnFilesIn(at)
	if err != nil && looked == nil && len(after) == len(before) {
		return 0, err
	}
	if err = errors.Join(err, looked); err == nil {
		err = errors.Join(a.History.FilesReplaced(t, at, append(before, after...), a.keyFingerprint(), "the tenant was restored from an archive"), a.Ledger.Recount(t))
	}
	if err == nil {
		dir.MarkWritten(at)
		err = a.setArchived(t.ID, false)
	}
	return files, apierror.Partly(err, "tenant %q is not enabled yet, and has all of its files back, or a part of them: mend what follows, and repeat the restore", t.ID)
}

// purgeTenant erases what is left of an archived tenant: its archives, its journal,
// its counts and its entry. If it fails at any step, the call can be repeated.
func (a *API) purgeTenant(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Confirm *string `json:"confirm"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	if in.Confirm == nil || *in.Confirm != t.ID {
		return badRequest(`field "confirm" does not repeat the tenant's id: what is purged cannot be brought back`)
	}
	archives, err := a.purge(r, t)
	if err != nil {
		return err
	}
	a.record(r, "purge", t.ID, map[string]any{"archives": archives, "data_dir": t.DataDir}, nil)
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "status": "purged", "archives": archives})
	return nil
}

// purge erases a tenant. The entry goes last: without it the call could not be
// repeated.
func (a *API) purge(r *http.Request, t *tenants.Tenant) (archives int, err error) {
	release, err := a.Dirs.LockExclusive(r.Context(), t.DataDir)
	if err != nil {
		return 0, err
	}
	defer release()
	if t, err = a.unchanged(t); err != nil {
		return 0, err
	}
	if !t.Archived {
		return 0, errNotArchived(t.ID)
	}
	if a.MayPurge != nil {
		if err := a.MayPurge(t); err != nil {
			return 0, err
		}
	}
	files, err := t.OwnFiles()
	if err != nil {
		return 0, err
	}
	if len(files) > 0 {
		return 0, apierror.New(apierror.Conflict, "%s holds %d files of tenant %q that are in no archive: delete the tenant again, or move them away", t.DataDir, len(files), t.ID)
	}
	if err := a.archives.CheckPresent(); err != nil {
		return 0, err
	}
	archives, err = a.erase(r, t)
	return archives, apierror.Partly(err, "tenant %q is not purged yet, and what was erased of it is gone: mend what follows, and repeat the purge", t.ID)
}

func (a *API) erase(r *http.Request, t *tenants.Tenant) (archives int, err error) {
	if archives, err = a.archives.Purge(t.ArchiveID(), t.DataDir); err != nil {
		return 0, err
	}
	if err := a.History.Purge(r.Context(), t); err != nil {
		return 0, err
	}
	a.Calls.Forget(t)
	return archives, a.Store.Edit(func(d *tenants.Document) error {
		return d.Remove(t.ID, func(e *tenants.Entry) error {
			if e.Archived == nil || !*e.Archived {
				return errNotArchived(t.ID)
			}
			return nil
		})
	})
}

func errNotArchived(id string) error {
	return apierror.New(apierror.Conflict, "tenant %q is not archived: delete it first", id)
}
