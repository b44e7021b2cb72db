package proxy

import (
	"net/http"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/openapi"
	"mirrorborn.us/sqgate/rewrite"
)

// withoutKey answers what needs no key: the front page, health, version and the
// description. An id in front of them is not looked up, so that nobody can find out ids.
func (g *Gateway) withoutKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isFrontPage(infoOf(r).path) {
			g.answerFrontPage(w, r)
			return
		}
		op, instance := rewrite.Keyless(infoOf(r).path)
		if op == "" {
			next.ServeHTTP(w, r)
			return
		}
		infoOf(r).turn.SetOwner(probes + g.stranger(r))
		switch err := rewrite.CheckMethod(op, r.Method); {
		case err != nil:
			g.refuse(w, r, err)
		case op == rewrite.Health:
			g.answerHealth(w)
		case op == rewrite.Description:
			g.answerDescription(w, r)
		default:
			infoOf(r).op = op
			g.answerVersion(w, r, instance)
		}
	})
}

// Watchdog answers only what systemd's watchdog asks, in turns of its own: what outsiders do is no
// reason to end sqgate.
func (g *Gateway) Watchdog() http.Handler {
	return g.withAccessLog(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		infoOf(r).turn.SetOwner(watchdog)
		if r.URL.Path != "/health" {
			g.refuse(w, r, errNotHere)
			return
		}
		g.answerHealth(w)
	}))
}

var errNotHere = apierror.New(apierror.NotFound, "only /health is answered here")

func (g *Gateway) answerHealth(w http.ResponseWriter) {
	status, word := g.condition(w)
	known, reason := g.Tenants(), ""
	if refusal := known.Refusal(); refusal != nil {
		reason = refusal.Message
	}
	apierror.WriteJSON(w, status, struct {
		Status  string `json:"status"`
		Tenants int    `json:"tenants"`
		Reason  string `json:"reason,omitempty"`
	}{word, known.Len(), reason})
}

func (g *Gateway) answerDescription(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", apierror.JSON)
	h.Set("ETag", openapi.ETag)
	h.Set("Cache-Control", "no-cache")
	if etag.Matches(r.Header.Values("If-None-Match"), openapi.ETag) {
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	g.writeText(w, openapi.JSON)
}

// condition is the status of health and version, and its word.
func (g *Gateway) condition(w http.ResponseWriter) (status int, word string) {
	if g.draining.Load() {
		w.Header().Set("Retry-After", "1")
		return http.StatusServiceUnavailable, "draining"
	}
	if refusal := g.Tenants().Refusal(); refusal != nil {
		apierror.SetRetryAfter(w, refusal.RetryAfter)
		return refusal.Status, "no_tenants_file"
	}
	if g.Leased != nil && !g.Leased() {
		w.Header().Set("Retry-After", "1")
		return http.StatusServiceUnavailable, "no_lease"
	}
	return http.StatusOK, "ok"
}

// ServiceVersion is the protocol version that the hosted service reports.
const ServiceVersion = "0.5.5"

func (g *Gateway) answerVersion(w http.ResponseWriter, r *http.Request, instance string) {
	if g.BackendVersion != "" {
		w.Header().Set("X-SQ-Backend", g.BackendVersion)
	}
	status, word := g.condition(w)
	if wantsPlainText(r.Header.Get("Accept")) && status == http.StatusOK {
		g.writeText(w, ServiceVersion)
		return
	}
	apierror.WriteJSON(w, status, struct {
		Version  string `json:"version"`
		Status   string `json:"status"`
		Instance string `json:"instance,omitempty"`
		Uptime   int64  `json:"uptime_seconds"`
	}{ServiceVersion, word, instance, int64(g.now().Sub(g.began) / time.Second)})
}

// wantsPlainText says whether Accept asks for text/plain and nothing else.
func wantsPlainText(accept string) bool {
	media, _, _ := strings.Cut(accept, ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/plain") && !strings.Contains(accept, ",")
}
