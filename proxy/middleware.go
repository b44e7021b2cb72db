package proxy

import (
	"net/http"
	"path"
	"strings"

	"mirrorborn.us/sqgate/rewrite"
)

const textPlain = "text/plain; charset=utf-8"

// commonHeaders are on every answer. A browser must never take stored text for
// a page: a scroll may hold HTML. All answers share the values, so a value is
// replaced, never changed in place.
var commonHeaders = []sharedHeader{
	{"X-Content-Type-Options", []string{"nosniff"}},
	{"Cache-Control", []string{"no-store"}},
	{"Referrer-Policy", []string{"no-referrer"}}, // the URL may hold a path key
	{"Content-Type", []string{textPlain}},
}

// corsHeaders let pages of any origin read the answers of the tenant API.
var corsHeaders = []sharedHeader{
	{"Access-Control-Allow-Origin", []string{"*"}},
	{"Access-Control-Expose-Headers", []string{"ETag, Retry-After, X-Request-Id, X-SQ-Backend, X-SQ-Cursor, X-SQ-Quota-Used"}},
}

type sharedHeader struct {
	name  string
	value []string
}

func withHeaders(headers []sharedHeader, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, s := range headers {
			h[s.name] = s.value
		}
		next.ServeHTTP(w, r)
	})
}

// withCORS answers a browser's preflight, which never carries a key, and lets
// pages read the answers.
func withCORS(next http.Handler) http.Handler {
	return withHeaders(corsHeaders, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-SQ-API-Key, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID, Mcp-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name")
		h.Set("Access-Control-Max-Age", "86400")
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNoContent)
	}))
}

// withAdmin hands on management calls, before CORS: no page may read their
// answers. A tenant's key means nothing there. Their answers are sent in turns,
// but made in none: they wait for directories and disks meanwhile.
func (g *Gateway) withAdmin(admin, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if admin != nil && (isAdminPath(r.URL.Path) || asksForPage(r)) {
			info := infoOf(r)
			info.meter.turn = nil
			if g.isOperators(r) {
				info.turn.SetOwner(management)
			} else {
				info.turn.SetOwner(probes + g.stranger(r))
			}
			admin.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// asksForPage says whether a request is for the operator's status page. With a key or
// a query, the path is that of SQ's status operation, which is always refused without.
func asksForPage(r *http.Request) bool {
	if r.URL.Path != "/status" || r.URL.RawQuery != "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	_, given := headerKey(r.Header)
	return !given
}

// Plain says whether the answer at a path is made in memory and has a length, or is
// Endless. All are, except those of the management API, where a backup may be of any size.
func Plain(path string) bool { return !isAdminPath(path) }

// Endless says whether the answer at a path may have no end.
func Endless(path string) bool {
	return strings.HasSuffix(strings.TrimRight(path, "/"), "/"+string(rewrite.Changes))
}

// isAdminPath says whether a path belongs to the management API, as it is or
// when its dots and repeated slashes are resolved. The API refuses the latter.
func isAdminPath(p string) bool { return hasAdminPrefix(p) || hasAdminPrefix(path.Clean(p)) }

func hasAdminPrefix(p string) bool {
	return strings.HasPrefix(p, "/api/v2/admin/") || p == "/api/v2/admin" || p == "/api/v2/metrics"
}
