package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAFullDiskAtTheStart has a phext that is damaged while sqgate is stopped, and a disk
// without room to repair it. That phext is refused with the reason, the others are read,
// and all is well by itself when there is room. It needs the right to mount.
func TestAFullDiskAtTheStart(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g, small := startOnSmallDisk(t, sq)
		text := strings.Repeat("ü", 500_000)
		g.must("will", "POST", at("update", "large", origin), text, 200)
		g.must("will", "POST", at("update", "small", origin), "small", 200)
		g.kill()
		path := filepath.Join(small, "will", "large.phext")
		if err := os.Truncate(path, 500_001); err != nil { // in the middle of a letter
			t.Fatal(err)
		}
		filler := filepath.Join(small, "filler")
		if err := os.WriteFile(filler, make([]byte, 6<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}

		g.start()
		for _, r := range []reply{
			g.must("will", "GET", at("select", "large", origin), "", 503), g.must("will", "GET", "/api/v2/get?p=large", "", 503),
			g.must("will", "POST", at("update", "small", origin), "larger", 503),
		} {
			if !strings.Contains(r.body, "disk of this service is full") || !strings.Contains(r.body, "later") || r.header.Get("Retry-After") == "" {
				t.Errorf("%s %v", r.body, r.header)
			}
		}
		if got := g.get("will", at("select", "small", origin)); got != "small" {
			t.Errorf("a phext that is whole: %q", got)
		}
		shown, _ := g.manage("GET", "tenants/will", "", 200)["error"].(string) // "" if there is none
		for said, where := range map[string]string{shown: "the tenant's status", g.log.String(): "the log"} {
			if !strings.Contains(said, "file system of "+filepath.Join(small, "will")+" is full, and 1000000 bytes are needed to repair large.phext") {
				t.Errorf("%s: %s", where, said)
			}
		}
		if quarantined, err := filepath.Glob(filepath.Join(g.dir, "state/quarantine/*")); err != nil || len(quarantined) != 0 {
			t.Errorf("each attempt leaves a copy: %q, %v", quarantined, err)
		}

		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if sq == builtin { // without a request
			eventually(t, "the phext is repaired by itself", func() bool {
				now, err := os.ReadFile(path)
				return err == nil && string(now) == text
			})
		}
		if got := g.get("will", at("select", "large", origin)); got != text {
			t.Errorf("after there was room: %d bytes", len(got))
		}
		g.must("will", "POST", at("update", "small", origin), "larger", 200)
		if shown := g.manage("GET", "tenants/will", "", 200); shown["error"] != nil {
			t.Errorf("the tenant's status, after there was room: %v", shown)
		}
	})
}
