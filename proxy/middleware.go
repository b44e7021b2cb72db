package proxy

import (
	"net/http"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

const textPlain = "text/plain; charset=utf-8"

// commonHeaders are on every answer. A browser must never take stored text for
// a page: a scroll may hold HTML. All answers share the values, so a value is
// replaced, never changed in place.
var commonHeaders = []struct {
	name  string
	value []string
}{
	{"Access-Control-Allow-Origin", []string{"*"}},
	{"Access-Control-Expose-Headers", []string{"ETag, Retry-After, X-Request-Id, X-SQ-Backend, X-SQ-Quota-Used"}},
	{"X-Content-Type-Options", []string{"nosniff"}},
	{"Cache-Control", []string{"no-store"}},
	{"Referrer-Policy", []string{"no-referrer"}}, // the URL may hold a path key
	{"Content-Type", []string{textPlain}},
}

// withCommonHeaders sets them.
func withCommonHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, c := range commonHeaders {
			h[c.name] = c.value
		}
		next.ServeHTTP(w, r)
	})
}

// withPreflight answers a browser's preflight, which never carries a key.
func withPreflight(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-SQ-API-Key, If-Match, If-None-Match, Idempotency-Key")
		h.Set("Access-Control-Max-Age", "86400")
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNoContent)
	})
}

// withHealth answers GET /health without a key.
func (g *Gateway) withHealth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			next.ServeHTTP(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			g.refuse(w, r, errHealthMethod)
			return
		}
		g.answerHealth(w)
	})
}

// withAdmin hands management calls on. A tenant's key means nothing there.
func (g *Gateway) withAdmin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.Admin != nil && isAdminPath(r.URL.Path) {
			g.Admin.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Plain says whether the answer at a path is made in memory and has a length.
// All are, except those of the management API: a backup may be of any size.
func Plain(path string) bool { return !isAdminPath(path) }

func isAdminPath(path string) bool {
	return strings.HasPrefix(path, "/api/v2/admin/") || path == "/api/v2/admin" || path == "/api/v2/metrics"
}

func (g *Gateway) answerHealth(w http.ResponseWriter) {
	status, word := http.StatusOK, "ok"
	if g.draining.Load() {
		status, word = http.StatusServiceUnavailable, "draining"
		w.Header().Set("Retry-After", "1")
	}
	apierror.WriteJSON(w, status, struct {
		Status  string `json:"status"`
		Tenants int    `json:"tenants"`
	}{word, g.Tenants().Len()})
}
