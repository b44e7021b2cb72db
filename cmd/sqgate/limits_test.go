package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestQuotaToTheByte(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.add("acme", 1)
		const quota = 1 << 20
		var acknowledged atomic.Int64
		var clients sync.WaitGroup
		written := make([]map[string]string, 32)
		for c := range 32 {
			written[c] = map[string]string{}
			clients.Go(func() {
				for n := range 8 {
					coordinate, text := fmt.Sprintf("1.1.1/1.1.1/1.%d.%d", c+1, n+1), strings.Repeat(string(rune('a'+c%26)), 5000)
					r, err := g.do("acme", "POST", at("update", fmt.Sprint("p", c%4), coordinate), text)
					switch {
					case err == nil && r.status == 200:
						acknowledged.Add(1)
						written[c][coordinate] = text
					case err == nil && r.status == 507 && strings.Contains(r.body, "quota_exceeded"):
					default:
						t.Errorf("%v %d %q", err, r.status, r.body)
					}
				}
			})
		}
		clients.Wait()
		used := sizeOfPhexts(t, g.dataDir("acme"))
		if used > quota || used < quota-6000 || acknowledged.Load() == 32*8 {
			t.Errorf("%d bytes used of %d, %d writes acknowledged", used, quota, acknowledged.Load())
		}
		for c := range 32 {
			for n := range 8 {
				coordinate := fmt.Sprintf("1.1.1/1.1.1/1.%d.%d", c+1, n+1)
				if got := g.get("acme", at("select", fmt.Sprint("p", c%4), coordinate)); got != written[c][coordinate] {
					t.Errorf("%s of p%d holds %d bytes, %d were acknowledged", coordinate, c%4, len(got), len(written[c][coordinate]))
				}
			}
		}
		g.atTheQuota(t)
	})
}

// atTheQuota fills the quota to the last byte, and then shrinks scrolls, deletes
// one and raises the quota.
func (g *gate) atTheQuota(t *testing.T) {
	t.Helper()
	room := int(1<<20 - sizeOfPhexts(t, g.dataDir("acme")))
	fill := g.must("acme", "POST", at("update", "q", origin), strings.Repeat("x", room), 200)
	if fill.header.Get("X-SQ-Quota-Used") != "1.000" {
		t.Errorf("X-SQ-Quota-Used at the quota is %q", fill.header.Get("X-SQ-Quota-Used"))
	}
	refused := g.must("acme", "POST", at("insert", "q", origin), "y", 507)
	for _, number := range []string{"1048576", "1048577"} { // what is used, which is the quota, and what is needed
		if !strings.Contains(refused.body, number) {
			t.Errorf("the refusal %q does not name %s", refused.body, number)
		}
	}
	g.must("acme", "POST", at("update", "q", origin), strings.Repeat("z", room-1), 200)
	g.must("acme", "POST", at("insert", "q", origin), "z", 200)
	g.must("acme", "GET", at("delete", "p1", "1.1.1/1.1.1/1.2.1"), "", 200)
	g.must("acme", "POST", at("update", "q", origin), strings.Repeat("x", room+10000), 507)
	g.manage("PATCH", "tenants/acme", `{"quota_mb": 2}`, 200)
	g.must("acme", "POST", at("update", "q", origin), strings.Repeat("x", room+10000), 200)
	if n := strings.Count(g.log.String(), "nearly used up"); n != 1 {
		t.Errorf("warned %d times", n)
	}
}

// sizeOfPhexts is the size of all phext files of a directory, in bytes.
func sizeOfPhexts(t *testing.T, dir string) int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.phext"))
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

func TestCallsAndLimits(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will", "daily", "quick")
	for range 5 {
		g.must("will", "GET", "/api/v2/toc", "", 200)
	}
	calls := func() float64 { return g.manage("GET", "tenants/will/stats", "", 200)["api_calls_today"].(float64) }
	if calls() != 5 {
		t.Errorf("%v calls, 5 were made", calls())
	}
	g.stop()
	g.start()
	if calls() != 5 {
		t.Errorf("%v calls after a restart, 5 were made", calls())
	}
	g.manage("PATCH", "tenants/daily", `{"calls_per_day": 3}`, 200)
	g.manage("PATCH", "tenants/quick", `{"requests_per_minute": 3}`, 200)
	for _, id := range []string{"daily", "quick"} {
		for range 3 {
			g.must(id, "GET", "/api/v2/toc", "", 200)
		}
		r := g.must(id, "GET", "/api/v2/toc", "", 429)
		wait, err := strconv.Atoi(r.header.Get("Retry-After"))
		if err != nil || wait < 1 || id == "quick" && wait > 20 || wait > 86400 || !strings.Contains(r.body, "rate_limited") {
			t.Errorf("%s: Retry-After %q, %s", id, r.header.Get("Retry-After"), r.body)
		}
	}
	g.manage("PATCH", "tenants/quick", `{"requests_per_minute": 0, "reads_per_minute": 2, "writes_per_minute": 1, "lists_per_minute": 3}`, 200)
	for _, class := range []struct {
		limit                int
		method, target, says string
	}{{2, "GET", "read/1.1.1?p=n", "2 reads"}, {1, "PUT", "write/1.1.1?p=n", "1 writes"}, {3, "GET", "list?p=n", "3 lists"}} {
		for i := range class.limit + 1 {
			r, err := g.do("quick", class.method, "/api/v2/"+class.target, "text")
			wait, bad := strconv.Atoi(r.header.Get("Retry-After"))
			if err != nil || (r.status == 429) != (i == class.limit) || r.status == 429 && (bad != nil || wait != (60+class.limit-1)/class.limit || !strings.Contains(r.body, class.says)) {
				t.Errorf("%s %d: %v %d %q %s", class.target, i, err, r.status, r.header.Get("Retry-After"), r.body)
			}
		}
	}
	g.must("will", "GET", "/api/v2/toc", "", 200) // other tenants are not limited
}

func TestMaxPhexts(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGateWith(t, sq, "max_phexts", 2)
		for _, p := range []string{"a", "b"} {
			g.must("will", "POST", at("update", p, origin), "x", 200)
		}
		if r := g.must("will", "POST", at("update", "c", origin), "x", 507); !strings.Contains(r.body, "2 phexts") {
			t.Errorf("refused with %s", r.body)
		}
		g.must("will", "POST", at("update", "a", origin), "xx", 200)
		if _, err := os.Stat(filepath.Join(g.dataDir("will"), "c.phext")); err == nil {
			t.Error("a refused phext left a file")
		}

		// The names of its coordinates make a phext no other.
		for _, p := range []string{"a", "b"} {
			g.must("will", "POST", byName("update", p, "my.name"), "x", 200)
		}
		var u usageAnswer
		if g.as(g.key("will"), "GET", "/api/v2/usage", "", 200, &u); *u.Phexts != 2 || *u.Left.MaxPhexts != 0 {
			t.Errorf("%d phexts are used, and %d are left", *u.Phexts, *u.Left.MaxPhexts)
		}
		if n := g.manage("GET", "tenants/will", "", 200)["phexts"]; n != 2.0 {
			t.Errorf("the operator sees %v phexts", n)
		}
		g.must("will", "POST", at("update", "c", origin), "x", 507)
		g.manage("PATCH", "tenants/will", `{"max_phexts": 3}`, 200)
		g.must("will", "POST", byName("update", "c", "my.name"), "x", 200)
		g.must("will", "POST", byName("update", "d", "my.name"), "x", 507)
	})
}

// startOnSmallDisk starts a gateway with the data of the tenant will on a file system of
// 6 MB, and returns where that is mounted. It needs the right to mount.
func startOnSmallDisk(t *testing.T, sq string) (g *gate, small string) {
	t.Helper()
	g = newGate(t, sq, "will")
	small = filepath.Join(g.dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("no small file system to be had: %v", err)
	}
	t.Cleanup(func() { g.stop(); _ = unix.Unmount(small, unix.MNT_DETACH) }) // it is removed with the test's directory
	g.set("will", "data_dir", filepath.Join(small, "will"))
	g.writeFile()
	g.start()
	return g, small
}

// TestAFullDisk fills a small file system with writes. Everything that was
// acknowledged must be readable. It needs the right to mount.
func TestAFullDisk(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g, small := startOnSmallDisk(t, sq)
		acknowledged := map[string]string{}
		full := 0
		for n := range 200 {
			coordinate, text := fmt.Sprintf("1.1.1/1.1.1/1.%d.%d", n/20+1, n%20+1), strings.Repeat(string(rune('a'+n%26)), 60000)
			r, err := g.do("will", "POST", at("update", fmt.Sprint("p", n%3), coordinate), text)
			switch {
			case err == nil && r.status == 200:
				acknowledged[fmt.Sprint("p", n%3)+" "+coordinate] = text
			case err == nil && r.status == 507 && strings.Contains(r.body, "disk_full"):
				full++
			default:
				t.Fatalf("%v %d %s", err, r.status, r.body)
			}
		}
		if full == 0 || len(acknowledged) < 20 {
			t.Errorf("%d writes acknowledged, %d refused", len(acknowledged), full)
		}
		for place, text := range acknowledged {
			phext, coordinate, _ := strings.Cut(place, " ")
			if got := g.get("will", at("select", phext, coordinate)); got != text {
				t.Errorf("%s holds %d bytes, %d were acknowledged", place, len(got), len(text))
			}
		}
		g.must("will", "POST", at("update", "p0", "1.1.1/1.1.1/1.1.1"), "short", 200) // shrinking still works
		g.must("will", "GET", at("delete", "p0", "1.1.1/1.1.1/1.1.1"), "", 200)

		if err := unix.Mount("", small, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"p1", "new"} { // SQ itself would answer 200
			g.must("will", "POST", at("update", p, "1.1.1/1.1.1/1.9.9"), "x", 502)
		}
		if got := g.get("will", at("select", "p1", "1.1.1/1.1.1/1.1.2")); got != acknowledged["p1 1.1.1/1.1.1/1.1.2"] {
			t.Errorf("read-only, p1 reads %d bytes", len(got))
		}
	})
}
