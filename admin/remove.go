package admin

import (
	"errors"
	"fmt"
	"net/http"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/tenants"
)

// deleteTenant disables a tenant, archives its files and empties its
// directory. Each step leaves a state from which the call can be repeated.
func (a *API) deleteTenant(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	if err := a.changeEntry(t.ID, func(e *tenants.Entry) error { e.Enabled = ptr(false); return nil }); err != nil {
		return err
	}
	archive, files, err := a.empty(r, t)
	if err != nil {
		return fmt.Errorf("tenant %q is disabled, and its data is still there: %w", t.ID, err)
	}
	a.record(r, "delete", t.ID, map[string]any{"files": files}, map[string]any{"archive": archive})
	writeJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "status": disabled, "archive": archive})
	return nil
}

// empty moves a tenant's files into an archive. Requests are kept out of the
// directory, and its SQ process is gone before a file is touched: it would
// write what it has in memory back.
func (a *API) empty(r *http.Request, t *tenants.Tenant) (archive string, files int, err error) {
	release, err := a.quiet(r, t)
	if err != nil {
		return "", 0, err
	}
	defer release()
	names, err := t.OwnFiles()
	if err != nil {
		return "", 0, err
	}
	if archive, err = a.archives.Create(t.ID, t.DataDir, names); err != nil {
		return "", 0, err
	}
	return archive, len(names), errors.Join(a.History.FilesReplaced(t, names), a.Ledger.Recount(t))
}

func (a *API) quiet(r *http.Request, t *tenants.Tenant) (release func(), err error) {
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

// restoreTenant is the inverse: the files of an archive come back, and the
// tenant is enabled.
func (a *API) restoreTenant(w http.ResponseWriter, r *http.Request, archive string) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	if t.Enabled {
		return conflict(fmt.Sprintf("tenant %q is not deleted: delete it first, so that its present files are archived", t.ID))
	}
	n, err := a.refill(r, t, archive)
	if err != nil {
		return err
	}
	if err := a.changeEntry(t.ID, func(e *tenants.Entry) error { e.Enabled = ptr(true); return nil }); err != nil {
		return err
	}
	a.record(r, "restore", t.ID, nil, map[string]any{"archive": archive, "files": n})
	writeJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "status": active, "files": n})
	return nil
}

func (a *API) refill(r *http.Request, t *tenants.Tenant, archive string) (files int, err error) {
	release, err := a.quiet(r, t)
	if err != nil {
		return 0, err
	}
	defer release()
	names, err := t.OwnFiles()
	if err != nil {
		return 0, err
	}
	own := func(name string) bool { return t.OwnFile(name) || t.OwnFile(trimJSON(name)) }
	if files, err = a.archives.Restore(t.ID, archive, t.DataDir, names, own); err != nil {
		return 0, err
	}
	now, err := t.OwnFiles()
	if err != nil {
		return 0, err
	}
	return files, errors.Join(a.History.FilesReplaced(t, append(names, now...)), a.Ledger.Recount(t))
}
