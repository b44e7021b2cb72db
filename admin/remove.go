package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/tenants"
)

// deleteTenant disables a tenant, archives its files and removes them. If it
// fails at any step, the call can be repeated.
func (a *API) deleteTenant(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	if err := a.changeEntry(t.ID, func(e *tenants.Entry) error { e.Enabled = ptr(false); return nil }); err != nil {
		return err
	}
	archive, files, err := a.archiveFiles(r, t)
	if err != nil {
		return fmt.Errorf("tenant %q is disabled, and its data is still there: %w", t.ID, err)
	}
	a.record(r, "delete", t.ID, map[string]any{"files": files}, map[string]any{"archive": archive})
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "status": disabled, "archive": archive})
	return nil
}

// archiveFiles moves a tenant's files into an archive.
func (a *API) archiveFiles(r *http.Request, t *tenants.Tenant) (archive string, files int, err error) {
	release, err := a.takeOver(r, t)
	if err != nil {
		return "", 0, err
	}
	defer release()
	names, err := t.OwnFiles()
	if err != nil {
		return "", 0, err
	}
	if archive, err = a.archives.Create(t.ArchiveID(), t.DataDir, names); err != nil {
		return "", 0, err
	}
	return archive, len(names), errors.Join(a.History.FilesReplaced(t, names), a.Ledger.Recount(t))
}

// takeOver keeps requests out of a tenant's directory until release is called,
// and stops its SQ process, which would write what it has in memory over any
// file that changes.
func (a *API) takeOver(r *http.Request, t *tenants.Tenant) (release func(), err error) {
	release, err = a.Dirs.Freeze(r.Context(), t.DataDir)
	if err != nil {
		return nil, err
	}
	if err := a.Children.Stop(r.Context(), fsutil.Resolve(t.DataDir), "the tenant's files are moved"); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// restoreArchive undoes deleteTenant: it brings back the files of an archive
// and enables the tenant.
func (a *API) restoreArchive(w http.ResponseWriter, r *http.Request, archive string) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	if t.Enabled {
		return apierror.New(apierror.Conflict, "tenant %q is not deleted: delete it first, so that its present files are archived", t.ID)
	}
	n, err := a.restoreFiles(r, t, archive)
	if err != nil {
		return err
	}
	if err := a.changeEntry(t.ID, func(e *tenants.Entry) error { e.Enabled = ptr(true); return nil }); err != nil {
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
	before, err := t.OwnFiles()
	if err != nil {
		return 0, err
	}
	// As OwnFiles: an archive has what SQ's json-export left, too.
	own := func(name string) bool { return t.OwnFile(strings.TrimSuffix(name, ".json")) }
	if files, err = a.archives.Restore(t.ArchiveID(), archive, t.DataDir, before, own); err != nil {
		return 0, err
	}
	after, err := t.OwnFiles()
	if err != nil {
		return 0, err
	}
	return files, errors.Join(a.History.FilesReplaced(t, append(before, after...)), a.Ledger.Recount(t))
}
