package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mirrorborn.us/sqgate/phext"
)

// TestMutationsMadeTogether has so many clients write to one phext that sqgate
// makes batches of their mutations. Each mutation must get its own answer, its own
// scroll and its own line in the history.
func TestMutationsMadeTogether(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "first", 200)
		const clients, times = 24, 20
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				for n := range times {
					text := strings.Repeat("x", i+1) + fmt.Sprint(n)
					op, where := "update", fmt.Sprintf("1.1.1/1.1.1/2.1.%d", i+1)
					if i%4 == 3 {
						op, where = "insert", "1.1.1/1.1.1/3.1.1" // all these share one scroll
					}
					r, err := g.do("will", "POST", at(op, "n", where), text)
					want := fmt.Sprintf("%s %d bytes", map[string]string{"update": "Updated", "insert": "Inserted"}[op], len(text))
					if err != nil || r.status != 200 || r.body != want || r.header.Get("X-SQ-Quota-Used") == "" {
						t.Errorf("%s of %q: %d %q, %v, want %q", op, text, r.status, r.body, err, want)
					}
				}
			})
		}
		all.Wait()
		inserted := g.get("will", at("select", "n", "1.1.1/1.1.1/3.1.1"))
		for i := range clients {
			if i%4 == 3 {
				for n := range times {
					text := strings.Repeat("x", i+1) + fmt.Sprint(n)
					if !strings.Contains(inserted, text) {
						t.Errorf("the insert of %q is lost", text)
					}
				}
				continue
			}
			if got, want := g.get("will", at("select", "n", fmt.Sprintf("1.1.1/1.1.1/2.1.%d", i+1))), strings.Repeat("x", i+1)+fmt.Sprint(times-1); got != want {
				t.Errorf("scroll %d is %q, want %q", i, got, want)
			}
		}
		if n := strings.Count(g.mustOperate("history", "will", "n"), "\n"); n < clients*times+1 {
			t.Errorf("the history has %d lines of %d mutations", n, clients*times+1)
		}
	})
}

// TestAQuotaThatHasRoomForSome sends many mutations at once, of which only three
// fit the quota. The others are refused one by one.
func TestAQuotaThatHasRoomForSome(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGateWith(t, sq, "quota_mb", 1)
		g.must("will", "POST", at("update", "n", origin), strings.Repeat("b", 1<<20-200<<10), 200)
		text := strings.Repeat("x", 60<<10) // three of them fit
		var stored, refused atomic.Int32
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				r, err := g.do("will", "POST", at("update", "n", fmt.Sprintf("1.1.1/1.1.1/1.2.%d", i+1)), text)
				switch {
				case err == nil && r.status == 200:
					stored.Add(1)
				case err == nil && r.status == 507:
					refused.Add(1)
				default:
					t.Errorf("%d %q, %v", r.status, r.body, err)
				}
			})
		}
		all.Wait()
		if stored.Load() != 3 || refused.Load() != 13 {
			t.Errorf("%d were stored and %d refused", stored.Load(), refused.Load())
		}
		file, err := os.ReadFile(filepath.Join(g.dataDir("will"), "n.phext"))
		if err != nil || phext.Parse(string(file)).Len() != 4 || len(file) > 1<<20 {
			t.Errorf("the file has %d bytes, %v", len(file), err)
		}
	})
}
