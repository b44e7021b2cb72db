package proxy

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// meanwhile is a body, during which something happens.
type meanwhile struct {
	io.Reader
	what func()
}

func (m *meanwhile) Read(b []byte) (int, error) {
	if m.what != nil {
		m.what()
		m.what = nil
	}
	return m.Reader.Read(b)
}

func (m *meanwhile) Close() error { return nil }

// A request that takes its time is from whom it is at its end: the key may be another
// then, and the id may be another tenant's.
func TestWhoAsksIsLookedAtAgainAfterTheBody(t *testing.T) {
	requests := map[string][2]string{ // method and target, and the body
		"query":      {"POST /api/v2/query?p=notes&from=1.1.1/1.1.1/1.1.1&to=9.9.9/9.9.9/9.9.9", "\n"},
		"delta":      {"POST /api/v2/delta?p=notes", ""},
		"read batch": {"POST /api/v2/batch?p=notes", `{"operations":[{"op":"select","c":"1.1.1/1.1.1/1.1.3"}]}`},
		"update":     {"POST /api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.3", "theirs"},
		"restore":    {"POST /api/v2/restore", `{"phext":"notes","at":"0s","dry_run":true}`},
	}
	const incarnation = "20260131T150405.500000000Z"
	changes := map[string]struct {
		credential func(t *testing.T) string
		tenant     map[string]any // will, meanwhile
		after      time.Duration
		path       string // in front of that of the request
		status     int
	}{
		"nothing":              {status: 200},
		"another key":          {tenant: map[string]any{"api_key": "pmb-v1-ffeeddccbbaa99887766554433221100", "incarnation": incarnation}, status: 401},
		"another tenant's":     {tenant: map[string]any{"incarnation": "20270131T150405.500000000Z"}, status: 401},
		"disabled":             {tenant: map[string]any{"enabled": false, "incarnation": incarnation}, status: 403},
		"no path key any more": {credential: func(*testing.T) string { return "" }, path: "/" + pathKey, tenant: map[string]any{"path_key": nil, "incarnation": incarnation}, status: 401},
		"an expired token": {credential: func(t *testing.T) string {
			return tokenFor(t, jwt.MapClaims{"tenant": "will", "exp": time.Now().Add(time.Hour).Unix()})
		}, after: 2 * time.Hour, tenant: map[string]any{"incarnation": incarnation}, status: 401},
		"a key with less rights": {credential: func(*testing.T) string { return guestKey }, tenant: map[string]any{"incarnation": incarnation, "keys": []any{guest("read-write", []string{"other"}, "")}}, status: 503},
	}
	for what, change := range changes {
		for name, request := range requests {
			t.Run(name+", "+what, func(t *testing.T) {
				w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"incarnation": incarnation, "keys": []any{guest("read-write", nil, "")}}})
				w.takeTokens()
				method, target, _ := strings.Cut(request[0], " ")
				r := w.request(method, change.path+target, request[1])
				if change.credential != nil {
					r.Header.Set("Authorization", "Bearer "+change.credential(t))
					if change.path != "" {
						r.Header.Del("Authorization")
					}
				}
				r.ContentLength = -1
				r.TransferEncoding = []string{"chunked"}
				r.Body = &meanwhile{strings.NewReader(request[1]), func() {
					if change.tenant != nil {
						w.setTenant(change.tenant)
						w.check(w.store.Reload())
					}
					w.Gateway.now = func() time.Time { return time.Now().Add(change.after) }
				}}
				if answer := w.serve(r); answer.Code != change.status {
					t.Errorf("%d %s", answer.Code, answer.Body)
				}
				if text, err := os.ReadFile(w.path("notes.phext")); change.status != 200 && string(text) != notes {
					t.Errorf("it was changed: %q, %v", text, err)
				}
				w.wantAllFree()
			})
		}
	}
}
