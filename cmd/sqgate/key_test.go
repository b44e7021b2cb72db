package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestKeysWithRights makes keys over the management API, uses them with SQ, and revokes one
// whose connection stays open.
func TestKeysWithRights(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGateWith(t, sq, "quota_mb", 1)
		g.must("will", "POST", at("update", "notes", origin), "a note", 200)
		g.must("will", "POST", at("update", "diary", origin), "secret", 200)
		made := map[string]string{}
		for id, fields := range map[string]string{
			"reader": `"access": "read", "phexts": ["notes"]`, "logger": `"access": "append", "phexts": ["log-*"], "expires": "1d"`, "below": `"access": "read-write", "prefix": "2.3.5"`,
		} {
			made[id], _ = g.manage("POST", "tenants/will/keys", `{"id": "`+id+`", `+fields+`}`, 201)["api_key"].(string)
		}
		g.manage("POST", "tenants/will/keys", `{"id": "reader", "access": "read"}`, 409)
		g.manage("POST", "tenants/will/keys", `{"id": "x", "access": "write"}`, 400)
		g.manage("POST", "tenants/will/keys", `{"id": "x", "access": "read", "expires": "2020-01-01"}`, 400)
		try := func(id, method, target, body string, status int) reply {
			t.Helper()
			r := g.withBearer(made[id], method, target, body)
			if r.status != status || strings.Contains(r.body, "secret") {
				t.Errorf("%s: %s %s: %d %s, want %d", id, method, target, r.status, r.body, status)
			}
			return r
		}
		try("reader", "GET", at("select", "notes", origin), "", 200)
		try("reader", "POST", at("update", "notes", origin), "x", 403)
		try("reader", "GET", at("select", "diary", origin), "", 403)
		if r := try("reader", "GET", "/api/v2/list?p=*", "", 200); !strings.Contains(r.body, `"total":1,`) {
			t.Errorf("the reader lists %s", r.body)
		}
		try("logger", "POST", at("insert", "log-1", origin), "one", 200)
		try("logger", "POST", at("insert", "log-1", origin), " two", 200)
		try("logger", "POST", at("update", "log-1", origin), "x", 403)
		try("logger", "PUT", "/api/v2/write/log.1?p=log-1", "named", 200)
		try("logger", "DELETE", at("delete", "log-1", origin), "", 403)
		if got := g.get("will", at("select", "log-1", origin)); got != "one two" {
			t.Errorf("the log is %q", got)
		}
		try("below", "POST", at("update", "notes", "2.3.5/1.1.1/1.1.7"), "mine", 200)
		try("below", "POST", at("update", "notes", origin), "x", 403)
		if r := try("below", "POST", at("update", "notes", "2.3.5/1.1.1/1.1.8"), strings.Repeat("x", 1<<20), 507); strings.ContainsAny(r.body, "0123456789") {
			t.Errorf("it tells how much the tenant has: %s", r.body)
		}
		if r := try("below", "GET", "/api/v2/toc?p=notes", "", 200); r.body != "* 2.3.5/1.1.1/1.1.7: mine\n" {
			t.Errorf("the table of contents is %s", r.body)
		}
		for id, want := range map[string][]string{
			"reader": {"notes update 1.1.1/1.1.1/1.1.1 6", "notes update 2.3.5/1.1.1/1.1.7 4"},
			"logger": {"log-1 insert 1.1.1/1.1.1/1.1.1 3", "log-1 insert 1.1.1/1.1.1/1.1.1 7", "log-1 update log.1 5"},
			"below":  {"notes update 2.3.5/1.1.1/1.1.7 4"},
		} {
			wantChanges(t, id, parseChanges(t, try(id, "GET", "/api/v2/changes", "", 200).body), want...)
		}
		try("logger", "GET", "/api/v2/changes?p=notes", "", 403)
		then := g.changes("will", "?p=notes")[1].Time
		g.manage("POST", "tenants/will/restore", fmt.Sprintf(`{"phext":"notes","at":%q}`, then.Add(-1).Format(time.RFC3339Nano)), 200)
		try("below", "POST", at("update", "notes", "2.3.5/1.1.1/1.1.7"), "mine", 200)
		wantChanges(t, "after a restore", parseChanges(t, try("below", "GET", "/api/v2/changes", "", 200).body),
			"notes update 2.3.5/1.1.1/1.1.7 4", "notes replace  0", "notes update 2.3.5/1.1.1/1.1.7 4")
		events := g.history("will")
		if last := events[len(events)-1].(map[string]any); last["key"] != "below" {
			t.Errorf("the history has %v", last)
		}
		list, err := json.Marshal(g.manage("GET", "tenants/will/keys", "", 200))
		if err != nil || !strings.Contains(string(list), `"logger"`) {
			t.Errorf("%s %v", list, err)
		}
		if metrics := g.metrics(t); !strings.Contains(metrics, `sq_key_refused_total{code="forbidden",key="reader",tenant="will"} 2`) {
			t.Error("the metrics do not count what the reader was refused")
		}
		g.manage("DELETE", "tenants/will/keys/reader", "", 200)
		g.manage("DELETE", "tenants/will/keys/reader", "", 404)
		try("reader", "GET", at("select", "notes", origin), "", 401)
		if log := g.log.String(); !strings.Contains(log, "key=reader") {
			t.Error("the log does not name the key")
		}
		for _, key := range made {
			if strings.Contains(string(list), key) || strings.Contains(g.log.String(), key) || key == "" {
				t.Error("a key was shown again")
			}
		}
	})
}
