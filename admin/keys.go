package admin

import (
	"net/http"
	"slices"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/duration"
	"mirrorborn.us/sqgate/tenants"
)

// keyView is a further key of a tenant. The key itself is in no answer but the one that
// made it.
type keyView struct {
	ID          string     `json:"id"`
	APIKey      string     `json:"api_key,omitempty"` // only in the answer to the call that made it
	Fingerprint string     `json:"fingerprint"`
	Access      string     `json:"access"`
	Phexts      []string   `json:"phexts,omitempty"` // patterns; none = all
	Prefix      string     `json:"prefix,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Expired     bool       `json:"expired,omitempty"`
	Note        string     `json:"note,omitempty"`
}

func viewOfKey(k *tenants.Key, now time.Time) keyView {
	v := keyView{ID: k.ID, Fingerprint: k.Fingerprint(), Access: k.Scope.Access.String(), Phexts: k.Scope.Phexts,
		Expires: optionalTime(k.Expires), Expired: k.HasExpired(now), Note: k.Note}
	if k.Scope.Prefix != nil {
		v.Prefix = k.Scope.Prefix.Text
	}
	return v
}

func (a *API) listKeys(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	list := []keyView{}
	for _, k := range t.Keys() {
		list = append(list, viewOfKey(k, a.now()))
	}
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "keys": list})
	return nil
}

// addKey makes a key, which works when the call is answered.
func (a *API) addKey(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		ID      *string    `json:"id"`
		Access  *string    `json:"access"`
		Phexts  *[]*string `json:"phexts"`
		Prefix  *string    `json:"prefix"`
		Expires *string    `json:"expires"`
		Note    *string    `json:"note"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	switch {
	case in.ID == nil:
		return badRequest(`field "id" is missing: give the key a name of its own`)
	case in.Access == nil:
		return badRequest(`field "access" is missing: read, append or read-write is wanted`)
	}
	if in.Expires != nil {
		at, err := a.parseExpiry(*in.Expires)
		if err != nil {
			return err
		}
		in.Expires = ptr(at.UTC().Format(time.RFC3339))
	}
	key, err := tenants.NewKey()
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	err = a.changeEntry(id, func(e *tenants.Entry) error {
		if t, ok := a.Store.Current().ByID(id); ok && t.Archived {
			return errArchived(id)
		}
		return e.AddKey(tenants.KeyEntry{ID: in.ID, SHA256: hashed(key), Access: in.Access, Phexts: in.Phexts, Prefix: in.Prefix, Expires: in.Expires, Note: in.Note})
	})
	if err != nil {
		return err
	}
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(t.Keys(), func(k *tenants.Key) bool { return k.ID == *in.ID })
	if i < 0 {
		return tenants.ErrNoKey // somebody has revoked it already
	}
	v := viewOfKey(t.Keys()[i], a.now())
	a.record(r, "add-key", id, nil, v)
	v.APIKey = key
	apierror.WriteJSON(w, http.StatusCreated, struct {
		Tenant string `json:"tenant_id"`
		keyView
	}{id, v})
	return nil
}

// parseExpiry reads a time, a date, or a duration from now. One that is over already is a
// mistake.
func (a *API) parseExpiry(text string) (at time.Time, err error) {
	if d, err := duration.Parse(text); err == nil && d > 0 {
		return a.now().Add(d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil && at.After(a.now()) {
			return at, nil
		}
	}
	return at, badRequest(`field "expires" is %.80q: a time to come such as 2030-01-31T12:00:00Z, a date, or a duration from now such as 30d is wanted`, text)
}

// revokeKey ends a key. Nothing is done with it any more when the call is answered, but
// what was committed before.
func (a *API) revokeKey(w http.ResponseWriter, r *http.Request) error {
	id, key := r.PathValue("id"), r.PathValue("key")
	var removed tenants.KeyEntry
	err := a.changeEntry(id, func(e *tenants.Entry) (err error) {
		removed, err = e.RemoveKey(key)
		return err
	})
	if err != nil {
		return err
	}
	removed.SHA256 = nil
	a.record(r, "revoke-key", id, removed, nil)
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": id, "id": key, "status": "revoked"})
	return nil
}
