package proxy

import (
	"encoding/xml"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestFrontPage(t *testing.T) {
	w := newWorld(t, options{})
	asText, asHTML := w.keylessly("GET", "/", ""), w.keylessly("GET", "/", "", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	for name, test := range map[string]struct {
		answer *httptest.ResponseRecorder
		media  string
	}{
		"curl":          {asText, "text/plain; charset=utf-8"},
		"a browser":     {asHTML, "text/html; charset=utf-8"},
		"with a key":    {w.ask("GET", "/", ""), "text/plain; charset=utf-8"},
		"two slashes":   {w.keylessly("GET", "//", ""), "text/plain; charset=utf-8"},
		"with a query":  {w.keylessly("GET", "/?p=notes", "", "Accept", "*/*"), "text/plain; charset=utf-8"},
		"with path key": {w.keylessly("GET", "/k/"+pathKey+"/", ""), "text/plain; charset=utf-8"},
	} {
		got, h := test.answer.Body.String(), test.answer.Header()
		if test.answer.Code != 200 || h.Get("Content-Type") != test.media || h.Get("Vary") != "Accept" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", name, test.answer.Code, h)
		}
		if strings.Contains(got, "will") || strings.Contains(got, "notes") || !strings.Contains(got, "/api/v2/openapi.json") || !strings.HasSuffix(got, "\n") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if policy := asHTML.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; img-src data:;") {
		t.Errorf("policy: %q", policy)
	}
	checkPage(t, asHTML.Body.String())
	w.wantError(w.ask("POST", "/", "text"), 405, "method_not_allowed")
	if allow := w.ask("DELETE", "/", "").Header().Get("Allow"); allow != "GET, HEAD" {
		t.Errorf("Allow: %q", allow)
	}
	w.wantError(w.keylessly("GET", "/will/", ""), 401, "unauthorized")
	w.wantError(w.keylessly("GET", "/nobody/", ""), 401, "unauthorized")
}

// checkPage wants links that are answered without a key, and nothing that is loaded.
func checkPage(t *testing.T, text string) {
	t.Helper()
	w := newWorld(t, options{})
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	links := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if slices.Contains([]string{"script", "style", "img", "iframe", "object", "form"}, n.Name.Local) {
			t.Errorf("the page has a %s", n.Name.Local)
		}
		for _, a := range n.Attr {
			switch key := a.Name.Local; {
			case n.Name.Local == "a" && key == "href":
				links++
				if answer := w.keylessly("GET", a.Value, ""); answer.Code != 200 {
					t.Errorf("%s: %d", a.Value, answer.Code)
				}
			case (key == "href" || key == "src") && a.Value != "data:,":
				t.Errorf("%s loads %q", n.Name.Local, a.Value)
			case key == "style" || strings.HasPrefix(key, "on"):
				t.Errorf("%s has %s", n.Name.Local, key)
			}
		}
	}
	if links != 3 {
		t.Errorf("%d links", links)
	}
}
