package proxy

import (
	"fmt"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// TestAnswersCountForWhoeverIsSentThem has those who are let into a tenant's phexts, and a
// reader without a key, not take what they asked for: the tenant is served.
func TestAnswersCountForWhoeverIsSentThem(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"writers": []string{"other"}, "public": map[string]any{"phexts": []string{"*"}}}, others: neighbours(t.TempDir())})
	w.put("notes.phext", strings.Repeat("x", 500<<10)+"\x17two")
	for group, theirs := range map[string]string{"other": otherKey, publicReaders: ""} {
		var held []func()
		for size := int64(1 << 20); size > 0; size /= 2 { // all that they may have
			for {
				release, ok := w.dir.Send(rewrite.Recipient{Group: group, Caller: group}, new(byte), size)
				if !ok {
					break
				}
				held = append(held, release)
			}
		}
		for _, test := range []struct{ method, target, body string }{
			{"GET", "/api/v2/get?p=notes", ""},
			{"GET", "/api/v2/json-export?p=notes", ""},
			{"GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", ""},
			{"GET", "/api/v2/query?p=notes&from=1.1.1/1.1.1/1.1.1&to=1.1.1/1.1.1/1.1.9", ""},
			{"GET", "/api/v2/list?p=notes", ""},
			{"POST", "/api/v2/batch?p=notes", `{"operations":[{"op":"select","c":"1.1.1/1.1.1/1.1.1"}]}`},
		} {
			ask := func(with string) int {
				r := w.request(test.method, "/will"+test.target, test.body)
				if r.Header.Set("Authorization", "Bearer "+with); with == "" {
					r.Header.Del("Authorization")
				}
				return w.serve(r).Code
			}
			want := 503
			if theirs == "" && test.method == "POST" {
				want = 401
			}
			if status := ask(theirs); status != want {
				t.Errorf("%s of %q: %d, want %d", test.target, group, status, want)
			}
			if status := ask(key); status != 200 {
				t.Errorf("%s, while %q does not take what it gets: %d", test.target, group, status)
			}
		}
		for _, release := range held {
			release()
		}
	}
	w.wantAllFree()
}

// TestFewTenantsLeaveOthersPlacesToListen whatever they take.
func TestFewTenantsLeaveOthersPlacesToListen(t *testing.T) {
	s := newStreams()
	one := func(id string) *stream { return &stream{access: access{caller: &tenants.Tenant{ID: id}}} }
	for i := range 10 {
		for s.enter(one(fmt.Sprint("many", i))) {
		}
	}
	if !s.enter(one("another")) {
		t.Error("there is no place for another tenant")
	}
}
