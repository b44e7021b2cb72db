package admin

import (
	"sync"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/tenants"
)

// A deletion is finished when the tenant's entry says that it is archived. If it was cut off
// before that, some files or all of them may be in the archive alone: whoever enabled the
// tenant then would see an empty one, and begin a second set of data.

// deletions are the ids of tenants that are being deleted, and by how many calls.
type deletions struct {
	mu  sync.Mutex
	ids map[string]int
}

func (d *deletions) begin(id string) (end func()) {
	d.add(id, 1)
	return func() { d.add(id, -1) }
}

func (d *deletions) add(id string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids == nil {
		d.ids = map[string]int{}
	}
	if d.ids[id] += n; d.ids[id] == 0 {
		delete(d.ids, id)
	}
}

func (d *deletions) has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids[id] > 0
}

// deletionOf is the archive of a deletion that is not finished, or "".
func (a *API) deletionOf(t *tenants.Tenant) (archive string, err error) {
	if t.Archived || t.Enabled && a.archives.CheckPresent() != nil { // a disk that is missing is said to whoever needs it
		return "", nil
	}
	archive, err = a.archives.Deleting(t.ArchiveID())
	if archive != "" || err != nil || t.Enabled {
		return archive, err
	}
	// Earlier versions removed the marker of a deletion too soon. What a tenant does not have
	// that has made no call since, it did not delete itself.
	files, err := t.OwnFiles()
	if err != nil || len(files) > 0 || a.Dirs.Of(t.DataDir).CheckPresent() != nil {
		return "", nil // what cannot be looked at is said elsewhere
	}
	return a.archives.LatestSince(t.ArchiveID(), a.Calls.Of(t, a.now()).LastActive)
}

// checkDeletion is the error for a tenant whose deletion is not finished.
func (a *API) checkDeletion(t *tenants.Tenant) error {
	archive, err := a.deletionOf(t)
	switch {
	case err != nil:
		return err
	case archive != "":
		return errDeletion(t, archive)
	case a.deletions.has(t.ID):
		return apierror.New(apierror.Conflict, "tenant %q is being deleted: wait for the end of that", t.ID)
	}
	return nil
}

func errDeletion(t *tenants.Tenant, archive string) error {
	advice := "delete it again, or restore it from there"
	if t.Enabled { // and so only a deleted one can be restored
		advice = "delete it again, and restore it from the archive that you want"
	}
	return apierror.New(apierror.Conflict, "the deletion of tenant %q is not finished, and some of its files, or all, may be in %s alone: %s", t.ID, archive, advice)
}

// checkArchived is the error for a tenant whose files are in an archive, all or some.
func (a *API) checkArchived(t *tenants.Tenant) error {
	if t.Archived {
		return errArchived(t.ID)
	}
	return a.checkDeletion(t)
}

// WarnOfDeletions logs which deletions an earlier process has left unfinished.
func (a *API) WarnOfDeletions() {
	if err := a.archives.CheckPresent(); err != nil {
		a.Logger.Error("no tenant can be deleted, restored from an archive, or purged", logkey.Error, err)
		return
	}
	for _, t := range a.Store.Current().All() {
		if archive, err := a.deletionOf(t); archive != "" || err != nil {
			a.Logger.Warn("the deletion of a tenant is not finished: delete it again, or restore it from the archive", logkey.Tenant, t.ID, "archive", archive, logkey.Error, err)
		}
	}
}
