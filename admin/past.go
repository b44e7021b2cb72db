package admin

import (
	"fmt"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/tenants"
)

// event is one change of a phext as the operator sees it.
type event struct {
	Time       time.Time `json:"time"`
	Phext      string    `json:"phext"`
	Op         string    `json:"op"`
	Coordinate string    `json:"coordinate,omitempty"`
	Bytes      int       `json:"bytes"`
	Key        string    `json:"key,omitempty"` // fingerprint
	Note       string    `json:"note,omitempty"`
}

func (a *API) showHistory(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	var phext *string
	if q.Has("phext") {
		phext = ptr(q.Get("phext"))
	}
	if phext == nil && q.Has("coordinate") {
		return bad(`parameter "phext" is missing: a coordinate is one of a phext`)
	}
	found, err := a.History.Events(t, phext, q.Get("coordinate"))
	if err != nil {
		return err
	}
	events := make([]event, len(found))
	for i, e := range found {
		events[i] = event{Time: e.Time, Phext: e.File, Op: e.Op, Bytes: e.Bytes, Key: e.Key, Note: e.Note}
		if e.At.Valid() {
			events[i].Coordinate = e.At.String()
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "events": events})
	return nil
}

// backup streams a tar. An error in the middle cuts it off, which every tar
// notices; so does sqgate restore, before it changes anything.
func (a *API) backup(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", tarType)
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", t.ID+"-"+a.now().UTC().Format("20060102T150405Z")+".tar"))
	if err := a.History.Backup(r.Context(), t, w); err != nil {
		a.Logger.Error("a backup was cut off", "tenant", t.ID, "error", err)
		panic(http.ErrAbortHandler) // the only way to tell a client that what it has is not all
	}
	a.record(r, "backup", t.ID, nil, nil)
	return nil
}

const tarType = "application/x-tar"

// wish is what a restore may ask for: an archive of a deleted tenant, or a
// moment of the past.
type wish struct {
	Archive    *string `json:"archive,omitempty"`
	At         *string `json:"at,omitempty"`
	Phext      *string `json:"phext,omitempty"`
	Coordinate *string `json:"coordinate,omitempty"`
	To         *string `json:"to,omitempty"`
	DryRun     *bool   `json:"dry_run,omitempty"`
}

// restore puts back what was: from an archive, from the journal, or from a
// backup that is the body.
func (a *API) restore(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Content-Type") == tarType {
		return a.restoreBackup(w, r)
	}
	var in wish
	if err := decode(r, &in); err != nil {
		return err
	}
	switch {
	case in.Archive != nil && in.At != nil:
		return bad(`fields "archive" and "at": give one of them`)
	case in.Archive != nil:
		return a.restoreTenant(w, r, *in.Archive)
	case in.At == nil:
		return bad(`fields "archive" and "at" are missing: name the archive that deleting the tenant answered, or the moment to go back to`)
	}
	return a.restorePast(w, r, in)
}

func (a *API) restorePast(w http.ResponseWriter, r *http.Request, in wish) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	at, err := pastMoment(*in.At)
	if err != nil || *in.At == "" {
		return bad(fmt.Sprintf("field \"at\" is %q: a time such as 2026-01-31T15:04:05.123Z, a date or a duration back from now such as 90m is wanted", *in.At))
	}
	want := history.Target{At: at, Phext: in.Phext, To: in.To, Key: a.who()}
	if in.Coordinate != nil {
		want.Coordinate = *in.Coordinate
	}
	if in.DryRun != nil {
		want.DryRun = *in.DryRun
	}
	if want.To != nil && want.Phext == nil {
		return bad(`field "phext" is missing: "to" is another name for one phext`)
	}
	done, err := a.History.Restore(r.Context(), t, want)
	return a.restored(w, r, t, in, done, err)
}

func (a *API) restoreBackup(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	q, in := r.URL.Query(), wish{}
	want := history.Target{DryRun: q.Has("dry_run"), Key: a.who()}
	in.DryRun = &want.DryRun
	if q.Has("phext") {
		in.Phext = ptr(q.Get("phext"))
		want.Phext = in.Phext
	}
	done, err := a.History.RestoreBackup(r.Context(), t, want, r.Body)
	return a.restored(w, r, t, in, done, err)
}

// restored answers what was done, and takes it down even if it was cut short.
func (a *API) restored(w http.ResponseWriter, r *http.Request, t *tenants.Tenant, in wish, done []history.Restored, err error) error {
	if done == nil {
		done = []history.Restored{}
	}
	dry := in.DryRun != nil && *in.DryRun
	if len(done) > 0 && !dry {
		a.record(r, "restore", t.ID, in, done)
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "restored": done, "dry_run": dry})
	return nil
}
