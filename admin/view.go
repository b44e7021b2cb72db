package admin

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/duration"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
)

// tenantView is a tenant as the operator sees it. A megabyte is 1,048,576 bytes.
type tenantView struct {
	ID                string     `json:"tenant_id"`
	Status            string     `json:"status"` // active, disabled or archived
	StorageUsedMB     float64    `json:"storage_used_mb"`
	StorageUsedBytes  int64      `json:"storage_used_bytes"`
	QuotaMB           int64      `json:"quota_mb"` // 0 = no limit
	Phexts            int        `json:"phexts"`
	MaxPhexts         int        `json:"max_phexts"`
	CallsToday        int64      `json:"api_calls_today"`
	RequestsPerMinute int        `json:"requests_per_minute,omitempty"`
	ReadsPerMinute    int        `json:"reads_per_minute,omitempty"`
	WritesPerMinute   int        `json:"writes_per_minute,omitempty"`
	ListsPerMinute    int        `json:"lists_per_minute,omitempty"`
	CallsPerDay       int        `json:"calls_per_day,omitempty"`
	LastActive        *time.Time `json:"last_active"`
	CreatedAt         *time.Time `json:"created_at,omitempty"`
	Incarnation       string     `json:"incarnation,omitempty"` // as the tenants file has it
	AdminEmail        string     `json:"admin_email,omitempty"`
	DataDir           string     `json:"data_dir"`
	Writers           []string   `json:"writers,omitempty"` // other tenants that may write here
	Public            []string   `json:"public,omitempty"`  // patterns of the phexts that everybody may read
	Archive           string     `json:"archive,omitempty"` // the newest one, of an archived tenant, or of one whose deletion is not finished
	Child             string     `json:"child"`             // state of the SQ process, or "stopped"
	Error             string     `json:"error,omitempty"`   // why the directory cannot be written or recovered, or that its deletion is not finished, or in a list why it cannot be read; the use is 0 then
	// PathKeyFingerprint tells one path key from another and does not give it away.
	PathKeyFingerprint string `json:"path_key_fingerprint,omitempty"`
	PathKey            string `json:"path_key,omitempty"` // only in the answer to the call that made it
}

const (
	active   = "active"
	disabled = "disabled"
	archived = "archived"
	stopped  = "stopped"
)

// viewOf returns what is known of a tenant, also with an error.
func (a *API) viewOf(t *tenants.Tenant, children map[string]supervisor.ChildStatus) (tenantView, error) {
	use, err := a.Ledger.Use(t)
	if err != nil {
		err = fmt.Errorf("reading the directory of tenant %q: %w", t.ID, err)
	}
	calls := a.Calls.Of(t, a.now())
	v := tenantView{ID: t.ID, Status: active, StorageUsedBytes: use.Bytes, Phexts: use.Phexts, MaxPhexts: t.MaxPhexts,
		StorageUsedMB: math.Round(float64(use.Bytes)/(1<<20)*1e6) / 1e6, QuotaMB: t.QuotaBytes >> 20,
		CallsToday: calls.Today, RequestsPerMinute: t.RequestsPerMinute, ReadsPerMinute: t.ReadsPerMinute, WritesPerMinute: t.WritesPerMinute, ListsPerMinute: t.ListsPerMinute, CallsPerDay: t.CallsPerDay,
		LastActive: optionalTime(calls.LastActive), CreatedAt: optionalTime(t.CreatedAt), Incarnation: t.IncarnationText(), AdminEmail: t.AdminEmail, DataDir: t.Configured, Child: stopped,
		Public: t.Public(), Writers: t.Writers(), PathKeyFingerprint: t.PathKeyFingerprint()}
	switch {
	case t.Archived:
		v.Status = archived
	case !t.Enabled:
		v.Status = disabled
	}
	if c, ok := children[t.DataDir]; ok {
		v.Child = string(c.State)
	} else if a.Leaving(t.DataDir) { // whoever waits for its end moves the files then
		v.Child = string(supervisor.StateStopping)
	}
	if full := a.Dirs.Waiting(t.DataDir); full != nil {
		v.Error = full.Error()
	} else if reason, mark, e := a.Dirs.Absence(t.DataDir); reason != "" || e != nil {
		v.Error = errAbsent(reason, mark, e).Error()
	} else if e := a.refused(t); e != nil {
		v.Error = e.Error()
	} else if e := Unwritable(t); err == nil && e != nil {
		v.Error = e.Error()
	}
	return v, err
}

// refused is why a tenant would not be served here because of what the bucket has, or what
// this host knows of that; nil = it would be.
func (a *API) refused(t *tenants.Tenant) error {
	d := a.Dirs.Of(t.DataDir)
	if a.Directories == nil {
		return d.Refusal()
	}
	return a.Directories.Refused()[d.Path]
}

// errAbsent tells why a tenant is not served at all, in the words of the log.
func errAbsent(reason, mark string, err error) error {
	if err != nil {
		return fmt.Errorf("it cannot be found out whether the data directory is there: %w", err)
	}
	return fmt.Errorf("the data directory is missing, as if its disk were not mounted (%s), and all calls are answered 503: mount it. If it is gone for good, make an empty one and remove the mark, %s", reason, mark)
}

// Unwritable tells why every write of a tenant will fail: sqgate cannot write in its
// directory.
func Unwritable(t *tenants.Tenant) error {
	if !t.Enabled {
		return nil
	}
	if err := fsutil.CheckWritable(t.DataDir); err != nil {
		return fmt.Errorf("every write fails, because the data directory cannot be written (%w): if it is outside of the unit's ReadWritePaths=, add it there", err)
	}
	return nil
}

// optionalTime is null in JSON for the zero time.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// children are the SQ processes by data directory.
func (a *API) children() map[string]supervisor.ChildStatus {
	all := map[string]supervisor.ChildStatus{}
	for _, c := range a.Children.Children() {
		all[c.Dir] = c
	}
	return all
}

// tenant is the one that the path names.
func (a *API) tenant(r *http.Request) (*tenants.Tenant, error) {
	t, ok := a.Store.Current().ByID(r.PathValue("id"))
	if !ok {
		return nil, tenants.ErrNoTenant
	}
	return t, nil
}

// showTenant takes the directory over first, if there is a bucket: what is there counts. If
// that fails, the answer has what is known here, and what is wrong.
func (a *API) showTenant(w http.ResponseWriter, r *http.Request) error {
	if t, err := a.tenant(r); err == nil && a.Directories != nil && !t.Archived {
		err = a.Dirs.Of(t.DataDir).Recover(r.Context())
		if errors.Is(err, datadir.ErrMoved) && fromHost(r) {
			return err // the host that has sent it here asks the new owner
		}
	}
	return a.show(w, r, "")
}

// show answers with a tenant, and with its path key if that was just made; ""
// if not.
func (a *API) show(w http.ResponseWriter, r *http.Request, pathKey string) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	v, err := a.viewOf(t, a.children())
	if err != nil {
		return err
	}
	v.PathKey = pathKey
	a.addArchive(&v, t)
	apierror.WriteJSON(w, http.StatusOK, v)
	return nil
}

func (a *API) showLogs(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	lines := a.Children.Lines(t.DataDir)
	if lines == nil {
		lines = []string{}
	}
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "lines": lines})
	return nil
}

func (a *API) listTenants(w http.ResponseWriter, r *http.Request) error {
	keep, err := a.parseFilter(r)
	if err != nil {
		return err
	}
	list, children := []tenantView{}, a.children()
	for _, t := range a.Store.Current().All() {
		v, err := a.viewOf(t, children)
		if err != nil { // one directory must not hide the other tenants
			v.Error = err.Error()
		}
		if keep(v) {
			a.addArchive(&v, t)
			list = append(list, v)
		}
	}
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenants": list})
	return nil
}

// addArchive adds the archive that restoring a tenant would name. If the deletion of the
// tenant is not finished, that is why it cannot be enabled.
func (a *API) addArchive(v *tenantView, t *tenants.Tenant) {
	if t.Archived {
		v.Archive, _ = a.archives.Latest(t.ArchiveID()) // restoring says what is wrong with it
		return
	}
	archive, err := a.deletionOf(t)
	if archive != "" {
		err = errDeletion(t, archive)
	}
	if v.Archive = archive; err != nil {
		v.Error = err.Error()
	}
}

// parseFilter reads ?status= and ?idle_since=. Archived tenants are listed only if
// they are asked for.
func (a *API) parseFilter(r *http.Request) (keep func(tenantView) bool, err error) {
	q := r.URL.Query()
	status, idle := q.Get("status"), q.Get("idle_since")
	if status != "" && status != active && status != disabled && status != archived {
		return nil, badRequest("parameter \"status\" is %q: active, disabled or archived is wanted", status)
	}
	var since time.Time
	if idle != "" {
		var ok bool
		if since, ok = a.parseTime(idle); !ok {
			return nil, badRequest("parameter \"idle_since\" is %q: a time such as 2026-01-31T12:00:00Z, a date, or a duration such as 30d is wanted", idle)
		}
	}
	return func(v tenantView) bool {
		busy := !since.IsZero() && v.LastActive != nil && !v.LastActive.Before(since)
		return !busy && (v.Status == status || status == "" && v.Status != archived)
	}, nil
}

// parseTime is duration.Back from now.
func (a *API) parseTime(text string) (t time.Time, ok bool) { return duration.Back(text, a.now()) }
