package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// operate runs one of sqgate's commands against the gate.
func (g *gate) operate(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := g.on.command(self, append(args, "--url", g.url)...)
	cmd.Env = append(os.Environ(), asSqgate+"=1", "SQ_ADMIN_KEY="+adminKey)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (g *gate) mustOperate(args ...string) string {
	g.t.Helper()
	out, err := g.operate(args...)
	if err != nil {
		g.t.Fatalf("sqgate %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestRestore(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		type moment struct{ at, notes, named string }
		var moments []moment
		many := rounds(40, 100)
		for i := range many {
			g.must("will", "POST", at([]string{"update", "insert", "delete"}[i%3], "notes", fmt.Sprintf("1.1.1/1.1.1/1.1.%d", 1+i%5)), fmt.Sprintf("text %d", i), 200)
			g.must("will", "POST", byName("update", "notes", fmt.Sprintf("a.name/%d", i%4)), fmt.Sprint("named ", i), 200)
			moments = append(moments, moment{time.Now().UTC().Format(time.RFC3339Nano), g.get("will", "/api/v2/get?p=notes"), g.get("will", "/api/v2/toc?p=notes")})
			if i == 20 {
				g.kill()
				g.start()
			}
		}
		for i, m := range moments {
			to := fmt.Sprintf("then-%d", i)
			if i%20 == 0 { // the command, which takes long to start with -race
				g.mustOperate("restore", "will", "notes", "--at", m.at, "--to", to)
			} else {
				g.manage("POST", "tenants/will/restore", fmt.Sprintf(`{"phext":"notes","at":%q,"to":%q}`, m.at, to), 200)
			}
			if got := g.get("will", "/api/v2/get?p="+to); got != m.notes {
				t.Fatalf("moment %d: %q, want %q", i, got, m.notes)
			}
			if got := g.get("will", "/api/v2/toc?p="+to); got != m.named {
				t.Fatalf("moment %d: names %q, want %q", i, got, m.named)
			}
		}
		last, early := moments[len(moments)-1], moments[10]
		if out := g.mustOperate("restore", "will", "notes", "--at", early.at, "--dry-run"); !strings.Contains(out, "would be restored") || g.get("will", "/api/v2/get?p=notes") != last.notes {
			t.Errorf("a dry run: %s", out)
		}
		g.mustOperate("restore", "will", "notes", "--at", early.at, "--yes")
		if got := g.get("will", "/api/v2/get?p=notes"); got != early.notes {
			t.Errorf("restored: %q, want %q", got, early.notes)
		}
		// SQ still has the phext in memory as it was before. It must not write that back.
		g.must("will", "POST", at("update", "other", origin), "x", 200)
		g.must("will", "POST", at("insert", "notes", "1.1.1/1.1.1/2.1.1"), "after", 200)
		if got := g.get("will", "/api/v2/get?p=notes"); !strings.Contains(got, "after") || strings.Contains(got, fmt.Sprint("named ", many-1)) {
			t.Errorf("after a restore and a write: %q", got)
		}
		g.mustOperate("restore", "will", "--at", last.at, "--yes")
		if got := g.get("will", "/api/v2/get?p=notes"); got != last.notes {
			t.Errorf("undone: %q, want %q", got, last.notes)
		}
		if _, err := os.Stat(filepath.Join(g.dataDir("will"), "other.phext")); !os.IsNotExist(err) {
			t.Errorf("a phext that did not exist then: %v", err)
		}
		g.mustOperate("restore", "will", "notes", "--at", early.at, "--coordinate", "a.name/1", "--yes")
		if got, want := g.get("will", byName("select", "notes", "a.name/1")), "named 9"; got != want {
			t.Errorf("one scroll: %q, want %q", got, want)
		}
		if out := g.mustOperate("history", "will", "notes"); strings.Count(out, "\n") < 40 || !strings.Contains(out, "replace") {
			t.Errorf("history: %s", out)
		}
		for _, args := range [][]string{
			{"restore", "will", "notes"}, {"restore", "will", "notes", "--at", "yesterday"}, {"restore", "nobody", "--at", "1m"},
			{"restore", "will", "a/b", "--at", last.at}, {"restore", "will", "--at", "2001-01-01"}, {"restore", "will", "--at", last.at, "--to", "x"},
		} {
			if out, err := g.operate(args...); err == nil {
				t.Errorf("sqgate %v: %s", args, out)
			}
		}
	})
}

// TestABackupIsOneMoment makes backups while a client writes each number to one
// phext and then to another. In a backup the two differ by at most one.
func TestABackupIsOneMoment(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, p := range []string{"first", "second"} {
					if r, err := g.do("will", "POST", at("update", p, origin), fmt.Sprint(n)); err != nil || r.status != 200 {
						t.Errorf("%v %d", err, r.status)
					}
				}
			}
		})
		eventually(t, "both phexts are there", func() bool { return g.get("will", at("select", "second", origin)) != "" })
		file := filepath.Join(t.TempDir(), "will.tar")
		for range 10 {
			g.mustOperate("backup", "will", file)
		}
		close(stop)
		writer.Wait()
		g.mustOperate("restore", "will", "--from", file, "--yes")
		var first, second int
		if _, err := fmt.Sscan(g.get("will", at("select", "first", origin))+" "+g.get("will", at("select", "second", origin)), &first, &second); err != nil {
			t.Fatal(err)
		}
		if first != second && first != second+1 {
			t.Errorf("the backup has %d and %d", first, second)
		}
		if err := os.WriteFile(file, []byte("no tar"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := g.operate("restore", "will", "--from", file, "--yes"); err == nil || !strings.Contains(out, "not a backup") {
			t.Errorf("a file that is no backup: %v %s", err, out)
		}
	})
}

// TestDryRunOfABackup says false, true, nothing and nonsense.
func TestDryRunOfABackup(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.must("will", "POST", at("update", "n", origin), "before", 200)
	file := filepath.Join(t.TempDir(), "will.tar")
	g.mustOperate("backup", "will", file)
	backup, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{"": "before", "?dry_run=false": "before", "?dry_run=0": "before", "?dry_run": "after", "?dry_run=true": "after",
		"?dry_run=no": "", "?dryrun=true": "", "?dry-run=true": "", "?DryRun=1": "", "?dry_run=true&dry_run=false": "", "?Phext=n&dry_run": "", "?dry_run=true;": ""} {
		g.must("will", "POST", at("update", "n", origin), "after", 200)
		req, err := http.NewRequest("POST", g.url+"/api/v2/admin/tenants/will/restore"+query, bytes.NewReader(backup))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminKey)
		req.Header.Set("Content-Type", "application/x-tar")
		r, err := g.send(req)
		if want == "" {
			if got := g.get("will", at("select", "n", origin)); err != nil || r.status != 400 || got != "after" {
				t.Errorf("%s: %v %d %s, and the scroll is %q", query, err, r.status, r.body, got)
			}
			continue
		}
		if got := g.get("will", at("select", "n", origin)); err != nil || r.status != 200 || got != want {
			t.Errorf("%s: %v %d %s, and the scroll is %q", query, err, r.status, r.body, got)
		}
	}
}

// with sends a request of the tenant will with one more header.
func (g *gate) with(header, value, method, target, body string) reply {
	g.t.Helper()
	return g.withKeyOf("will", header, value, method, target, body)
}

// withKeyOf sends a request of a tenant with one more header.
func (g *gate) withKeyOf(id, header, value, method, target, body string) reply {
	g.t.Helper()
	req, err := http.NewRequest(method, g.url+target, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.key(id))
	req.Header.Set(header, value)
	r, err := g.send(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func TestIfMatchLosesNoIncrement(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		where := at("update", "n", origin)
		if r := g.with("If-Match", "*", "POST", where, "1"); r.status != 412 {
			t.Errorf("nothing there: %d %s", r.status, r.body)
		}
		g.must("will", "POST", where, "0", 200)
		var counters sync.WaitGroup
		for range 8 {
			counters.Go(func() {
				for done := 0; done < 10; {
					r, err := g.do("will", "GET", at("select", "n", origin), "")
					if err != nil {
						t.Error(err)
						return
					}
					var n int
					if _, err := fmt.Sscan(r.body, &n); err != nil {
						t.Error(err)
						return
					}
					switch w := g.with("If-Match", r.header.Get("ETag"), "POST", where, fmt.Sprint(n+1)); w.status {
					case 200:
						done++
					case 412:
					default:
						t.Errorf("%d %s", w.status, w.body)
						return
					}
				}
			})
		}
		counters.Wait()
		if got := g.get("will", at("select", "n", origin)); got != "80" {
			t.Errorf("counted %s", got)
		}
		r := g.must("will", "GET", at("select", "n", origin), "", 200)
		if again := g.with("If-None-Match", r.header.Get("ETag"), "GET", at("select", "n", origin), ""); again.status != 304 || again.body != "" {
			t.Errorf("If-None-Match: %d %q", again.status, again.body)
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		where := at("insert", "n", origin)
		var repeats sync.WaitGroup
		for range 30 {
			repeats.Go(func() {
				if r := g.with("Idempotency-Key", "one", "POST", where, "once"); r.status != 200 || r.body != "Inserted 4 bytes" {
					t.Errorf("%d %s", r.status, r.body)
				}
			})
		}
		repeats.Wait()
		g.kill()
		g.start()
		if r := g.with("Idempotency-Key", "one", "POST", where, "once"); r.status != 200 || r.body != "Inserted 4 bytes" {
			t.Errorf("after a crash: %d %s", r.status, r.body)
		}
		if got := g.get("will", at("select", "n", origin)); got != "once" {
			t.Errorf("inserted %q", got)
		}
		r := g.with("Idempotency-Key", "one", "POST", where, "another")
		var e struct{ Code string }
		if err := json.Unmarshal([]byte(r.body), &e); err != nil || r.status != 409 || e.Code != "conflict" {
			t.Errorf("another request: %d %s", r.status, r.body)
		}
	})
}

// TestThePastOfNothing: a mistyped phext, coordinate or moment is told of.
func TestThePastOfNothing(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.must("will", "POST", at("update", "notes", origin), "text", 200)
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"history", "will", "notes"}, 0, "update"},
		{[]string{"history", "will", "notes", "9.9.9/9.9.9/9.9.9"}, 0, "has no change of this."},
		{[]string{"history", "will", "nope"}, 1, `there is no phext "nope"`},
		{[]string{"restore", "will", "nope", "--at", "1s"}, 1, `there is no phext "nope"`},
		{[]string{"restore", "will", "notes", "--at", "2999-01-01"}, 1, "in the future"},
		{[]string{"restore", "will", "notes", "--at", "1s", "--from", "x.tar"}, 2, "--at and --from are both given"},
		{[]string{"restore", "will", "notes"}, 2, "one of --at and --from is wanted"},
	} {
		out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey, "SQGATE_URL=" + g.url}, c.args...)
		if status != c.status || !strings.Contains(out, c.says) {
			t.Errorf("%v: status %d, %s\nwant %d and %s", c.args, status, out, c.status, c.says)
		}
	}
}
