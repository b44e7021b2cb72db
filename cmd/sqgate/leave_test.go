package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestWhatATenantLeavesIsOnTheDisk once its child is shown as stopped: from then on, its files
// may be taken elsewhere, where no journal repairs them. A directory that has another tenant from
// now on is one, too.
func TestWhatATenantLeavesIsOnTheDisk(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will", "mary")
		onDisk := func(dir string) bool { // the journal notes that all phexts were synced
			notes, err := filepath.Glob(filepath.Join(g.dir, "state", "journal", "*", "stopped"))
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(notes, func(note string) bool {
				path, err := os.ReadFile(filepath.Join(filepath.Dir(note), "data_dir"))
				return err == nil && string(path) == dir+"\n"
			})
		}
		wills, marys := g.dataDir("will"), g.dataDir("mary")
		for _, id := range []string{"will", "mary"} {
			g.must(id, "POST", at("update", "n", origin), "text", 200)
			if onDisk(g.dataDir(id)) {
				t.Fatal("it is synced already")
			}
		}
		g.manage("PATCH", "tenants/will", `{"enabled":false}`, 200)
		eventually(t, "the child is stopped", func() bool { return g.manage("GET", "tenants/will", "", 200)["child"] == "stopped" })
		if !onDisk(wills) {
			t.Error("it is not synced, and the child is stopped")
		}
		g.setInFile("mary", "id", "bob")
		eventually(t, "what mary has written is synced", func() bool { return onDisk(marys) })
	})
}
