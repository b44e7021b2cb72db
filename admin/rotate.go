package admin

import (
	"fmt"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/tenants"
)

// longestOverlap bounds how long a rotated key goes on working.
const longestOverlap = 90 * 24 * time.Hour

func (a *API) rotateKey(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Overlap *string `json:"overlap"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	overlap, err := overlapOf(in.Overlap)
	if err != nil {
		return err
	}
	key, err := tenants.NewKey()
	if err != nil {
		return err
	}
	id, expires := r.PathValue("id"), a.now().UTC().Add(overlap).Truncate(time.Second)
	err = a.changeEntry(id, func(e *tenants.Entry) error {
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
	a.record(r, "rotate-key", id, nil, map[string]any{"fingerprint": tenants.Fingerprint(key), "overlap": overlap.String()})
	writeJSON(w, http.StatusOK, out)
	return nil
}

func overlapOf(text *string) (time.Duration, error) {
	if text == nil {
		return 0, nil
	}
	d, err := time.ParseDuration(*text)
	if err != nil || d < 0 || d > longestOverlap {
		return 0, bad(fmt.Sprintf("field \"overlap\" is %q: a duration from 0s to %v is wanted, such as 24h", *text, longestOverlap))
	}
	return d, nil
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
