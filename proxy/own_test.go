package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/turnstest"
	"mirrorborn.us/sqgate/phext"
)

// TestOwnRequests has the forms of requests that are about the tenant itself, and what is
// refused.
func TestOwnRequests(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"writers": []string{"other"}, "public": map[string]any{"phexts": []string{"*"}}, "writes_per_minute": 5}, others: neighbours(dir)})
	w.KeyLimit, w.PublicLimit = keylimit.PerMinute(1<<20, time.Now), keylimit.PerMinute(1<<20, time.Now)
	w.put("notes.phext", notes)
	const restore = `{"phext": "notes", "at": "0s", "dry_run": true}`
	for _, target := range []string{"/api/v2/usage", "/usage", "/will/usage", "/t/will/api/v2/usage", "//will//api/v2/usage/", "/k/" + pathKey + "/api/v2/history", "/history?p=notes", "/will/api/v2/history?p=*&after=1h"} {
		for _, method := range []string{"GET", "HEAD"} {
			r := w.request(method, target, "")
			if strings.HasPrefix(target, "/k/") {
				r.Header.Del("Authorization")
			}
			if answer := w.serve(r); answer.Code != 200 || !strings.Contains(answer.Body.String(), `{"tenant_id":"will",`) || answer.Header().Get("Content-Type") != "application/json" || answer.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: %d %s %v", method, target, answer.Code, answer.Body, answer.Header())
			}
		}
	}
	for _, target := range []string{"/will/usage", "/t/will/api/v2/usage?p=site", "/will/api/v2/history", "/will/history?p=notes"} {
		w.wantError(w.keylessly("GET", target, ""), 401, "unauthorized")
		w.wantError(w.ask("GET", target, "", "Authorization", "Bearer "+otherKey), 403, "forbidden")
	}
	w.wantError(w.keylessly("POST", "/will/restore", restore), 401, "unauthorized")
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		w.wantError(w.ask(method, "/api/v2/restore", restore), 405, "method_not_allowed")
	}
	w.wantError(w.ask("POST", "/api/v2/usage", ""), 405, "method_not_allowed")
	w.wantError(w.ask("GET", "/api/v2/history?after=yesterday", ""), 400, "bad_request")
	w.wantError(w.ask("GET", "/api/v2/history/1.1.1?p=notes", ""), 404, "not_found")
	w.wantError(w.ask("POST", "/t/will/restore", restore, "Authorization", "Bearer "+otherKey), 403, "forbidden")
	w.wantError(w.ask("POST", "/api/v2/restore", strings.Replace(restore, "0s", "soon", 1)), 400, "bad_request")
	w.wantError(w.ask("POST", "/api/v2/restore", restore, "If-Match", `"x"`), 400, "bad_request")
	w.wantError(w.ask("POST", "/api/v2/restore", restore+strings.Repeat(" ", 64<<10)), 429, "rate_limited") // it is a write
	w.wantAllFree()
}

// TestARestoreIsAWrite restores what the history says, with a key that has an id.
func TestARestoreIsAWrite(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"quota_mb": 1, "keys": []any{guest("read-write", []string{"n*"}, "")}}})
	w.put("notes.phext", notes)
	const at = "&c=1.1.1/1.1.1/1.1.3"
	if r := w.asGuest("PUT", "/api/v2/update?p=notes"+at, "later"); r.Code != 200 {
		t.Fatal(r.Code, r.Body)
	}
	then := w.ask("GET", "/api/v2/history?p=notes", "").Body.String()
	if want := `"phext":"notes","op":"update","coordinate":"1.1.1/1.1.1/1.1.3","bytes":5,"key":"guest"}],"more":false}`; !strings.HasSuffix(strings.TrimSpace(then), want) {
		t.Fatalf("%s, want %s", then, want)
	}
	if r := w.ask("PUT", "/api/v2/update?p=notes"+at, "latest"); r.Code != 200 {
		t.Fatal(r.Code, r.Body)
	}
	moment := times.FindString(then)[len(`"time":"`) : len(times.FindString(then))-1]
	body := fmt.Sprintf(`{"phext": "notes", "at": %q, "c": "1.1.3"}`, moment)
	for n := range 2 {
		r := w.asGuest("POST", "/api/v2/restore", body, "Idempotency-Key", "once")
		if want := `{"tenant_id":"will","restored":[{"phext":"notes","bytes":7,"changed":true}],"removed":[],"dry_run":false}` + "\n"; r.Code != 200 || r.Body.String() != want || r.Header().Get("X-Sq-Quota-Used") != "" {
			t.Errorf("%d: %d %s %v, want %s", n, r.Code, r.Body, r.Header(), want)
		}
	}
	if r := w.ask("POST", "/api/v2/restore", body); r.Code != 200 || strings.Contains(r.Body.String(), `"changed":true`) {
		t.Errorf("again: %d %s", r.Code, r.Body)
	}
	if got := w.ask("GET", "/api/v2/select?p=notes"+at, "").Body.String(); got != "later" {
		t.Errorf("%q", got)
	}
	// Who may not know how much the tenant has is not told by a refusal.
	w.put("other.phext", strings.Repeat("x", 1<<20-10))
	w.check(w.Ledger.Recount(w.tenantNamed("will")))
	r := w.asGuest("POST", "/api/v2/restore", strings.Replace(body, `"c": "1.1.3"`, `"to": "n2"`, 1))
	if w.wantError(r, 507, "quota_exceeded"); strings.ContainsAny(r.Body.String(), "0123456789") {
		t.Errorf("it tells how much the tenant has: %s", r.Body)
	}
	w.wantAllFree()
}

// TestOwnOfAMissingDirectory: nothing is said of a directory whose disk is not mounted.
func TestOwnOfAMissingDirectory(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	requests := [][3]string{{"GET", "/usage"}, {"GET", "/history?p=notes"}, {"POST", "/restore", `{"phext": "notes", "at": "0s", "dry_run": true}`}}
	w.ask("GET", "/api/v2/toc?p=notes", "") // so it was seen
	for _, r := range requests {
		if answer := w.ask(r[0], "/api/v2"+r[1], r[2]); answer.Code != 200 {
			t.Errorf("%v: %d %s", r, answer.Code, answer.Body)
		}
	}
	w.check(os.Rename(w.dir.Path, w.dir.Path+".unmounted"))
	for _, r := range requests {
		w.wantError(w.ask(r[0], "/api/v2"+r[1], r[2]), 503, "unavailable")
	}
	w.check(os.Rename(w.dir.Path+".unmounted", w.dir.Path))
	w.wantAllFree()
}

// TestOthersGoFirstWhileTheHistoryIsAnswered, of which each event is little text and much work.
func TestOthersGoFirstWhileTheHistoryIsAnswered(t *testing.T) {
	w := newWorld(t, options{})
	w.check(w.dir.Recover(t.Context()))
	const n = 2000
	for i := range n {
		w.change("notes.phext", phext.Origin(), fmt.Sprint(i))
	}
	var answered struct {
		TenantID string `json:"tenant_id"`
		Events   []struct{ Phext, Op string }
		More     bool
	}
	turns := turnstest.Count(t, func(ctx context.Context) {
		r := w.serve(w.request("GET", fmt.Sprint("/api/v2/history?limit=", n-1), "").WithContext(ctx))
		w.check(json.Unmarshal(r.Body.Bytes(), &answered))
	})
	const record, text = 150, 150 // bytes of an event in the journal and in the answer, at least
	if want := n*(2<<10+perEvent+text)/fairqueue.Piece + n*record/(64<<10); turns < want || len(answered.Events) != n-1 || !answered.More || answered.TenantID != "will" || answered.Events[n-2].Op != "update" {
		t.Errorf("%d events in %d turns, want %d", len(answered.Events), turns, want)
	}
}
