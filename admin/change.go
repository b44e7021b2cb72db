package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"mirrorborn.us/sqgate/tenants"
)

// addTenant makes a tenant that can call at once.
func (a *API) addTenant(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		ID         *string `json:"tenant_id"`
		QuotaMB    *int64  `json:"quota_mb"`
		AdminEmail *string `json:"admin_email"`
		PathKey    pathKey `json:"path_key"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := in.PathKey.check(); err != nil {
		return err
	}
	if in.ID == nil {
		return bad(`field "tenant_id" is missing: give the tenant a name`)
	}
	if err := tenants.ValidID(*in.ID); err != nil {
		return bad(`field "tenant_id" ` + err.Error())
	}
	key, err := tenants.NewKey()
	if err != nil {
		return err
	}
	dir := filepath.Join(a.DataRoot, *in.ID)
	e := tenants.Entry{ID: in.ID, DataDir: &dir, QuotaMB: in.QuotaMB, AdminEmail: in.AdminEmail,
		APIKeySHA256: hashed(key), CreatedAt: ptr(a.now().UTC().Format(time.RFC3339)), Enabled: ptr(true)}
	if e.PathKey, err = in.PathKey.carryOut(nil); err != nil {
		return err
	}
	if err := a.add(e, dir); err != nil {
		return err
	}
	a.record(r, "add", *in.ID, nil, map[string]any{"data_dir": dir, "quota_mb": in.QuotaMB, "admin_email": in.AdminEmail, "path_key": audited(e.PathKey)})
	out := map[string]string{"tenant_id": *in.ID, "api_key": key, "data_dir": dir, "status": "active"}
	if e.PathKey != nil {
		out["path_key"] = *e.PathKey
	}
	writeJSON(w, http.StatusCreated, out)
	return nil
}

// add puts the entry into the file, unless files of somebody lie in its directory.
func (a *API) add(e tenants.Entry, dir string) error {
	return a.Store.Edit(func(d *tenants.Document) error {
		if err := d.Add(e); err != nil {
			return err
		}
		left, err := (&tenants.Tenant{DataDir: dir}).OwnFiles()
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return conflict(fmt.Sprintf("%s holds %d phexts already: move them away, or write the tenant into the tenants file by hand to give it them", dir, len(left)))
		}
		return os.MkdirAll(dir, 0o700)
	})
}

func ptr[T any](v T) *T { return &v }

func hashed(key string) *string {
	sum := sha256.Sum256([]byte(key))
	return ptr(hex.EncodeToString(sum[:]))
}

// patch is what may be changed of a tenant.
type patch struct {
	QuotaMB           *int64  `json:"quota_mb,omitempty"`
	Enabled           *bool   `json:"enabled,omitempty"`
	AdminEmail        *string `json:"admin_email,omitempty"`
	RequestsPerMinute *int64  `json:"requests_per_minute,omitempty"`
	CallsPerDay       *int64  `json:"calls_per_day,omitempty"`
	MaxPhexts         *int64  `json:"max_phexts,omitempty"`
	PathKey           pathKey `json:"path_key,omitempty"`
}

// of is what the fields that p sets are in e.
func (p patch) of(e *tenants.Entry) patch {
	var was patch
	keep(&was.QuotaMB, p.QuotaMB, e.QuotaMB)
	keep(&was.Enabled, p.Enabled, e.Enabled)
	keep(&was.AdminEmail, p.AdminEmail, e.AdminEmail)
	keep(&was.RequestsPerMinute, p.RequestsPerMinute, e.RequestsPerMinute)
	keep(&was.CallsPerDay, p.CallsPerDay, e.CallsPerDay)
	keep(&was.MaxPhexts, p.MaxPhexts, e.MaxPhexts)
	if p.PathKey != "" {
		was.PathKey = audited(e.PathKey)
	}
	return was
}

func keep[T any](was **T, given, have *T) {
	if given != nil {
		*was = have
	}
}

func (p patch) apply(e *tenants.Entry) {
	set(&e.QuotaMB, p.QuotaMB)
	set(&e.Enabled, p.Enabled)
	set(&e.AdminEmail, p.AdminEmail)
	set(&e.RequestsPerMinute, p.RequestsPerMinute)
	set(&e.CallsPerDay, p.CallsPerDay)
	set(&e.MaxPhexts, p.MaxPhexts)
}

func set[T any](field **T, given *T) {
	if given != nil {
		*field = given
	}
}

func (a *API) changeTenant(w http.ResponseWriter, r *http.Request) error {
	var p patch
	if err := decode(r, &p); err != nil {
		return err
	}
	if p == (patch{}) {
		return bad("nothing to change: give any of quota_mb, enabled, admin_email, requests_per_minute, calls_per_day, max_phexts, path_key")
	}
	if err := p.PathKey.check(); err != nil {
		return err
	}
	id, was, shown := r.PathValue("id"), patch{}, ""
	err := a.changeEntry(id, func(e *tenants.Entry) (err error) {
		was = p.of(e)
		p.apply(e)
		if e.PathKey, err = p.PathKey.carryOut(e.PathKey); p.PathKey == newPathKey && err == nil {
			shown = *e.PathKey
		}
		return err
	})
	if err != nil {
		return err
	}
	if shown != "" {
		p.PathKey = audited(&shown)
	}
	a.record(r, "change", id, was, p)
	return a.show(w, r, shown)
}

func (a *API) changeEntry(id string, change func(*tenants.Entry) error) error {
	return a.Store.Edit(func(d *tenants.Document) error { return d.Change(id, change) })
}
