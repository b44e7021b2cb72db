package host

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
)

// objects counts the objects of will's directory.
func objects(t *testing.T, b bucket.Bucket, kind string) (n int) {
	t.Helper()
	for e, err := range bucket.All(t.Context(), b, "dirs/will/"+kind+"/", "") {
		if err != nil || !strings.Contains(e.Key, kind) {
			t.Fatal(e, err)
		}
		n++
	}
	return n
}

// TestLogsAreCompacted writes a lot: the log stays short, a new machine reads little of
// it, and has everything. What does not grow costs nothing.
func TestLogsAreCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", history: time.Hour}
		m.start()
		synctest.Wait()
		for i := range compactAfter + 5 {
			m.write("n.phext", fmt.Sprint(i), "", true)
		}
		m.write("m.phext", "other", "", true)
		time.Sleep(lookAtLogs + time.Second)
		synctest.Wait()
		if n := objects(t, b, "checkpoint"); n != 1 {
			t.Fatalf("%d checkpoints of a long log", n)
		}
		m.write("n.phext", "after", "", true)
		time.Sleep(compactEvery + lookAtLogs)
		synctest.Wait()
		if checkpoints, log := objects(t, b, "checkpoint"), objects(t, b, "log"); checkpoints != 2 || log > 10 {
			t.Errorf("a day later there are %d checkpoints, and %d objects of the log", checkpoints, log)
		}
		b.Calls()
		time.Sleep(compactEvery + renewEvery/2)
		if calls := b.Calls(); len(calls) != 1 {
			t.Errorf("a log that does not grow takes %v", calls)
		}
		m.end()
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		b.Calls()
		next.check(next.serve())
		if calls := b.Calls(); calls[bucket.OpGet] > 12 {
			t.Errorf("a new machine takes %v", calls)
		}
		next.want("n.phext", "after")
		next.want("m.phext", "other")
	})
}
