package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// tenantsOf is what the management API says of all tenants, without what is of this
// process, of its disk, or of the day. Where a tenant has counted bytes, its directory
// has been asked for.
func (g *gate) tenantsOf() map[string]any {
	g.t.Helper()
	all := map[string]any{}
	for _, listed := range g.manage("GET", "tenants", "", 200)["tenants"].([]any) {
		tenant := maps.Clone(listed.(map[string]any))
		for _, field := range []string{"child", "archive", "last_active", "api_calls_today", "storage_used_mb", "storage_used_bytes", "phexts"} {
			delete(tenant, field)
		}
		all[tenant["tenant_id"].(string)] = tenant
	}
	return all
}

// soon sends a request until this host has a lease, and the directory is taken over.
func (g *gate) soon(id, method, target, body string) {
	g.t.Helper()
	var last reply
	eventually(g.t, "the directory is taken over", func() bool {
		r, err := g.do(id, method, target, body)
		last = r
		return err == nil && r.status != 503
	})
	if last.status != 200 {
		g.t.Fatalf("%s %s: %d %q", method, target, last.status, last.body)
	}
}

// TestTheTenantsAreGoneWithTheMachine changes tenants in each way that there is, and has
// the machine vanish with its disk. On a new one all is as before, with the same keys.
func TestTheTenantsAreGoneWithTheMachine(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "emi", "second")
		g.set("will", "path_key", "abcdefghijklmnopqrstu_")
		g.set("will", "public", map[string]any{"phexts": []string{"site"}})
		g.set("will", "writers", []string{"emi"})
		g.set("emi", "reads_per_minute", 1000)
		g.writeFile()
		g.args = []string{"--bucket", "file://" + t.TempDir()}
		g.start()
		g.soon("will", "POST", at("update", "site", origin), "of will")
		g.add("acme", 5)
		g.must("acme", "POST", at("update", "n", origin), "of acme", 200)
		g.manage("PATCH", "tenants/acme", `{"quota_mb": 6, "calls_per_day": 5000, "admin_email": "a@b"}`, 200)
		made := g.newPathKey("acme")
		old := g.key("acme")
		g.set("acme", "api_key", g.manage("POST", "tenants/acme/rotate-key", `{"overlap": "1h"}`, 200)["api_key"])
		g.add("archived", 1)
		g.must("archived", "POST", at("update", "n", origin), "x", 200)
		g.manage("DELETE", "tenants/archived", "", 200)
		g.add("purged", 1)
		purged := g.key("purged")
		g.manage("DELETE", "tenants/purged", "", 200)
		g.manage("POST", "tenants/purged/purge", `{"confirm": "purged"}`, 200)
		g.manage("PATCH", "tenants/second", `{"enabled": false}`, 200)
		// By hand, in the file as it is now.
		text, err := os.ReadFile(g.configPath())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"path_key": "`+made) != true || strings.Contains(string(text), g.key("will")) != true {
			t.Error("the tenants file does not keep keys in clear")
		}
		byHand := strings.Replace(string(text), `"reads_per_minute": 1000`, `"reads_per_minute": 2000`, 1)
		if err := os.WriteFile(g.configPath(), []byte(byHand), 0o600); err != nil || byHand == string(text) {
			t.Fatal(err)
		}
		g.manage("POST", "reload", "", 200)
		before := g.tenantsOf()
		if emi := before["emi"].(map[string]any); emi["reads_per_minute"] != 2000.0 {
			t.Fatalf("the change by hand is not in force: %v", emi)
		}

		g.kill()
		g.wipe()
		g.start()
		if after := g.tenantsOf(); !reflect.DeepEqual(after, before) {
			t.Errorf("the tenants were\n%v\nand are\n%v", before, after)
		}
		g.soon("acme", "GET", at("select", "n", origin), "")
		g.soon("will", "GET", at("select", "site", origin), "")
		for key, status := range map[string]int{g.key("acme"): 200, old: 200, purged: 401, g.key("archived"): 403, g.key("second"): 403, "pmb-v1-00000000000000000000000000000000": 401} {
			if r, err := g.doKey(key, "GET", at("select", "n", origin)); err != nil || r.status != status || status == 200 && r.body != "of acme" {
				t.Errorf("%v, %d %q, want %d", err, r.status, r.body, status)
			}
		}
		for key, target := range map[string]string{made: "acme", "abcdefghijklmnopqrstu_": "will"} {
			if got := g.get("", "/k/"+key+at("select", map[string]string{"acme": "n", "will": "site"}[target], origin)); got != "of "+target {
				t.Errorf("with the path key of %s: %q", target, got)
			}
		}
		if got := g.get("", "/t/will"+at("select", "site", origin)); got != "of will" {
			t.Errorf("without a key: %q", got)
		}
		g.must("emi", "POST", "/t/will"+at("update", "n", origin), "of emi", 200)
		if text, err = os.ReadFile(g.configPath()); err != nil || strings.Contains(string(text), g.key("will")) || !json.Valid(text) {
			t.Errorf("the tenants file of the new machine: %v\n%s", err, text)
		}
		// It goes on from there.
		g.manage("POST", "tenants/acme/rotate-key", "", 200)
		g.must("acme", "GET", at("select", "n", origin), "", 401)
	})
}

// TestTenantsThatTheBucketDoesNotKnow keep sqgate from starting. Nothing is changed.
func TestTenantsThatTheBucketDoesNotKnow(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	used := t.TempDir()
	g.args = []string{"--bucket", "file://" + used}
	g.fillBucket()
	other := newGate(t, builtin, "will", "emi")
	for name, place := range map[string]string{"an empty bucket": t.TempDir(), "another's": used} {
		before, err := os.ReadFile(other.configPath())
		if err != nil {
			t.Fatal(err)
		}
		out, status := sqgateOutput(t, nil, "serve", "--sq", builtin, "--config", other.configPath(), "--state-dir", filepath.Join(other.dir, "state"), "--listen", "127.0.0.1:0", "--bucket", "file://"+place)
		after, err := os.ReadFile(other.configPath())
		if err != nil || status == 0 || !strings.Contains(out, "sqgate bucket init") || string(after) != string(before) {
			t.Errorf("%s: %d %s", name, status, out)
		}
	}
}

// TestADamagedObjectOfTenants is shown, and keeps neither the others nor a start from anything.
func TestADamagedObjectOfTenants(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will", "emi")
	dir := t.TempDir()
	g.args = []string{"--bucket", "file://" + dir}
	g.fillBucket()
	if object.TenantShard("will") == object.TenantShard("emi") {
		t.Fatal("this test shows nothing")
	}
	key := fmt.Sprintf("tenants/%x", object.TenantShard("will"))
	b, err := bucket.Open("file://"+dir, bucket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), key, []byte("damaged"), bucket.Condition{}); err != nil {
		t.Fatal(err)
	}
	g.start()
	g.soon("will", "POST", at("update", "n", origin), "of will")
	g.manage("PATCH", "tenants/emi", `{"quota_mb": 7}`, 200)
	if told := g.manage("PATCH", "tenants/will", `{"quota_mb": 7}`, 503)["error"].(string); !strings.Contains(told, key) {
		t.Error(told)
	}
	if problems, _ := g.manage("GET", "bucket", "", 200)["problems"].([]any); len(problems) != 1 || !strings.Contains(problems[0].(string), key) {
		t.Errorf("%q", problems)
	}
	if metrics := g.metrics(t); !strings.Contains(metrics, "\nsq_bucket_problems 1\n") {
		t.Error(metrics)
	}
}
