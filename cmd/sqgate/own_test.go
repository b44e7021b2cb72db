package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// makeKey makes a further key over the management API.
func (g *gate) makeKey(id, key, fields string) string {
	g.t.Helper()
	made, _ := g.manage("POST", "tenants/"+id+"/keys", `{"id": "`+key+`", `+fields+`}`, 201)["api_key"].(string)
	return made
}

// as asks with a key, and reads the JSON of the answer.
func (g *gate) as(key, method, target, body string, status int, into any) reply {
	g.t.Helper()
	r := g.withBearer(key, method, target, body)
	if r.status != status {
		g.t.Fatalf("%s %s %s: %d %s, want %d", method, target, body, r.status, r.body, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(r.body), into); err != nil {
			g.t.Fatalf("%s: %v", r.body, err)
		}
	}
	return r
}

// TestUsage asks what a tenant uses, with its own key and with further ones.
func TestUsage(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "emi", "guest")
		for _, id := range []string{"will", "emi"} {
			g.set(id, "shared_data_dir", true)
			g.set(id, "data_dir", filepath.Join(g.dir, "data", "shared"))
		}
		g.set("will", "quota_mb", 2)
		g.set("will", "max_phexts", 5)
		g.set("will", "calls_per_day", 100)
		g.set("will", "writes_per_minute", 10)
		g.set("will", "path_key", "abcdefghijklmnopqrstuvwx")
		g.set("will", "public", map[string]any{"phexts": []string{"*"}})
		g.set("will", "writers", []string{"guest"})
		g.writeFile()
		g.start()
		g.must("emi", "POST", at("update", "hers", origin), strings.Repeat("x", 5000), 200)
		g.must("will", "POST", at("update", "notes", origin), strings.Repeat("x", 1<<20), 200)
		g.must("will", "POST", at("update", "log-1", origin), "a line", 200)
		reader := g.makeKey("will", "reader", `"access": "read", "phexts": ["log-*"], "expires": "1d"`)
		below := g.makeKey("will", "below", `"access": "append", "prefix": "2.3"`)

		var u usageAnswer
		g.as(g.key("will"), "GET", "/api/v2/usage", "", 200, &u)
		if u.Tenant != "will" || *u.Bytes != 1<<20+6 || *u.MB != 1.000006 || *u.Quota != 2 || *u.Phexts != 2 || *u.MaxPhexts != 5 || *u.Calls != 3 || time.Since(*u.LastActive) > waitTimeout || u.PerDay != 100 || u.Writes != 10 {
			t.Errorf("%+v", u)
		}
		if l := u.Left; *l.Quota != 0.999994 || *l.MaxPhexts != 3 || *l.PerDay != 97 || *l.Writes != 8 || l.Requests != nil {
			t.Errorf("%+v", l)
		}
		if u.Key.Access != "read-write" || len(u.Key.ID) != 8 || u.Key.Phexts != nil {
			t.Errorf("%+v", u.Key)
		}
		for _, path := range []string{"/usage", "/will/api/v2/usage", "/t/will/usage/"} {
			g.must("will", "GET", path, "", 200)
		}
		g.must("", "GET", "/k/abcdefghijklmnopqrstuvwx/api/v2/usage", "", 200)
		g.must("will", "POST", "/api/v2/usage", "", 405)

		u = usageAnswer{}
		r := g.as(reader, "GET", "/api/v2/usage", "", 200, &u)
		if *u.Bytes != 6 || *u.Phexts != 1 || u.Key.ID != "reader" || u.Key.Access != "read" || fmt.Sprint(u.Key.Phexts) != "[log-*]" || u.Key.Expires == nil || u.PerDay != 100 ||
			u.Quota != nil || u.MaxPhexts != nil || u.Calls != nil || u.LastActive != nil || u.Left != nil {
			t.Errorf("a key for some phexts: %s", r.body)
		}
		u = usageAnswer{}
		if r = g.as(below, "GET", "/api/v2/usage", "", 200, &u); u.Bytes != nil || u.Phexts != nil || u.Left != nil || u.Key.Prefix != "2.3" {
			t.Errorf("a key with a prefix: %s", r.body)
		}
		g.must("guest", "GET", "/will/api/v2/usage", "", 403)
		g.must("emi", "GET", "/will/api/v2/usage", "", 403)
		g.must("", "GET", "/will/api/v2/usage", "", 401)
	})
}

// usageAnswer is the answer to usage.
type usageAnswer struct {
	Tenant     string     `json:"tenant_id"`
	Bytes      *int64     `json:"storage_used_bytes"`
	MB         *float64   `json:"storage_used_mb"`
	Quota      *int64     `json:"quota_mb"`
	Phexts     *int       `json:"phexts"`
	MaxPhexts  *int       `json:"max_phexts"`
	Calls      *int       `json:"api_calls_today"`
	LastActive *time.Time `json:"last_active"`
	PerDay     int        `json:"calls_per_day"`
	Writes     int        `json:"writes_per_minute"`
	Left       *struct {
		Quota     *float64 `json:"quota_mb"`
		MaxPhexts *int     `json:"max_phexts"`
		PerDay    *int     `json:"calls_per_day"`
		Writes    *int     `json:"writes_per_minute"`
		Requests  *int     `json:"requests_per_minute"`
	}
	Key struct {
		ID, Access, Prefix string
		Phexts             []string
		Expires            *time.Time
	}
}

// pastAnswer is the answer to history.
type pastAnswer struct {
	Events []struct {
		Time                                     time.Time
		Phext, Op, Coordinate, Key, Note, Writer string
		Bytes                                    int
	}
	More bool
}

func (p pastAnswer) String() string {
	var lines []string
	for _, e := range p.Events {
		lines = append(lines, fmt.Sprint(e.Phext, " ", e.Op, " ", e.Coordinate, " ", e.Bytes))
	}
	return strings.Join(lines, ", ")
}

// TestOwnPast looks at the history of a tenant in a shared directory and restores from it,
// with the tenant's own key and with further ones.
func TestOwnPast(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "emi", "guest")
		for _, id := range []string{"will", "emi"} {
			g.set(id, "shared_data_dir", true)
			g.set(id, "data_dir", filepath.Join(g.dir, "data", "shared"))
		}
		g.set("will", "quota_mb", 1)
		g.set("will", "public", map[string]any{"phexts": []string{"*"}})
		g.set("will", "writers", []string{"guest"})
		g.writeFile()
		g.start()
		will := g.key("will")
		g.must("will", "POST", at("update", "notes", origin), "first", 200)
		g.must("will", "POST", at("update", "notes", "a.name"), "named", 200)
		g.must("emi", "POST", at("update", "notes", origin), "hers", 200)
		var p pastAnswer
		g.as(will, "GET", "/api/v2/history", "", 200, &p)
		if p.String() != "notes update "+origin+" 5, notes update a.name 5" || p.More {
			t.Fatalf("the history is %v", p)
		}
		then := p.Events[1].Time.Format(time.RFC3339Nano)
		g.must("will", "POST", at("update", "notes", origin), "second", 200)
		g.must("guest", "POST", "/will"+at("delete", "notes", "a.name"), "", 200)
		g.must("will", "POST", at("update", "diary", origin), "secret", 200)
		l := g.listen("will", "?p=notes", "")

		restore := func(key, fields string, status int, headers ...string) reply {
			t.Helper()
			r := g.withBearer(key, "POST", "/api/v2/restore", `{"at": "`+then+`", `+fields+`}`, headers...)
			if r.status != status {
				t.Fatalf("restore %s: %d %s, want %d", fields, r.status, r.body, status)
			}
			return r
		}
		if r := restore(will, `"phext": "notes", "dry_run": true`, 200); !strings.Contains(r.body, `{"phext":"notes","bytes":`) || !strings.Contains(r.body, `"changed":true`) || g.get("will", at("select", "notes", origin)) != "second" {
			t.Errorf("a dry run: %s", r.body)
		}
		restore(will, `"phext": "notes", "to": "before"`, 200)
		if got := g.get("will", at("select", "before", "a.name")); got != "named" {
			t.Errorf("under another name: %q", got)
		}
		first := restore(will, `"phext": "notes"`, 200, "Idempotency-Key", "once")
		if got := g.get("will", "/api/v2/toc?p=notes"); got != "* "+origin+": first\n* a.name: named\n" || first.header.Get("X-SQ-Quota-Used") == "" {
			t.Errorf("restored: %q, with %v", got, first.header)
		}
		if c, ok := l.next(); !ok || c.Phext != "notes" || c.Op != "replace" {
			t.Errorf("a listener: %v %v", c, ok)
		}
		g.must("will", "POST", at("insert", "notes", origin), " and more", 200) // SQ has read the file again
		if again := restore(will, `"phext": "notes"`, 200, "Idempotency-Key", "once"); again.body != first.body || g.get("will", at("select", "notes", origin)) != "first and more" {
			t.Errorf("repeated: %s, first %s", again.body, first.body)
		}
		restore(will, `"phext": "diary"`, 409, "Idempotency-Key", "once")
		restore(will, `"phext": "notes", "c": "`+origin+`"`, 200)
		if got := g.get("will", at("select", "notes", origin)); got != "first" {
			t.Errorf("one scroll: %q", got)
		}
		restore(will, `"phext": "none"`, 404)
		restore(will, `"phext": "notes", "dryrun": true`, 400)
		restore(will, `"dry_run": true`, 400)
		if got := g.get("emi", at("select", "notes", origin)); got != "hers" {
			t.Errorf("the neighbour has %q", got)
		}

		for key, test := range map[string]struct{ fields, sees string }{
			"reader": {`"access": "read", "phexts": ["notes"]`, "notes"},
			"writer": {`"access": "read-write", "phexts": ["notes"]`, "notes"},
			"adder":  {`"access": "append", "phexts": ["notes"]`, "notes"},
			"below":  {`"access": "read-write", "prefix": "a.name"`, "a.name"},
		} {
			made := g.makeKey("will", key, test.fields)
			p = pastAnswer{}
			if r := g.as(made, "GET", "/api/v2/history", "", 200, &p); strings.Contains(r.body, "diary") || strings.Contains(r.body, "999.1.1") || !strings.Contains(r.body, test.sees) || (test.sees == "a.name") == strings.Contains(r.body, origin) {
				t.Errorf("%s sees %v: %s", key, p, r.body)
			}
			status := map[bool]int{true: 200, false: 403}[key == "writer"]
			restore(made, `"phext": "notes"`, status)
			restore(made, `"phext": "diary"`, 403)
			restore(made, `"phext": "notes", "to": "diary"`, 403)
		}
		for _, id := range []string{"guest", "emi"} {
			g.must(id, "GET", "/will/api/v2/history", "", 403)
			g.must(id, "POST", "/will/api/v2/restore", `{"phext": "notes", "at": "0s"}`, 403)
		}
		g.must("", "GET", "/will/api/v2/history?p=notes", "", 401)
		g.must("", "POST", "/will/api/v2/restore", `{"phext": "notes", "at": "0s"}`, 401)
		p = pastAnswer{}
		g.as(will, "GET", "/api/v2/history?p=notes&c=a.name", "", 200, &p)
		if p.Events[1].Writer != "guest" || p.Events[1].Op != "delete" || !strings.HasPrefix(p.Events[2].Note, "restored to ") {
			t.Errorf("%+v", p.Events)
		}

		// What a restore would take counts.
		g.must("will", "POST", at("update", "large", origin), strings.Repeat("x", 600<<10), 200)
		p = pastAnswer{}
		g.as(will, "GET", "/api/v2/history?p=large", "", 200, &p)
		then = p.Events[0].Time.Format(time.RFC3339Nano)
		g.must("will", "POST", at("update", "large", origin), "small", 200)
		g.must("will", "POST", at("update", "other", origin), strings.Repeat("x", 600<<10), 200)
		restore(will, `"phext": "large"`, 507)
		if got := g.get("will", at("select", "large", origin)); got != "small" {
			t.Errorf("a restore that was refused left %.20q", got)
		}
	})
}

// TestOwnPastAtAnyHost asks any of two hosts, also after the tenant has moved from one to
// the other, which knows the past from the bucket.
func TestOwnPastAtAnyHost(t *testing.T) {
	t.Parallel()
	all := startHosts(t, cmp.Or(realSQ(), builtin), "file://"+t.TempDir(), 2, "will")
	key := all[0].key("will")
	all[0].must("will", "POST", at("update", "notes", origin), "first", 200)
	var p pastAnswer
	all[1].as(key, "GET", "/api/v2/history?p=notes", "", 200, &p)
	body := fmt.Sprintf(`{"phext": "notes", "at": %q}`, p.Events[0].Time.Format(time.RFC3339Nano))
	all[1].must("will", "POST", at("update", "notes", origin), "second", 200)
	restore := func(g *gate) string {
		t.Helper()
		r := g.withBearer(key, "POST", "/api/v2/restore", body, "Idempotency-Key", "once")
		if r.status != 200 {
			t.Fatal(r.status, r.body)
		}
		return r.body
	}
	first := restore(all[0])
	for _, host := range []string{"h0", "h1"} {
		all[0].manage("POST", "tenants/will/move", `{"host": "`+host+`"}`, 200)
		for _, g := range all {
			if got := g.get("will", at("select", "notes", origin)); got != "first" || restore(g) != first {
				t.Errorf("%s has %q", g.args[3], got)
			}
			p = pastAnswer{}
			if g.as(key, "GET", "/api/v2/history", "", 200, &p); p.String() != "notes update "+origin+" 5, notes update "+origin+" 6, notes replace  5" {
				t.Errorf("%s has the past %v", g.args[3], p)
			}
			var u usageAnswer
			if g.as(key, "GET", "/api/v2/usage", "", 200, &u); *u.Bytes != 5 || *u.Phexts != 1 || *u.Calls < 4 {
				t.Errorf("%s: %+v", g.args[3], u)
			}
		}
	}
	all[1].must("will", "POST", at("update", "notes", origin), "third", 200)
	if r := all[1].withBearer(key, "POST", "/api/v2/restore", body); r.status != 200 || all[0].get("will", at("select", "notes", origin)) != "first" {
		t.Errorf("%d %s", r.status, r.body)
	}
}
