package proxy

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/openapi"
)

// TestPublished asks a service that reads from memory, and one that has SQ read.
func TestPublished(t *testing.T) {
	for _, memory := range []int64{1 << 20, 0} {
		w := newWorld(t, options{readMemory: memory})
		w.now = func() time.Time { return time.Date(2026, 2, 13, 18, 30, 0, 0, time.FixedZone("", 3600)) }
		for _, test := range []struct {
			method, target, body string
			want                 string
		}{
			{"GET", "/api/v2/read/1.1.3?p=notes", "", "the scroll"},
			{"GET", "/api/v2/read?p=notes&c=1.1.3", "", `{"content":"the scroll","coordinate":"1.1.3","exists":true}` + "\n"},
			{"PUT", "/api/v2/write/2026.2.13?p=notes", "a date", `{"status":"ok","ok":true,"coordinate":"2026.2.13","bytes_written":6,"bytes":6,"timestamp":"2026-02-13T17:30:00Z"}` + "\n"},
			{"GET", "/will/api/v2/read/2026.02.13?p=notes", "", "a date"},
			{"DELETE", "/api/v2/delete/1.1.3?p=notes", "", `{"status":"ok","coordinate":"1.1.3","deleted":true}` + "\n"},
			{"POST", "/api/v2/delete/1.1.3?p=notes", "", `{"status":"ok","coordinate":"1.1.3","deleted":false}` + "\n"},
			{"DELETE", "/api/v2/delete/no.name?p=notes", "", `{"status":"ok","coordinate":"no.name","deleted":false}` + "\n"},
			{"GET", "/api/v2/read?p=notes&c=1.1.3", "", `{"content":"","coordinate":"1.1.3","exists":false}` + "\n"},
			{"GET", "/api/v2/query?p=notes&set=2026.2.1/1.1.1/1.1.13", "", `[{"coordinate":"2026.2.1/1.1.1/1.1.13","scroll":"a date"}]`},
		} {
			if answer := w.ask(test.method, test.target, test.body); answer.Code != 200 || answer.Body.String() != test.want {
				t.Errorf("--read-memory %d, %s %s: %d %s, want %s", memory, test.method, test.target, answer.Code, answer.Body, test.want)
			}
		}
		w.wantError(w.ask("GET", "/api/v2/read/1.1.3?p=notes", ""), 404, "NOT_FOUND")
		w.wantError(w.ask("GET", "/api/v2/read/not_a_name?p=notes", ""), 400, "INVALID_COORDINATE")
		for _, list := range []string{"list", "search?q=date"} {
			if answer := w.ask("GET", "/api/v2/"+list+strings.Repeat("?", 1-strings.Count(list, "?"))+"&p=notes", ""); answer.Code != 200 || !strings.Contains(answer.Body.String(), `"coordinate":"2026.2.1/1.1.1/1.1.13"`) {
				t.Errorf("%s: %d %s", list, answer.Code, answer.Body)
			}
		}
		w.wantAllFree()
	}
}

// TestObjectsAreCounted while they are made.
func TestObjectsAreCounted(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	w.Dirs.Answers.Take(w.Dirs.Answers.Limit())
	answer := w.ask("GET", "/api/v2/read?p=notes&c=1.1.3", "")
	w.Dirs.Answers.Give(w.Dirs.Answers.Limit())
	w.wantError(answer, 503, "UNAVAILABLE")
	w.wantAllFree()
}

// TestWithoutAKey asks for health and version, in front of which there may be any id.
func TestWithoutAKey(t *testing.T) {
	w := newWorld(t, options{})
	w.now = func() time.Time { return w.began.Add(3600 * time.Second) }
	ask := func(method, target string) *httptest.ResponseRecorder {
		return w.serve(httptest.NewRequest(method, target, nil))
	}
	for target, want := range map[string]string{
		"/api/v2/health": `{"status":"ok","tenants":1}`, "/nobody/api/v2/health": `{"status":"ok","tenants":1}`,
		"/api/v2/version":        `{"version":"0.5.5","status":"ok","uptime_seconds":3600}`,
		"/will/api/v2/version":   `{"version":"0.5.5","status":"ok","instance":"will","uptime_seconds":3600}`,
		"/t/nobody/version":      `{"version":"0.5.5","status":"ok","instance":"nobody","uptime_seconds":3600}`,
		"/k/wrong/api/v2/health": `{"status":"ok","tenants":1}`,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			if answer := ask(method, target); answer.Code != 200 || answer.Body.String() != want+"\n" {
				t.Errorf("%s: %d %s, want %s", target, answer.Code, answer.Body, want)
			}
		}
	}
	w.wantError(ask("POST", "/api/v2/version"), 405, "method_not_allowed")
	w.wantError(ask("GET", "/api/v2/version/x"), 401, "unauthorized")
	leased := false
	w.Leased = func() bool { return leased }
	for _, target := range []string{"/api/v2/health", "/will/version"} {
		if answer := ask("GET", target); answer.Code != 503 || answer.Header().Get("Retry-After") != "1" || !strings.Contains(answer.Body.String(), `"status":"no_lease"`) {
			t.Errorf("%s without a lease: %d %s", target, answer.Code, answer.Body)
		}
	}
	if leased = true; ask("GET", "/health").Code != 200 {
		t.Error("it has a lease again")
	}
	w.SetDraining(true)
	for _, target := range []string{"/api/v2/health", "/will/version"} {
		if answer := ask("GET", target); answer.Code != 503 || answer.Header().Get("Retry-After") != "1" || !strings.Contains(answer.Body.String(), `"status":"draining"`) {
			t.Errorf("%s while it stops: %d %s", target, answer.Code, answer.Body)
		}
	}
}

// TestDescription asks for the description, which needs no key, again and again.
func TestDescription(t *testing.T) {
	w := newWorld(t, options{})
	for _, target := range []string{"/api/v2/openapi.json", "/openapi.json", "/nobody/api/v2/openapi.json"} {
		first := w.serve(httptest.NewRequest("GET", target, nil))
		tag := first.Header().Get("ETag")
		if first.Code != 200 || first.Body.String() != openapi.JSON || first.Header().Get("Content-Type") != "application/json" || tag == "" || first.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", target, first.Code, first.Header())
		}
		again := httptest.NewRequest("GET", target, nil)
		again.Header.Set("If-None-Match", tag)
		if answer := w.serve(again); answer.Code != 304 || answer.Body.Len() != 0 || answer.Header().Get("Content-Type") != "" {
			t.Errorf("%s again: %d %v", target, answer.Code, answer.Header())
		}
	}
	w.wantError(w.serve(httptest.NewRequest("POST", "/openapi.json", nil)), 405, "method_not_allowed")
}
