package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/s3test"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
)

// TestMemoryOfALogThatIsSmallOnlyCompressed starts sqgate with a log of texts of 32 MB that takes
// a MB in the bucket: on the disk that had the directory, again there, and on an empty one. What
// it holds meanwhile is bounded.
func TestMemoryOfALogThatIsSmallOnlyCompressed(t *testing.T) {
	if os.Getenv("SQTEST_MEMORY") == "" {
		t.Skip("it takes a minute: set SQTEST_MEMORY")
	}
	t.Run("file", func(t *testing.T) { testMemoryOfALog(t, "file://"+t.TempDir(), 60) })
	t.Run("S3", func(t *testing.T) { testMemoryOfALog(t, s3test.Start(t).URL, 60) })
}

func testMemoryOfALog(t *testing.T, url string, texts int) {
	const size, most = 32 << 20, 300 << 20
	g := newGate(t, builtin, "will")
	g.args = []string{"--bucket", url}
	g.start()
	g.awaitOwner("will")
	b, err := bucket.Open(url, bucket.Options{Dial: g.on.dialer()})
	if err != nil {
		t.Fatal(err)
	}
	g.must("will", "POST", at("update", "n", origin), "text", 200)
	g.stop()
	began := time.Now()
	appendTexts(t, b, "will", texts, size)
	idle := 0
	look := func(what string, more int) {
		t.Helper()
		peak := g.memory(t, "VmHWM:")
		t.Logf("%s: %d MB at most, and %d MB when idle", what, peak>>20, idle>>20)
		if peak-idle > more {
			t.Errorf("%s took %d MB more than %d MB", what, (peak-idle)>>20, idle>>20)
		}
	}
	for _, what := range []string{"a start", "another start", "a start on an empty disk"} {
		if strings.HasSuffix(what, "empty disk") {
			g.wipe()
			g.start()
		} else {
			g.start()
		}
		if idle == 0 {
			idle = g.memory(t, "VmHWM:")
		}
		g.awaitOwner("will")
		look(what, most)
		if got := g.get("will", at("select", "n", origin)); got != strings.Repeat("x", size) {
			t.Errorf("%s: %d bytes", what, len(got))
		}
		g.stop()
	}
	g.start()
	g.awaitOwner("will")
	if events := g.history("will"); len(events) != 1+texts {
		t.Errorf("%d events", len(events))
	}
	look("history", most)
	eventually(t, "the log is compacted", func() bool {
		all, _, err := b.List(t.Context(), "dirs/will/checkpoint/", "", 1)
		return err == nil && len(all) > 0
	})
	look("compaction", most)
	g.manage("POST", "tenants/will/restore", fmt.Sprintf(`{"phext":"n","at":%q,"to":"then"}`, began.UTC().Format(time.RFC3339Nano)), 200)
	if got := g.get("will", at("select", "then", origin)); got != "text" {
		t.Errorf("restored: %d bytes", len(got))
	}
	g.manage("POST", "tenants/will/restore", fmt.Sprintf(`{"phext":"n","at":%q,"to":"last"}`, time.Now().UTC().Format(time.RFC3339Nano)), 200)
	look("restores", most)
}

// appendTexts overwrites a scroll in the log of a directory, whose owner has ended.
func appendTexts(t *testing.T, b bucket.Bucket, name string, n, size int) {
	t.Helper()
	at, err := phext.ParseCoordinate(origin)
	if err != nil {
		t.Fatal(err)
	}
	d := &replica.Directory{Bucket: b, Name: name, Host: "another", Incarnation: "another"}
	end, err := d.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now, err := d.StateAt(t.Context(), end)
	if err != nil {
		t.Fatal(err)
	}
	d.Of = now.Of
	owner, etag, err := d.Owner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log, err := d.TakeOver(t.Context(), owner, etag)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		letter := "x"
		if i < n-1 {
			letter = string(rune('a' + i%20))
		}
		m := journal.Mutation{File: "n.phext", Op: journal.Update, At: at, Text: strings.Repeat(letter, size), Tenant: now.Of, Key: "k"}
		g := object.Group{Time: time.Now().UnixNano(), Mutations: []journal.Mutation{m}, After: replica.FileState(journal.State{}.After(m))}
		if _, err := log.Append(t.Context(), []object.Group{g}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Release(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
}
