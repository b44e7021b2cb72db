package proxy

import (
	"encoding/base64"
	"net/http"
	"strings"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/tenants"
)

// withAuthentication lets a request pass only with the key of an enabled tenant.
func (g *Gateway) withAuthentication(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := infoOf(r)
		t, key, ok := g.tenantOf(r)
		if !ok {
			if wait := g.KeyLimit.Failed(r); wait > 0 {
				g.refuse(w, r, errWrongKeys(wait))
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="sqgate"`)
			g.refuse(w, r, errWrongKey)
			return
		}
		info.tenant, info.key = t, key
		info.turn.SetOwner(t.ID)
		if !t.Enabled {
			g.refuse(w, r, datadir.ErrDisabled)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withCallLimits counts a call, and refuses one past its tenant's limits.
func (g *Gateway) withCallLimits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.Calls.Admit(infoOf(r).tenant, infoOf(r).began); err != nil {
			g.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tenantOf finds whose request it is. A key in a header decides; only without
// one does a key in the path.
func (g *Gateway) tenantOf(r *http.Request) (t *tenants.Tenant, key string, ok bool) {
	known := g.Tenants()
	if key, given := headerKey(r.Header); given {
		t, ok = known.ByKey(key, infoOf(r).began)
		return t, key, ok
	}
	if key, _, given := rewrite.SplitPathKey(r.URL.Path); given {
		t, ok = known.ByPathKey(key)
		return t, key, ok
	}
	return nil, "", false
}

// headerKey takes the key from the headers in the contract's order. A header
// that is there twice with two values is not a key: proxies on the way could
// each have believed another one.
func headerKey(h http.Header) (key string, given bool) {
	for _, name := range []string{"Authorization", "X-Sq-Api-Key"} {
		values := h.Values(name)
		if len(values) == 0 {
			continue
		}
		if len(values) > 1 {
			return "", true
		}
		if name == "Authorization" {
			return credential(values[0]), true
		}
		return strings.TrimSpace(values[0]), true
	}
	return "", false
}

// credential reads `Bearer KEY` in any case, `Basic` with the key as password, or a bare key.
func credential(value string) string {
	value = strings.TrimSpace(value)
	scheme, rest, ok := strings.Cut(value, " ")
	if !ok {
		return value
	}
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(scheme) {
	case "bearer":
		return rest
	case "basic":
		return basicPassword(rest)
	}
	return value
}

func basicPassword(encoded string) string {
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	_, password, _ := strings.Cut(string(b), ":")
	return password
}
