package admin

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/tenants"
)

func (a *API) showHistory(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	want, err := a.selection(r.URL.Query())
	if err != nil {
		return err
	}
	page, err := a.History.Events(r.Context(), t, want)
	if err != nil {
		return err
	}
	defer page.Release()
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "events": page.Entries(), "more": page.More})
	return nil
}

// selection is the part of the history that a query asks for.
func (a *API) selection(q url.Values) (history.Selection, error) {
	want := history.Selection{Coordinate: q.Get("coordinate"), Limit: history.MostEvents}
	if q.Has("phext") {
		want.Phext = ptr(q.Get("phext"))
	}
	if want.Phext == nil && q.Has("coordinate") {
		return want, badRequest(`parameter "phext" is missing: a coordinate is one of a phext`)
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > history.MostEvents {
			return want, badRequest(`parameter "limit" is %.80q: a number from 1 to %d is wanted`, text, history.MostEvents)
		}
		want.Limit = n
	}
	if text := q.Get("after"); text != "" {
		var ok bool
		if want.After, ok = a.parseTime(text); !ok {
			return want, badRequest(`parameter "after" is %.80q: a time such as 2026-01-31T15:04:05.123Z, a date or a duration back from now such as 90m is wanted`, text)
		}
	}
	return want, nil
}

const tarType = "application/x-tar"

// backup streams a tar of the tenant's phexts. An error in the middle cuts the
// answer off. Every HTTP client and tar program notices that, and so does
// restoreBackup, before it changes anything.
func (a *API) backup(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	check := func() error { // before it is read, and after: in between, it may be deleted
		if t, err := a.unchanged(t); err != nil {
			return err
		} else {
			return a.checkArchived(t)
		}
	}
	if err := check(); err != nil {
		return err
	}
	out := &tarAnswer{w: w, check: check, name: t.ArchiveID() + "." + a.now().UTC().Format("20060102T150405Z") + ".tar"}
	if err := a.History.Backup(r.Context(), t, out); err != nil {
		if !out.begun {
			return err
		}
		a.Logger.Error("a backup was cut off", "tenant", t.ID, "error", err)
		panic(http.ErrAbortHandler) // the status is sent already: only a broken connection can say that the backup is not whole
	}
	a.record(r, "backup", t.ID, nil, nil)
	return nil
}

// tarAnswer sends the headers of a tar with its first bytes. Until then an error can
// be answered, such as one of check.
type tarAnswer struct {
	w     http.ResponseWriter
	name  string
	check func() error
	begun bool
}

func (t *tarAnswer) Write(p []byte) (int, error) {
	if !t.begun {
		if err := t.check(); err != nil {
			return 0, err
		}
		t.w.Header().Set("Content-Type", tarType)
		t.w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", t.name))
		t.begun = true
	}
	return t.w.Write(p)
}

// restoreRequest asks for an archive of a deleted tenant, or for phexts as they
// were at some time.
type restoreRequest struct {
	Archive    *string `json:"archive,omitempty"`
	At         *string `json:"at,omitempty"`
	Phext      *string `json:"phext,omitempty"`
	Coordinate *string `json:"coordinate,omitempty"`
	To         *string `json:"to,omitempty"`
	DryRun     *bool   `json:"dry_run,omitempty"`
}

// restore brings files back from an archive, from the history, or from a backup
// that is the body.
func (a *API) restore(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Content-Type") == tarType {
		return a.restoreBackup(w, r)
	}
	if r.URL.RawQuery != "" {
		return badRequest("parameters are of a backup as the body, of type %s: put them into the JSON here", tarType)
	}
	var in restoreRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	switch {
	case in.Archive != nil && in.At != nil:
		return badRequest(`fields "archive" and "at": give one of them`)
	case in.Archive != nil:
		return a.restoreArchive(w, r, *in.Archive)
	case in.At == nil:
		return badRequest(`fields "archive" and "at" are missing: name the archive that deleting the tenant answered, or the moment to go back to`)
	}
	return a.restoreHistory(w, r, in)
}

func (a *API) restoreHistory(w http.ResponseWriter, r *http.Request, in restoreRequest) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	if err := a.checkArchived(t); err != nil {
		return err
	}
	at, ok := a.parseTime(*in.At)
	if !ok {
		return badRequest("field \"at\" is %q: a time such as 2026-01-31T15:04:05.123Z, a date or a duration back from now such as 90m is wanted", *in.At)
	}
	want := history.Target{At: at, Phext: in.Phext, To: in.To, Key: a.keyFingerprint()}
	if in.Coordinate != nil {
		want.Coordinate = *in.Coordinate
	}
	if in.DryRun != nil {
		want.DryRun = *in.DryRun
	}
	if want.To != nil && want.Phext == nil {
		return badRequest(`field "phext" is missing: "to" is another name for one phext`)
	}
	done, err := a.History.Restore(r.Context(), t, want)
	return a.answerRestore(w, r, t, in, done, nil, err)
}

func (a *API) restoreBackup(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	if err := a.checkArchived(t); err != nil {
		return err
	}
	q, in := r.URL.Query(), restoreRequest{}
	want := history.Target{Key: a.keyFingerprint(), From: q.Get("from")}
	switch value := q.Get("dry_run"); value {
	case "true", "1", "":
		want.DryRun = q.Has("dry_run")
	case "false", "0":
	default:
		return apierror.New(apierror.BadRequest, "dry_run is %q: true or false is wanted", value)
	}
	in.DryRun = &want.DryRun
	if q.Has("phext") {
		in.Phext = ptr(q.Get("phext"))
		want.Phext = in.Phext
	}
	result, err := a.History.RestoreBackup(r.Context(), t, want, r.Body)
	return a.answerRestore(w, r, t, in, result.Restored, map[string]any{"manifest": result.Manifest}, err)
}

// answerRestore answers with what was restored, and with more. A restore that
// failed halfway is in the audit log, too.
func (a *API) answerRestore(w http.ResponseWriter, r *http.Request, t *tenants.Tenant, in restoreRequest, done []history.Restored, more map[string]any, err error) error {
	if done == nil {
		done = []history.Restored{} // in JSON, an empty list and not null
	}
	dryRun := in.DryRun != nil && *in.DryRun
	var after any = done
	unfinished := apierror.AsUnfinished(err)
	if unfinished != nil {
		after = map[string]any{"restored": done, "error": unfinished.Error()}
	}
	if (len(done) > 0 || unfinished != nil) && !dryRun {
		a.record(r, "restore", t.ID, in, after)
	}
	if err != nil {
		return err
	}
	answer := map[string]any{"tenant_id": t.ID, "restored": done, "removed": history.Removed(done), "dry_run": dryRun}
	maps.Copy(answer, more)
	apierror.WriteJSON(w, http.StatusOK, answer)
	return nil
}
