package proxy

import (
	"encoding/json"
	"net/http"
	"strings"
)

const (
	textPlain = "text/plain; charset=utf-8"
	jsonType  = "application/json"
)

// commonHeaders are what every answer carries, by canonical name. Stored text
// must never be taken for a page: a scroll may hold HTML. The values are shared
// by all answers: one is replaced, never changed in its place.
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
			w.Header().Set("Allow", "GET, HEAD")
			g.refuse(w, r, &answer{status: http.StatusMethodNotAllowed, code: "method_not_allowed", message: "health takes GET"})
			return
		}
		g.answerHealth(w)
	})
}

// withAdmin hands the management API to those who answer it. Tenants' keys mean nothing there.
func (g *Gateway) withAdmin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.config.Admin != nil && isAdminPath(r.URL.Path) {
			g.config.Admin.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Plain says whether what is asked for at a path is answered from memory, and
// with a length: all but the management API, whose backups may be of any size.
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
	writeJSON(w, status, struct {
		Status  string `json:"status"`
		Tenants int    `json:"tenants"`
	}{word, g.config.Tenants.Current().Len()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the answer could not be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may have gone; the access log has the count
}
