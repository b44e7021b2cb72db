package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// loadTime is how long TestTenTenants runs: SQTEST_LOAD, or two seconds.
func loadTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SQTEST_LOAD")
	if text == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SQTEST_LOAD: %v", err)
	}
	return d
}

// TestTenTenants has ten tenants send 100 requests a second each. Every value that
// is read must contain its tenant's name.
func TestTenTenants(t *testing.T) {
	const rate = 100
	run := loadTime(t)
	forEachSQ(t, func(t *testing.T, sq string) {
		ids := make([]string, 10)
		for i := range ids {
			ids[i] = fmt.Sprintf("tenant-%03d", i)
		}
		g := startGate(t, sq, ids...)
		var workers sync.WaitGroup
		for _, id := range ids {
			for lane := range 4 {
				workers.Go(func() { steadily(t, g, id, lane, rate/4, run) })
			}
		}
		workers.Wait()
	})
}

// steadily sends rate requests a second on one of a tenant's lanes, writes and
// reads in turn.
func steadily(t *testing.T, g *gate, id string, lane, rate int, run time.Duration) {
	ticks := time.NewTicker(time.Second / time.Duration(rate))
	defer ticks.Stop()
	c := fmt.Sprintf("1.1.1/1.1.1/1.1.%d", lane+1)
	for n := range int(run.Seconds()) * rate {
		<-ticks.C
		value := fmt.Sprintf("%s lane %d write %d", id, lane, n/2)
		method, target, body, want := "POST", at("update", "n", c), value, fmt.Sprintf("Updated %d bytes", len(value))
		if n%2 == 1 {
			method, target, body, want = "GET", at("select", "n", c), "", value
		}
		r, err := g.do(id, method, target, body)
		if err != nil || r.status != 200 || r.body != want {
			t.Errorf("%s: %v %d %q, want %q", id, err, r.status, r.body, want)
			return
		}
	}
}

// TestMemoryPerTenant adds tenants to the tenants file, from 10 to 500, and limits
// how much the resident memory of sqgate may grow for each.
func TestMemoryPerTenant(t *testing.T) {
	t.Parallel()
	const few, many, most = 10, 500, 100 << 10
	ids := make([]string, few)
	for i := range ids {
		ids[i] = fmt.Sprintf("tenant-%03d", i)
	}
	g := startGate(t, builtin, ids...)
	g.get("tenant-000", "/api/v2/toc")
	before := g.memory(t, "VmRSS:")
	for i := few; i < many; i++ {
		g.addTenant(fmt.Sprintf("tenant-%03d", i))
	}
	g.writeFile()
	eventually(t, "the last tenant is known", func() bool {
		r, err := g.do(fmt.Sprintf("tenant-%03d", many-1), "GET", "/api/v2/toc", "")
		return err == nil && r.status == 200
	})
	each := (g.memory(t, "VmRSS:") - before) / (many - few)
	t.Logf("%d bytes a tenant, from %d to %d tenants", each, few, many)
	if each > most {
		t.Errorf("%d bytes a tenant, %d is the most", each, most)
	}
}

// memory is the resident memory of sqgate in bytes: VmRSS: now, VmHWM: at its peak.
func (g *gate) memory(t *testing.T, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), field)
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
