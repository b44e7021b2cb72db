package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/s3test"
)

// networks counts those that newHosts has made.
var networks atomic.Int32

// newHosts prepares gates that share a bucket. They have the same port at addresses of their
// own, as machines do, and nobody else has those: other tests may get a port while a host is
// down. The first one has the tenants; the others make their tenants files from the bucket.
func newHosts(t *testing.T, sq, bucket string, n int, ids ...string) []*gate {
	t.Helper()
	network := fmt.Sprintf("127.1.%d", networks.Add(1))
	l, err := net.Listen("tcp", network+".1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var all []*gate
	for i := range n {
		g := newGate(t, sq, ids...)
		g.args = []string{"--bucket", bucket, "--host-name", fmt.Sprintf("h%d", i), "--host-listen", fmt.Sprintf("%s.%d:%d", network, i+1, port)}
		if i > 0 {
			if err := os.Remove(g.configPath()); err != nil {
				t.Fatal(err)
			}
			g.file, g.bucketFilled = maps.Clone(all[0].file), true
		}
		all = append(all, g)
	}
	return all
}

// startHosts starts them, and waits until each sees all.
func startHosts(t *testing.T, sq, bucket string, n int, ids ...string) []*gate {
	t.Helper()
	all := newHosts(t, sq, bucket, n, ids...)
	for _, g := range all {
		g.start()
	}
	for _, g := range all {
		g.sees(n)
	}
	return all
}

// sees waits until so many hosts live, as this one sees them.
func (g *gate) sees(n int) {
	g.t.Helper()
	eventually(g.t, "the hosts see each other", func() bool {
		return strings.Count(g.managed("GET", "hosts", "", 200).body, `"alive":true`) == n
	})
}

// owned is how many directories a host has.
func (g *gate) owned() int {
	return strings.Count(g.managed("GET", "bucket", "", 200).body, `"data_dir":`)
}

func tenTenants() (ids []string) {
	for i := range 10 {
		ids = append(ids, fmt.Sprintf("t%d", i))
	}
	return ids
}

// TestAnyHostServesAnyTenant has requests and management calls at every host.
func TestAnyHostServesAnyTenant(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) { testAnyHost(t, sq, "file://"+t.TempDir()) })
}

// TestAnyHostServesAnyTenantWithS3 has the same with a real S3 server.
func TestAnyHostServesAnyTenantWithS3(t *testing.T) {
	t.Parallel()
	testAnyHost(t, cmp.Or(realSQ(), builtin), s3test.Start(t).URL)
}

func testAnyHost(t *testing.T, sq, bucket string) {
	ids := tenTenants()
	all := startHosts(t, sq, bucket, 3, ids...)
	for i, id := range ids {
		text := "of " + id
		all[i%3].must(id, "POST", at("update", "n", origin), text, 200)
		for _, g := range all {
			if got := g.get(id, at("select", "n", origin)); got != text {
				t.Errorf("%s of %s at %s", got, id, g.args[3])
			}
			// Another tenant's key gets nothing there, at whichever host.
			other := ids[(i+1)%len(ids)]
			if r := g.must(id, "GET", "/"+other+at("select", "n", origin), "", 403); strings.Contains(r.body, "of "+other) {
				t.Error(r.body)
			}
		}
	}
	sizes := 0
	for _, g := range all {
		sizes += strings.Count(g.metrics(t), "\nsq_storage_bytes{")
	}
	if sizes != len(ids) {
		t.Errorf("%d hosts' figures have the size of a tenant, of %d", sizes, len(ids))
	}
	for _, g := range all {
		if n := g.owned(); n == 0 || n == len(ids) {
			t.Errorf("%s has %d of the directories", g.args[3], n)
		}
		for _, id := range ids {
			if stats := g.manage("GET", "tenants/"+id+"/stats", "", 200); stats["phexts"] != 1.0 || stats["api_calls_today"].(float64) < 4 {
				t.Errorf("%v", stats)
			}
			if r := g.managed("GET", "tenants/"+id+"/history", "", 200); !strings.Contains(r.body, `"op":"update"`) {
				t.Error(r.body)
			}
			if r := g.managed("GET", "tenants/"+id+"/backup", "", 200); !strings.Contains(r.body, "of "+id) {
				t.Errorf("a backup of %d bytes", len(r.body))
			}
		}
	}
	// A tenant that one host adds is everybody's.
	all[1].add("new", 10)
	for i, g := range all {
		g.mu.Lock()
		g.file["new"] = all[1].file["new"]
		g.mu.Unlock()
		text := fmt.Sprint("at ", i)
		eventually(t, "the new tenant is known", func() bool {
			r, err := g.do("new", "POST", at("update", "n", origin), text)
			return err == nil && r.status == 200
		})
	}
	// Moved to each host, it is the same.
	for i, to := range all {
		all[(i+1)%3].managed("POST", "tenants/t0/move", fmt.Sprintf(`{"host":"h%d"}`, i), 200)
		for _, g := range all {
			if got := g.get("t0", at("select", "n", origin)); got != "of t0" {
				t.Errorf("%s after the move to %s", got, to.args[3])
			}
		}
		if r := to.managed("GET", "bucket", "", 200); !strings.Contains(r.body, `"name":"t0"`) {
			t.Errorf("h%d does not have it: %s", i, r.body)
		}
	}
	all[2].managed("DELETE", "tenants/t1", "", 200)
	eventually(t, "all hosts know that it is deleted", func() bool {
		for _, g := range all {
			if r, err := g.do("t1", "GET", at("select", "n", origin), ""); err != nil || r.status != 403 {
				return false
			}
		}
		return true
	})
}

// TestLimitsRightAfterAMove has a tenant with all that it may have move to hosts without its
// files. At one, the operator sees what it has before it makes a request. At the other, its
// first request is held to the limit.
func TestLimitsRightAfterAMove(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		all := startHosts(t, sq, "file://"+t.TempDir(), 3, "will")
		move := func(to string) {
			t.Helper()
			all[0].managed("POST", "tenants/will/move", fmt.Sprintf(`{"host":%q}`, to), 200)
		}
		move("h0")
		const phexts, size = 20, 1000
		for i := range phexts {
			all[0].must("will", "POST", at("update", fmt.Sprint("n", i), origin), strings.Repeat("x", size), 200)
		}
		all[0].managed("PATCH", "tenants/will", fmt.Sprintf(`{"max_phexts":%d}`, phexts), 200)
		for _, g := range all {
			eventually(t, "the limit is known", func() bool {
				return strings.Contains(g.managed("GET", "tenants", "", 200).body, fmt.Sprintf(`"max_phexts":%d,`, phexts))
			})
		}
		move("h1")
		for _, g := range all {
			if stats := g.manage("GET", "tenants/will/stats", "", 200); stats["phexts"] != float64(phexts) || stats["storage_used_bytes"] != float64(phexts*size) {
				t.Errorf("at %s: %v", g.args[3], stats)
			}
		}
		move("h2")
		all[2].must("will", "POST", at("update", "new", origin), "x", 507)
	})
}

// TestAHostIsKilled has the others serve its tenants by themselves.
func TestAHostIsKilled(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		ids := tenTenants()
		all := startHosts(t, sq, "file://"+t.TempDir(), 2, ids...)
		for _, id := range ids {
			all[0].must(id, "POST", at("update", "n", origin), "of "+id, 200)
		}
		if all[1].owned() == 0 {
			t.Fatal("the second host has none of ten tenants")
		}
		all[1].kill()
		killed := time.Now()
		var slowest atomic.Int64
		var waiting sync.WaitGroup
		for _, id := range ids {
			waiting.Go(func() {
				eventually(t, id+" is served again", func() bool {
					r, err := all[0].do(id, "POST", at("update", "n", "1.1.1/1.1.1/1.1.2"), "after")
					return err == nil && r.status == 200
				})
				slowest.Store(max(slowest.Load(), int64(time.Since(killed))))
			})
		}
		waiting.Wait()
		t.Logf("all were served after %v", time.Duration(slowest.Load()).Round(100*time.Millisecond))
		if took := time.Duration(slowest.Load()); took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, id := range ids {
			if got := all[0].get(id, at("select", "n", origin)); got != "of "+id {
				t.Errorf("%s of %s", got, id)
			}
		}
		all[1].start() // and it is one of them again
		all[1].sees(2)
		for _, id := range ids {
			if got := all[1].get(id, at("select", "n", "1.1.1/1.1.1/1.1.2")); got != "after" {
				t.Errorf("%s of %s", got, id)
			}
		}
	})
}

// TestRollingRestart restarts three hosts, one after the other, under load. Not one request
// fails.
func TestRollingRestart(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		ids := tenTenants()
		all := startHosts(t, sq, "file://"+t.TempDir(), 3, ids...)
		var mu sync.RWMutex // held while a request is under way at a host that may be taken out
		serves := []bool{true, true, true}
		stop := make(chan struct{})
		var clients sync.WaitGroup
		var answered atomic.Int64
		for i, id := range ids {
			clients.Go(func() {
				next := time.NewTicker(50 * time.Millisecond) // what they find is not more with more of them
				defer next.Stop()
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-next.C:
					}
					mu.RLock()
					at3 := (i + n) % 3
					if !serves[at3] { // as a load balancer does
						at3 = (at3 + 1) % 3
					}
					text := fmt.Sprint(n)
					r, err := all[at3].do(id, "POST", at("update", "n", origin), text)
					if err == nil && r.status == 200 {
						r, err = all[at3].do(id, "GET", at("select", "n", origin), "")
					}
					mu.RUnlock()
					if err != nil || r.status != 200 || r.body != text {
						t.Errorf("request %d of %s at h%d: %v %d %s", n, id, at3, err, r.status, r.body)
						return
					}
					answered.Add(1)
				}
			})
		}
		eventually(t, "all tenants are served", func() bool { return all[0].owned()+all[1].owned()+all[2].owned() == len(ids) })
		for i, g := range all {
			all[(i+1)%3].managed("POST", fmt.Sprintf("hosts/h%d/drain", i), "", 200)
			g.must("", "GET", "/health", "", 503)
			mu.Lock()
			serves[i] = false
			mu.Unlock()
			if n := g.owned(); n != 0 {
				t.Errorf("h%d was drained, and has %d directories", i, n)
			}
			g.stop()
			g.start()
			g.sees(3)
			mu.Lock()
			serves[i] = true
			mu.Unlock()
		}
		close(stop)
		clients.Wait()
		t.Logf("%d writes, each read again", answered.Load())
		if answered.Load() < 100 {
			t.Error("these are few")
		}
	})
}

// TestTheStatusShowsHosts looks at what the status page is made of, as it changes.
func TestTheStatusShowsHosts(t *testing.T) {
	t.Parallel()
	all := startHosts(t, builtin, "file://"+t.TempDir(), 2, "will")
	if r := all[0].managed("GET", "events?once=true", "", 200); !strings.Contains(r.body, `"hosts":{"host":"h0","hosts":[{"name":"h0"`) || !strings.Contains(r.body, `{"name":"h1"`) {
		t.Error(r.body)
	}
	page := all[1].must("", "GET", "/status", "", 200) // which says nothing by itself
	if strings.Contains(page.body, "h0,") {
		t.Error("the page tells hosts to everybody")
	}
	all[0].stop()
	eventually(t, "it is seen that a host was stopped", func() bool {
		return strings.Contains(all[1].managed("GET", "hosts", "", 200).body, `"alive":false,"stopped":true`)
	})
}

// TestStatusPageShowsHosts looks at the page in Chromium, also after a host has died.
func TestStatusPageShowsHosts(t *testing.T) {
	path := os.Getenv("CHROMIUM")
	if path == "" {
		t.Skip("NO BROWSER: CHROMIUM is not set; .ci/browser installs one and sets it")
	}
	t.Parallel()
	all := startHosts(t, builtin, "file://"+t.TempDir(), 2, "will")
	c := startChromium(t, path)
	c.send("Page.navigate", map[string]any{"url": all[0].url + "/status"}, nil)
	c.login(all[0], adminKey)
	shown := func(text string) {
		t.Helper()
		c.await(`document.getElementById("hosts").checkVisibility() && document.body.innerText.includes(` + js(text) + `)`)
	}
	shown("h0, which shows this page")
	all[0].managed("POST", "hosts/h1/drain", "", 200)
	shown("draining")
	all[1].kill()
	shown("Host h1 does not live.")
}

// standsStill says whether no thread of a process runs: it goes on for a moment after SIGSTOP.
func standsStill(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_, state, _ := strings.Cut(string(text), ") ")
		if !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return len(threads) > 0
}

// TestAHostIsStopped stops the process of a host for longer than its lease, with requests of
// its tenants under way. Reads are answered by whoever takes over. When the host goes on, it
// answers nothing of its own that is old.
func TestAHostIsStopped(t *testing.T) {
	t.Parallel()
	ids := tenTenants()
	all := startHosts(t, builtin, "file://"+t.TempDir(), 2, ids...)
	for _, id := range ids {
		all[0].must(id, "POST", at("update", "n", origin), "before", 200)
	}
	if all[1].owned() == 0 {
		t.Fatal("the second host has none of ten tenants")
	}
	if err := all[1].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all threads stand still", func() bool { return standsStill(t, all[1].cmd.Process.Pid) })
	stopped := time.Now()
	var waiting sync.WaitGroup
	for _, id := range ids {
		waiting.Go(func() {
			eventually(t, id+" is read again", func() bool {
				r, err := all[0].do(id, "GET", at("select", "n", origin), "")
				return err == nil && r.status == 200 && r.body == "before"
			})
			if r, err := all[0].do(id, "POST", at("update", "n", origin), "after"); err != nil || r.status != 200 {
				t.Errorf("%v %d %s", err, r.status, r.body)
			}
		})
	}
	waiting.Wait()
	if took := time.Since(stopped); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := all[1].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		eventually(t, "the host answers again", func() bool {
			r, err := all[1].do(id, "GET", at("select", "n", origin), "")
			if err == nil && r.status == 200 && r.body != "after" {
				t.Errorf("%s is old", r.body)
			}
			return err == nil && r.status == 200
		})
	}
}
