package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
)

// move gives tenants other directories, as an operator does who follows the documentation:
// the tenants are disabled, their files are moved, and the tenants file is edited.
func (g *gate) move(files func(), dirs map[string]string) {
	g.t.Helper()
	for id := range dirs {
		g.set(id, "enabled", false)
	}
	g.writeFile()
	g.manage("POST", "reload", "", 200)
	for id := range dirs {
		eventually(g.t, "the child ends", func() bool { return len(childrenOf(g.dataDir(id))) == 0 })
	}
	files()
	for id, dir := range dirs {
		g.set(id, "data_dir", dir)
		g.set(id, "enabled", true)
	}
	g.writeFile()
	g.manage("POST", "reload", "", 200)
}

func (g *gate) rename(from, to string) {
	g.t.Helper()
	if err := os.Rename(from, to); err != nil {
		g.t.Fatal(err)
	}
}

// reboot starts sqgate as after a reboot: the segments are of an earlier run of the kernel,
// and, after a power cut, nobody has stopped sqgate.
func (g *gate) reboot(cut bool) {
	g.t.Helper()
	g.stop()
	now, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		g.t.Fatal(err)
	}
	now = bytes.TrimSpace(now)
	before := bytes.Repeat([]byte("0"), len(now))
	all, err := filepath.Glob(filepath.Join(g.dir, "state", "journal", "*", "*"))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, path := range all {
		switch {
		case filepath.Base(path) == "stopped" && cut:
			err = os.Remove(path)
		case strings.HasSuffix(path, ".seg"):
			var text []byte
			if text, err = os.ReadFile(path); err == nil {
				payload := text[12 : 12+binary.LittleEndian.Uint32(text)]
				copy(payload, bytes.Replace(payload, now, before, 1))
				binary.LittleEndian.PutUint64(text[4:], xxh3.Hash(payload))
				err = os.WriteFile(path, text, 0o600)
			}
		}
		if err != nil {
			g.t.Fatal(err)
		}
	}
	g.start()
}

// TestAMovedTenantWithoutItsDisk is 503 before anybody has asked for the tenant where it is now, whether
// the disk went away after the move or was away all the time.
func TestAMovedTenantWithoutItsDisk(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		for _, away := range []bool{false, true} {
			t.Run(fmt.Sprintf("away from the beginning %v", away), func(t *testing.T) {
				t.Parallel()
				g := startGate(t, sq, "will", "mary")
				wills, disk := g.dataDir("will"), filepath.Join(g.dir, "data", "disk")
				other := filepath.Join(disk, "other")
				g.must("will", "POST", at("update", "n", origin), "will's", 200)
				g.must("mary", "POST", at("update", "n", origin), "mary's", 200)
				takeAway := func() {
					g.rename(disk, disk+".away")
					if err := os.Mkdir(disk, 0o700); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Mkdir(disk, 0o700); err != nil {
					t.Fatal(err)
				}
				g.move(func() {
					g.rename(wills, other)
					if away {
						takeAway()
					}
				}, map[string]string{"will": other})
				if !away {
					g.stop()
					takeAway()
					g.start()
				}
				g.must("will", "GET", at("select", "n", origin), "", 503)
				g.must("will", "POST", at("update", "m", origin), "a second set", 503)
				g.must("mary", "GET", at("select", "n", origin), "", 200)
				if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
					t.Errorf("below the mount point: %v, %v", left, err)
				}
				if err := os.Remove(disk); err != nil {
					t.Fatal(err)
				}
				g.rename(disk+".away", disk)
				if got := g.get("will", at("select", "n", origin)); got != "will's" {
					t.Errorf("with the disk back: %q", got)
				}
			})
		}
	})
}

// TestTenantsThatMove has one tenant get the path of another, and the other come back to it.
func TestTenantsThatMove(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		for _, cut := range []bool{false, true} {
			t.Run(fmt.Sprintf("cut %v", cut), func(t *testing.T) {
				t.Parallel()
				g := startGate(t, sq, "will", "mary")
				wills, marys, other := g.dataDir("will"), g.dataDir("mary"), filepath.Join(g.dir, "data", "other")
				g.must("will", "POST", at("update", "n", origin), "will's old", 200)
				g.must("will", "POST", at("update", "secret", origin), "will's secret", 200)
				early := time.Now().UTC().Format(time.RFC3339Nano)
				g.must("will", "POST", at("update", "n", origin), "will's", 200)
				g.must("will", "POST", at("update", "gone", origin), "removed by hand", 200)
				g.must("mary", "POST", at("update", "n", origin), "mary's", 200)

				g.move(func() { g.rename(wills, other); g.rename(marys, wills) }, map[string]string{"will": other, "mary": wills})
				seen := func(when string) {
					t.Helper()
					if got := g.get("mary", "/api/v2/get?p=n"); got != "mary's" {
						t.Errorf("%s, mary has %q", when, got)
					}
					if got := g.history("mary"); len(got) > 0 {
						t.Errorf("%s, mary's history has %v", when, got)
					}
					if got := g.changes("mary", ""); len(got) > 0 {
						t.Errorf("%s, mary's changes are %v", when, got)
					}
					g.must("mary", "POST", "/api/v2/restore", fmt.Sprintf(`{"phext":"secret","at":%q,"to":"copy"}`, early), 404)
					if r := g.must("mary", "POST", "/api/v2/restore", fmt.Sprintf(`{"phext":"n","at":%q}`, early), 200); !strings.Contains(r.body, `"changed":false`) {
						t.Errorf("%s, mary restores %s", when, r.body)
					}
					if files, err := filepath.Glob(filepath.Join(wills, "*")); err != nil || len(files) != 1 {
						t.Errorf("%s, mary's directory has %q, %v", when, files, err)
					}
				}
				seen("after the move")
				g.reboot(cut)
				seen("after a reboot")

				g.must("mary", "POST", at("update", "n", origin), "mary's new", 200)
				g.must("will", "POST", at("update", "n", origin), "will's new", 200)
				if err := os.Remove(filepath.Join(other, "gone.phext")); err != nil {
					t.Fatal(err)
				}
				g.move(func() { g.rename(wills, marys); g.rename(other, wills) }, map[string]string{"will": wills, "mary": marys})
				g.reboot(cut)
				for id, want := range map[string]string{"will": "will's new", "mary": "mary's new"} {
					if got := g.get(id, "/api/v2/get?p=n"); got != want {
						t.Errorf("%s has %q back", id, got)
					}
				}
				if got := g.get("will", "/api/v2/get?p=gone"); got != "" {
					t.Errorf("what will has removed is %q", got)
				}
				for path, want := range map[string]int{wills: 2, marys: 1} {
					if files, err := filepath.Glob(filepath.Join(path, "*")); err != nil || len(files) != want {
						t.Errorf("%s has %q, %v", path, files, err)
					}
				}
			})
		}
	})
}
