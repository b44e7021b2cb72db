package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startWithBucket starts a gate whose bucket is a directory.
func startWithBucket(t *testing.T, sq string, ids ...string) (g *gate, bucket string) {
	t.Helper()
	g, bucket = newGate(t, sq, ids...), t.TempDir()
	g.args = []string{"--bucket", "file://" + bucket}
	g.start()
	g.awaitOwner(ids[0])
	return g, bucket
}

// awaitOwner returns when a tenant can be read.
func (g *gate) awaitOwner(id string) {
	g.t.Helper()
	eventually(g.t, "the directory is taken over", func() bool {
		r, err := g.do(id, "GET", at("select", "n", origin), "")
		return err == nil && r.status == 200
	})
}

// vanish ends sqgate, and has it start on an empty disk. It returns when a tenant can be
// read again.
func (g *gate) vanish(id string, end func()) {
	g.t.Helper()
	end()
	g.wipe()
	g.start()
	g.awaitOwner(id)
}

// TestThePastIsInTheBucket loses the disk, and has the same history afterwards: what was
// done, and phexts as they were. A request that is repeated is answered, and not made again.
func TestThePastIsInTheBucket(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g, _ := startWithBucket(t, sq, "will")
		type moment struct{ at, n, toc string }
		var moments []moment
		for i := range 12 {
			g.must("will", "POST", at([]string{"update", "insert", "delete"}[i%3], "n", fmt.Sprintf("1.1.1/1.1.1/1.1.%d", 1+i%5)), fmt.Sprintf("text %d", i), 200)
			g.must("will", "POST", byName("update", "n", fmt.Sprintf("a.name/%d", i%4)), fmt.Sprint("named ", i), 200)
			g.must("will", "POST", at("update", "other", origin), fmt.Sprint("other ", i), 200)
			moments = append(moments, moment{time.Now().UTC().Format(time.RFC3339Nano), g.get("will", "/api/v2/get?p=n"), g.get("will", "/api/v2/toc?p=n")})
		}
		g.insertOnce("will", "once.")
		last := g.get("will", "/api/v2/get?p=n")
		before := g.history("will")
		g.vanish("will", g.kill)
		g.insertOnce("will", "once.")
		if got := g.get("will", "/api/v2/get?p=n"); got != last {
			t.Errorf("a repeated insert leaves %q, want %q", got, last)
		}
		after := g.history("will")
		if text := func(events []any) string { b, _ := json.Marshal(events); return string(b) }; text(after) != text(before) { // what was decoded is encoded
			t.Errorf("%d events, and were %d:\n%s\n%s", len(after), len(before), text(after), text(before))
		}
		for i, m := range moments {
			to := fmt.Sprintf("then-%d", i)
			g.manage("POST", "tenants/will/restore", fmt.Sprintf(`{"phext":"n","at":%q,"to":%q}`, m.at, to), 200)
			if got := g.get("will", "/api/v2/get?p="+to); got != m.n {
				t.Fatalf("moment %d: %q, want %q", i, got, m.n)
			}
			if got := g.get("will", "/api/v2/toc?p="+to); got != m.toc {
				t.Fatalf("moment %d: names %q, want %q", i, got, m.toc)
			}
		}
		g.must("will", "POST", at("insert", "n", origin), "later", 200)
		g.manage("POST", "tenants/will/restore", fmt.Sprintf(`{"at":%q}`, moments[5].at), 200)
		if n, other := g.get("will", "/api/v2/get?p=n"), g.get("will", at("select", "other", origin)); n != moments[5].n || other != "other 5" {
			t.Errorf("the tenant is %q, %q", n, other)
		}
		g.must("will", "POST", at("insert", "n", origin), " and SQ has that", 200)
		g.vanish("will", g.stop)
		if got := g.get("will", "/api/v2/get?p=n"); !strings.Contains(got, " and SQ has that") {
			t.Errorf("%q", got)
		}
	})
}

// TestManyPhextsComeBack on an empty disk, while they are read and written.
func TestManyPhextsComeBack(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g, _ := startWithBucket(t, sq, "will")
		many := rounds(60, 400)
		text := strings.Repeat("many words ", 2000)
		g.must("will", "POST", at("update", "n", origin), "n", 200)
		for i := range many {
			g.must("will", "POST", at("update", fmt.Sprint("p", i), origin), fmt.Sprint(text, i), 200)
		}
		g.vanish("will", g.stop)
		for i := range many {
			p := fmt.Sprint("p", (i*37)%many)
			if i%3 == 0 {
				g.must("will", "POST", at("insert", p, origin), " more", 200)
			}
			want := fmt.Sprint(text, (i*37)%many)
			if i%3 == 0 {
				want += " more"
			}
			if got := g.get("will", at("select", p, origin)); got != want {
				t.Fatalf("%s has %d bytes, want %d", p, len(got), len(want))
			}
		}
		left, err := filepath.Glob(filepath.Join(g.dataDir("will"), ".sqgate-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%q %v", left, err)
		}
	})
}

// TestPurgeWithABucket deletes, restores and purges tenants, and gives the id of one to
// another, which inherits nothing, also on a new machine.
func TestPurgeWithABucket(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g, bucket := startWithBucket(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "will", 200)
		g.add("acme", 1)
		for i := range 3 {
			g.must("acme", "POST", at("update", "secret", origin), fmt.Sprint("secret ", i), 200)
		}
		g.insertOnce("acme", "once")
		archive := g.manage("DELETE", "tenants/acme", "", 200)["archive"].(string)
		g.manage("POST", "tenants/acme/restore", `{"archive": "`+archive+`"}`, 200)
		if got := g.get("acme", at("select", "secret", origin)); got != "secret 2" {
			t.Errorf("restored: %q", got)
		}
		g.vanish("will", g.stop)
		if got := g.get("acme", at("select", "secret", origin)); got != "secret 2" {
			t.Errorf("restored, on a new machine: %q", got)
		}
		objects := func() (all []string) {
			for _, kind := range []string{"log", "files", "checkpoint"} {
				some, err := filepath.Glob(filepath.Join(bucket, "v1", "dirs", "acme", kind, "*"))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, some...)
			}
			return all
		}
		before := len(objects())
		g.manage("DELETE", "tenants/acme", "", 200)
		g.manage("POST", "tenants/acme/purge", `{"confirm": "acme"}`, 200)
		if left := objects(); len(left) > 3 || before < 8 { // two records that open an epoch, and a checkpoint of nothing
			t.Errorf("%d objects were there, and are left: %q", before, left)
		}
		for round := range 2 {
			if round == 0 {
				g.add("acme", 1)
			}
			if got := g.get("acme", at("select", "secret", origin)); got != "" {
				t.Errorf("inherited: %q", got)
			}
			if round == 0 {
				g.insertOnce("acme", "mine")
			}
			if got := g.get("acme", at("select", "n", origin)); got != "mine" {
				t.Errorf("round %d: %q", round, got)
			}
			if events := g.history("acme"); len(events) != 1 {
				t.Errorf("round %d: %v", round, events)
			}
			g.vanish("will", g.stop)
		}
		if err := os.RemoveAll(filepath.Join(g.dir, "archive")); err != nil {
			t.Fatal(err)
		}
	})
}
