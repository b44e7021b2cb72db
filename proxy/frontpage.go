package proxy

import (
	"net/http"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

// The front page says what this is to whoever finds the address. It is the same for
// everybody, so it says nothing of who is served here.
const (
	frontText = `This is sqgate: SQ, a database for phexts, for many tenants.

Every call needs a tenant's API key, which the operator of this host gives out:

    curl -H "Authorization: Bearer KEY" http://HOST/api/v2/toc?p=NAME

/api/v2/openapi.json   describes every call (OpenAPI 3.1), for people and for tools
/health                says whether the service takes requests
/api/v2/version        the version of the protocol

sqgate's documents explain keys, coordinates and errors (clients.md) and list every
call with examples (api.md). On the host itself they are in /usr/share/doc/sqgate.
`
	frontHTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>sqgate</title>
</head>
<body>
<main>
<h1>sqgate</h1>
<p>This is SQ, a database for phexts, for many tenants.</p>
<p>Every call needs a tenant's API key, which the operator of this host gives out:</p>
<pre><code>curl -H "Authorization: Bearer KEY" http://HOST/api/v2/toc?p=NAME</code></pre>
<ul>
<li><a href="/api/v2/openapi.json">/api/v2/openapi.json</a> describes every call (OpenAPI 3.1), for people and for tools</li>
<li><a href="/health">/health</a> says whether the service takes requests</li>
<li><a href="/api/v2/version">/api/v2/version</a> is the version of the protocol</li>
</ul>
<p>sqgate's documents explain keys, coordinates and errors (clients.md) and list every call with
examples (api.md). On the host itself they are in /usr/share/doc/sqgate.</p>
</main>
</body>
</html>
`
	// frontPolicy lets the page load nothing but its empty icon, which keeps browsers
	// from asking for another.
	frontPolicy = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

var errFrontPageMethod = &apierror.Error{Kind: apierror.WrongMethod, Allow: []string{http.MethodGet, http.MethodHead},
	Message: "this is the front page, which can only be read: calls are below /api/v2/, and /api/v2/openapi.json describes them"}

func isFrontPage(path string) bool { return strings.Trim(path, "/") == "" }

// answerFrontPage answers browsers with HTML, and everybody else with text.
func (g *Gateway) answerFrontPage(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		g.refuse(w, r, errFrontPageMethod)
		return
	}
	h := w.Header()
	h.Set("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		g.writeText(w, frontText)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", frontPolicy)
	g.writeText(w, frontHTML)
}
