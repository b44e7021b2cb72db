package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
)

// pagePath is where the status page is. It needs no key and says nothing about
// tenants: its script asks for a key and calls the management API with it.
const pagePath = "/status"

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/view.js
	viewJS string
	//go:embed page/actions.js
	actionsJS string
)

// statusPage is the page as it is sent, whole: it loads nothing else.
var statusPage = makePage()

func makePage() []byte {
	var out bytes.Buffer
	page := template.Must(template.New("status").Parse(pageHTML))
	if err := page.Execute(&out, map[string]any{"Style": template.CSS(pageCSS), "Script": template.JS(viewJS + actionsJS)}); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// pagePolicy lets the browser run this script and use this style sheet, and nothing
// else, wherever it comes from. The script makes elements, and never parses HTML.
var pagePolicy = "default-src 'none'; script-src " + hashSource(viewJS+actionsJS) + "; style-src " + hashSource(pageCSS) +
	"; connect-src 'self'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func hashSource(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (a *API) servePage(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	_, _ = w.Write(statusPage) // the client may have gone; the access log has the count
}
