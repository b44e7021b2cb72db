package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/duration"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/tenants"
)

// addTenant makes a tenant that can call at once, unless "enabled" is false.
func (a *API) addTenant(w http.ResponseWriter, r *http.Request) error {
	var in patch
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := in.PathKey.check(); err != nil {
		return err
	}
	if in.ID == nil {
		return badRequest(`field "tenant_id" is missing: give the tenant a name`)
	}
	if err := tenants.ValidID(*in.ID); err != nil {
		return badRequest(`field "tenant_id" %v`, err)
	}
	key, err := tenants.NewKey()
	if err != nil {
		return err
	}
	dir := filepath.Join(a.DataRoot, *in.ID)
	e := tenants.Entry{ID: in.ID, DataDir: &dir, APIKeySHA256: hashed(key),
		CreatedAt: ptr(a.now().UTC().Format(time.RFC3339)), Incarnation: ptr(tenants.NewIncarnation(a.now())), Enabled: ptr(true)}
	in.apply(&e)
	if err := in.PathKey.apply(&e); err != nil {
		return err
	}
	if err := a.addEntry(r, e, dir); err != nil {
		return err
	}
	id := *in.ID
	in.ID, in.PathKey = nil, auditedPathKey(&e)
	a.record(r, "add", id, nil, struct {
		DataDir string `json:"data_dir"`
		patch
	}{dir, in})
	out := map[string]string{"tenant_id": id, "api_key": key, "data_dir": dir, "status": active}
	if !*e.Enabled {
		out["status"] = disabled
	}
	if e.PathKey != nil {
		out["path_key"] = *e.PathKey
	}
	apierror.WriteJSON(w, http.StatusCreated, out)
	return nil
}

// addEntry writes the tenant into the tenants file and makes its directory. A
// directory with phexts in it is refused: they are somebody else's. So is one that
// gets them back when it is recovered, which it is not before somebody has it. The
// incarnation is later than everything that the journal of the directory has of an
// earlier tenant.
func (a *API) addEntry(r *http.Request, e tenants.Entry, dir string) error {
	if _, taken := a.Store.Current().ByID(*e.ID); taken {
		return tenants.ErrExists
	}
	if err := fsutil.MakeDir(a.DataRoot, 0o700); err != nil {
		return fmt.Errorf("--data-root: %w: let the user of sqgate write there, or name another directory", err)
	}
	at := fsutil.Resolve(dir) // as the tenant has it then
	release, err := a.Dirs.LockExclusive(r.Context(), at)
	if err != nil {
		return err
	}
	defer release()
	if a.Directories != nil {
		if err := a.Directories.ClearEarlier(r.Context(), a.Dirs.Of(at), *e.ID); err != nil {
			return err
		}
	}
	if err := a.History.NoteRemoved(&tenants.Tenant{ID: *e.ID, DataDir: at}); err != nil {
		return err
	}
	e.Incarnation = ptr(tenants.NewIncarnation(a.now()))
	return a.Store.Edit(func(d *tenants.Document) error {
		if err := d.Add(e); err != nil {
			return err
		}
		files, err := datadir.PhextFiles(at)
		if err != nil {
			return err
		}
		if len(files) > 0 {
			return apierror.New(apierror.Conflict, "%s holds %d phexts already, such as %s: move them away, or write the tenant into the tenants file by hand to give it them", dir, len(files), files[0])
		}
		return fsutil.MakeDir(dir, 0o700)
	})
}

func ptr[T any](v T) *T { return &v }

func hashed(key string) *string {
	sum := sha256.Sum256([]byte(key))
	return ptr(hex.EncodeToString(sum[:]))
}

// patch has the fields of a tenant that a call may set when it adds or changes the
// tenant, and in the audit log the values before and after.
type patch struct {
	ID                *string `json:"tenant_id,omitempty"` // when it adds one
	QuotaMB           *int64  `json:"quota_mb,omitempty"`
	Enabled           *bool   `json:"enabled,omitempty"`
	AdminEmail        *string `json:"admin_email,omitempty"`
	RequestsPerMinute *int64  `json:"requests_per_minute,omitempty"`
	ReadsPerMinute    *int64  `json:"reads_per_minute,omitempty"`
	WritesPerMinute   *int64  `json:"writes_per_minute,omitempty"`
	ListsPerMinute    *int64  `json:"lists_per_minute,omitempty"`
	CallsPerDay       *int64  `json:"calls_per_day,omitempty"`
	MaxPhexts         *int64  `json:"max_phexts,omitempty"`
	PathKey           pathKey `json:"path_key,omitempty"`
}

func (a *API) changeTenant(w http.ResponseWriter, r *http.Request) error {
	var p patch
	if err := decode(r, &p); err != nil {
		return err
	}
	if p.ID != nil {
		return badRequest(`field "tenant_id" cannot be changed: leave it out`)
	}
	if p == (patch{}) {
		return badRequest("nothing to change: give any of quota_mb, enabled, admin_email, requests_per_minute, reads_per_minute, writes_per_minute, lists_per_minute, calls_per_day, max_phexts, path_key")
	}
	if err := p.PathKey.check(); err != nil {
		return err
	}
	id, before, madeKey := r.PathValue("id"), patch{}, ""
	err := a.changeEntry(id, func(e *tenants.Entry) error {
		if p.Enabled != nil && *p.Enabled {
			if err := a.canEnable(e); err != nil {
				return err
			}
		}
		before = p.before(e)
		p.apply(e)
		if err := p.PathKey.apply(e); err != nil {
			return err
		}
		if p.PathKey == newPathKey {
			madeKey = *e.PathKey
		}
		return nil
	})
	if err != nil {
		return err
	}
	if madeKey != "" {
		p.PathKey = audited(tenants.Fingerprint(madeKey))
	}
	a.record(r, "change", id, before, p)
	return a.show(w, r, madeKey)
}

// canEnable is the error for a tenant whose files are in an archive, all or some.
func (a *API) canEnable(e *tenants.Entry) error {
	if e.Archived != nil && *e.Archived {
		return errArchived(*e.ID)
	}
	t, ok := a.Store.Current().ByID(*e.ID)
	if !ok {
		return nil
	}
	return a.checkDeletion(t)
}

func (a *API) changeEntry(id string, change func(*tenants.Entry) error) error {
	return a.Store.Edit(func(d *tenants.Document) error { return d.Change(id, change) })
}

// before has the values in e of the fields that p sets.
func (p patch) before(e *tenants.Entry) patch {
	var b patch
	copyIfGiven(&b.QuotaMB, e.QuotaMB, p.QuotaMB)
	copyIfGiven(&b.Enabled, e.Enabled, p.Enabled)
	copyIfGiven(&b.AdminEmail, e.AdminEmail, p.AdminEmail)
	copyIfGiven(&b.RequestsPerMinute, e.RequestsPerMinute, p.RequestsPerMinute)
	copyIfGiven(&b.ReadsPerMinute, e.ReadsPerMinute, p.ReadsPerMinute)
	copyIfGiven(&b.WritesPerMinute, e.WritesPerMinute, p.WritesPerMinute)
	copyIfGiven(&b.ListsPerMinute, e.ListsPerMinute, p.ListsPerMinute)
	copyIfGiven(&b.CallsPerDay, e.CallsPerDay, p.CallsPerDay)
	copyIfGiven(&b.MaxPhexts, e.MaxPhexts, p.MaxPhexts)
	if p.PathKey != "" {
		b.PathKey = auditedPathKey(e)
	}
	return b
}

// apply sets the fields of e that p has, except for the path key.
func (p patch) apply(e *tenants.Entry) {
	copyIfGiven(&e.QuotaMB, p.QuotaMB, p.QuotaMB)
	copyIfGiven(&e.Enabled, p.Enabled, p.Enabled)
	copyIfGiven(&e.AdminEmail, p.AdminEmail, p.AdminEmail)
	copyIfGiven(&e.RequestsPerMinute, p.RequestsPerMinute, p.RequestsPerMinute)
	copyIfGiven(&e.ReadsPerMinute, p.ReadsPerMinute, p.ReadsPerMinute)
	copyIfGiven(&e.WritesPerMinute, p.WritesPerMinute, p.WritesPerMinute)
	copyIfGiven(&e.ListsPerMinute, p.ListsPerMinute, p.ListsPerMinute)
	copyIfGiven(&e.CallsPerDay, p.CallsPerDay, p.CallsPerDay)
	copyIfGiven(&e.MaxPhexts, p.MaxPhexts, p.MaxPhexts)
}

// copyIfGiven copies value if the call has the field.
func copyIfGiven[T any](to **T, value, given *T) {
	if given != nil {
		*to = value
	}
}

// pathKey is what a call asks to do with a tenant's path key; "" leaves it as it
// is. In the audit log it is a fingerprint instead.
type pathKey string

const (
	newPathKey pathKey = "new"
	noPathKey  pathKey = "off"
)

// UnmarshalJSON takes null for noPathKey, as PATCH calls do.
func (p *pathKey) UnmarshalJSON(text []byte) error {
	var word *string
	if err := json.Unmarshal(text, &word); err != nil {
		return &json.UnmarshalTypeError{Value: "wrong kind", Type: reflect.TypeFor[string]()}
	}
	*p = noPathKey
	if word != nil {
		*p = pathKey(*word)
	}
	return nil
}

// check refuses every other word and does not repeat it: it may be a key. A key
// of the caller's choice is not taken, because it would be easier to guess.
func (p pathKey) check() error {
	switch p {
	case "", newPathKey, noPathKey:
		return nil
	}
	return badRequest(`field "path_key" is neither "new" nor null: the key itself is made here, and shown once`)
}

// apply makes or removes the path key of e.
func (p pathKey) apply(e *tenants.Entry) error {
	switch p {
	case newPathKey:
		key, err := tenants.NewPathKey()
		e.PathKey, e.PathKeySHA256 = &key, nil
		return err
	case noPathKey:
		e.PathKey, e.PathKeySHA256 = nil, nil
	}
	return nil
}

// auditedPathKey is the path key of e as the audit log has it.
func auditedPathKey(e *tenants.Entry) pathKey {
	switch {
	case e.PathKey != nil:
		return audited(tenants.Fingerprint(*e.PathKey))
	case e.PathKeySHA256 != nil:
		return audited(strings.ToLower(*e.PathKeySHA256)[:len(tenants.Fingerprint(""))])
	}
	return noPathKey
}

func audited(fingerprint string) pathKey { return pathKey("fingerprint " + fingerprint) }

// maxOverlap bounds how long the previous key of a tenant keeps working.
const maxOverlap = 90 * 24 * time.Hour

// rotateKey gives a tenant a new key. The old one works for the overlap.
func (a *API) rotateKey(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Overlap *string `json:"overlap"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	overlap, err := parseOverlap(in.Overlap)
	if err != nil {
		return err
	}
	key, err := tenants.NewKey()
	if err != nil {
		return err
	}
	id, expires := r.PathValue("id"), a.now().UTC().Add(overlap).Truncate(time.Second)
	var ended string
	err = a.changeEntry(id, func(e *tenants.Entry) error {
		ended = endedBy(e, a.now())
		rotate(e, key, overlap, expires)
		return nil
	})
	if err != nil {
		return err
	}
	out := map[string]any{"tenant_id": id, "api_key": key}
	if overlap > 0 {
		out["previous_key_expires"] = expires
	}
	if ended != "" {
		out["warning"] = "only one old key is kept: the key of the rotation before, which would have worked until " + ended + ", works no more"
	}
	a.record(r, "rotate-key", id, nil, map[string]any{"fingerprint": tenants.Fingerprint(key), "overlap": overlap.String()})
	apierror.WriteJSON(w, http.StatusOK, out)
	return nil
}

func parseOverlap(text *string) (time.Duration, error) {
	if text == nil {
		return 0, nil
	}
	d, err := duration.Parse(*text)
	if err != nil || d < 0 || d > maxOverlap {
		return 0, badRequest("field \"overlap\" is %.80q: a duration of at most %d days is wanted, such as 24h or 7d", *text, maxOverlap/(24*time.Hour))
	}
	return d, nil
}

// endedBy is until when a key would have worked that a rotation now ends; "" = there is
// none.
func endedBy(e *tenants.Entry, now time.Time) string {
	if e.PreviousKeyExpires == nil {
		return ""
	}
	if expires, err := time.Parse(time.RFC3339, *e.PreviousKeyExpires); err != nil || !expires.After(now) {
		return ""
	}
	return *e.PreviousKeyExpires
}

func rotate(e *tenants.Entry, key string, overlap time.Duration, expires time.Time) {
	old := e.APIKeySHA256
	if e.APIKey != nil {
		old = hashed(*e.APIKey)
	}
	e.APIKey, e.APIKeySHA256 = nil, hashed(key)
	e.PreviousKeySHA256, e.PreviousKeyExpires = nil, nil
	if overlap > 0 {
		e.PreviousKeySHA256, e.PreviousKeyExpires = old, ptr(expires.Format(time.RFC3339))
	}
}
