package admin

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
)

// view is a tenant as the operator sees it. A megabyte is 1,048,576 bytes.
type view struct {
	ID                string     `json:"tenant_id"`
	Status            string     `json:"status"` // active or disabled
	StorageUsedMB     float64    `json:"storage_used_mb"`
	StorageUsedBytes  int64      `json:"storage_used_bytes"`
	QuotaMB           int64      `json:"quota_mb"` // 0 = no limit
	Phexts            int        `json:"phexts"`
	MaxPhexts         int        `json:"max_phexts"`
	CallsToday        int64      `json:"api_calls_today"`
	RequestsPerMinute int        `json:"requests_per_minute,omitempty"`
	CallsPerDay       int        `json:"calls_per_day,omitempty"`
	LastActive        *time.Time `json:"last_active"`
	CreatedAt         *time.Time `json:"created_at,omitempty"`
	AdminEmail        string     `json:"admin_email,omitempty"`
	DataDir           string     `json:"data_dir"`
	Child             string     `json:"child"` // state of the SQ process, or "stopped"
	// PathKeyFingerprint tells which path key there is, without giving it away.
	PathKeyFingerprint string `json:"path_key_fingerprint,omitempty"`
	PathKey            string `json:"path_key,omitempty"` // in the answer to the call that made it, and never again
}

const (
	active   = "active"
	disabled = "disabled"
	stopped  = "stopped"
)

func (a *API) viewOf(t *tenants.Tenant, children map[string]supervisor.ChildStatus) (view, error) {
	use, err := a.Ledger.Use(t)
	if err != nil {
		return view{}, fmt.Errorf("reading the directory of tenant %q: %w", t.ID, err)
	}
	calls := a.Calls.Of(t.ID, a.now())
	v := view{ID: t.ID, Status: active, StorageUsedBytes: use.Bytes, Phexts: use.Phexts, MaxPhexts: t.MaxPhexts,
		StorageUsedMB: math.Round(float64(use.Bytes)/(1<<20)*1e6) / 1e6, QuotaMB: t.QuotaBytes >> 20,
		CallsToday: calls.Today, RequestsPerMinute: t.RequestsPerMinute, CallsPerDay: t.CallsPerDay,
		LastActive: moment(calls.LastActive), CreatedAt: moment(t.CreatedAt), AdminEmail: t.AdminEmail, DataDir: t.DataDir, Child: stopped,
		PathKeyFingerprint: t.PathKeyFingerprint()}
	if !t.Enabled {
		v.Status = disabled
	}
	if c, ok := children[fsutil.Resolve(t.DataDir)]; ok {
		v.Child = string(c.State)
	}
	return v, nil
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (a *API) children() map[string]supervisor.ChildStatus {
	all := map[string]supervisor.ChildStatus{}
	for _, c := range a.Children.Children() {
		all[c.Dir] = c
	}
	return all
}

// tenant is the one that a path names.
func (a *API) tenant(r *http.Request) (*tenants.Tenant, error) {
	t, ok := a.Store.Current().ByID(r.PathValue("id"))
	if !ok {
		return nil, tenants.ErrNoTenant
	}
	return t, nil
}

func (a *API) showTenant(w http.ResponseWriter, r *http.Request) error { return a.show(w, r, "") }

// show answers with a tenant, and with the path key if it was just made.
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
	writeJSON(w, http.StatusOK, v)
	return nil
}

func (a *API) showLogs(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	lines := a.Children.Lines(fsutil.Resolve(t.DataDir))
	if lines == nil {
		lines = []string{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "lines": lines})
	return nil
}

func (a *API) listTenants(w http.ResponseWriter, r *http.Request) error {
	keep, err := filterOf(r)
	if err != nil {
		return err
	}
	list, children := []view{}, a.children()
	for _, t := range a.Store.Current().All() {
		v, err := a.viewOf(t, children)
		if err != nil {
			return err
		}
		if keep(v) {
			list = append(list, v)
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"tenants": list})
	return nil
}

// filterOf reads ?status= and ?idle_since=, the latter a time, a date or a
// duration back from now.
func filterOf(r *http.Request) (func(view) bool, error) {
	q := r.URL.Query()
	status, idle := q.Get("status"), q.Get("idle_since")
	if status != "" && status != active && status != disabled {
		return nil, bad(fmt.Sprintf("parameter \"status\" is %q: active or disabled is wanted", status))
	}
	since, err := pastMoment(idle)
	if err != nil {
		return nil, err
	}
	return func(v view) bool {
		busy := !since.IsZero() && v.LastActive != nil && !v.LastActive.Before(since)
		return !busy && (status == "" || v.Status == status)
	}, nil
}

func pastMoment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, strings.ReplaceAll(text, " ", "+")); err == nil {
			return at, nil
		}
	}
	return time.Time{}, bad(fmt.Sprintf("parameter \"idle_since\" is %q: a time such as 2026-01-31T12:00:00Z, a date, or a duration such as 720h is wanted", text))
}
