package host

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants/quota"
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

// TestWhatACheckpointKeeps are the answers to repeated requests, and the day's counts of
// calls. A new machine goes on with both, also if the log behind them is gone.
func TestWhatACheckpointKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		a := newMachine(t, b, "a")
		synctest.Wait()
		a.write("n.phext", "before the checkpoint", "first", true)
		for range 7 {
			a.check(a.calls.Admit(a.tenant, quota.Reads, time.Now()))
		}
		a.compact()
		a.write("n.phext", "after it", "second", true)
		active := a.calls.Of(a.tenant, time.Now()).LastActive
		a.end()
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		next.check(next.calls.Admit(next.tenant, quota.Writes, time.Now()))
		next.check(next.serve())
		j, err := next.dirs.JournalOf(next.dirs.Of(next.tenant.DataDir))
		next.check(err)
		for _, key := range []string{"first", "second"} {
			if text, _, ok, err := j.Answered("will", key); text != "done" || !ok || err != nil {
				t.Errorf("a repeated request is answered %q, %v, %v", text, ok, err)
			}
		}
		if n := next.calls.Of(next.tenant, time.Now()); n.Today != 7 || n.LastActive.Before(active) {
			t.Errorf("%+v", n)
		}
		time.Sleep(25 * time.Hour)
		if n := next.calls.Of(next.tenant, time.Now()); n.Today != 0 {
			t.Errorf("the next day: %+v", n)
		}
	})
}

// TestAnAnswerToNothingIsInTheBucket, and no file is made of it.
func TestAnAnswerToNothingIsInTheBucket(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := bucket.NewMemory()
			a := newMachine(t, b, "a")
			synctest.Wait()
			a.write("n.phext", "text", "", true)
			d, j, unlock, err := a.lock("n.phext")
			a.check(err)
			m, p, err := datadir.Remember(j, journal.Mutation{Tenant: a.tenant.UniqueID(), Idempotency: "key", Digest: "d", Answer: "done"})
			a.check(err)
			a.check(p.Sync())
			a.check(d.Upload(func(r *datadir.Replica) error {
				r.Add([]journal.Mutation{m}, datadir.KnownFile{}, p.Time())
				return nil
			}))
			unlock()
			if compacted {
				a.compact()
			}
			a.end()
			next := newMachine(t, b, "b")
			defer next.end()
			synctest.Wait()
			next.check(next.serve())
			j, err = next.dirs.JournalOf(next.dirs.Of(next.tenant.DataDir))
			next.check(err)
			if text, _, ok, err := j.Answered("will", "key"); text != "done" || !ok || err != nil {
				t.Errorf("compacted %v: %q, %v, %v", compacted, text, ok, err)
			}
			next.want("n.phext", "text")
			entries, err := os.ReadDir(next.path(""))
			if err != nil || len(entries) != 1 {
				t.Errorf("compacted %v: %v, %v", compacted, entries, err)
			}
		})
	}
}

// TestInitKeepsAnswers to requests that are repeated afterwards, also on another machine.
func TestInitKeepsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", without: true}
		m.start()
		m.edit("n.phext", "one")
		j, err := m.journal.Of(m.dirs.Of(m.tenant.DataDir).Path)
		m.check(err)
		m.check(j.SetAnswers(func(yield func(journal.Answer, error) bool) {
			yield(journal.Answer{Time: time.Now(), Tenant: "will", Idempotency: "key", Digest: "d", Text: "done"}, nil)
		}))
		_, err = m.put(b)
		m.check(err)
		m.end()
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		next.check(next.serve())
		if j, err = next.dirs.JournalOf(next.dirs.Of(next.tenant.DataDir)); err != nil {
			t.Fatal(err)
		}
		if text, _, ok, err := j.Answered("will", "key"); text != "done" || !ok || err != nil {
			t.Errorf("%q, %v, %v", text, ok, err)
		}
	})
}

// TestALogOfManyBytes is compacted, although it has few objects.
func TestALogOfManyBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", history: time.Hour}
		m.start()
		defer m.end()
		synctest.Wait()
		m.ds.housekeeping.maximum = 64 << 10
		random := rand.NewChaCha8([32]byte{})
		text := make([]byte, 9<<10) // which is not compressed to less
		for i := range 9 {
			_, _ = random.Read(text) // never fails
			m.write(fmt.Sprintf("%d.phext", i), hex.EncodeToString(text), "", true)
		}
		time.Sleep(lookAtLogs + time.Second)
		synctest.Wait()
		if n := objects(t, b, "checkpoint"); n != 1 {
			t.Errorf("%d checkpoints", n)
		}
	})
}

// TestALogThatIsSmallOnlyCompressed is compacted by what a reader has in memory, also by what
// was written before a start. If it grows too fast, writes wait for that.
func TestALogThatIsSmallOnlyCompressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", history: time.Hour}
		m.start()
		synctest.Wait()
		const each, due = 16 << 10, 64 << 10
		text := strings.Repeat("x", each)
		m.ds.housekeeping.maximum = due
		for range due/each - 1 {
			m.write("n.phext", text, "", true)
		}
		time.Sleep(lookAtLogs + time.Second)
		synctest.Wait()
		if n := objects(t, b, "checkpoint"); n != 0 {
			t.Errorf("%d checkpoints of a log that is short", n)
		}
		m.end()
		m.start()
		defer func() { m.end() }()
		synctest.Wait()
		m.ds.housekeeping.maximum = due
		m.write("n.phext", text, "", true)
		time.Sleep(lookAtLogs + time.Second)
		synctest.Wait()
		if n := objects(t, b, "checkpoint"); n != 1 {
			t.Errorf("%d checkpoints of a log that is long since before the start", n)
		}
		begun := time.Now()
		for range bytesToWait/compactBytes*due/each + 1 {
			m.write("n.phext", text, "", true)
		}
		if n, took := objects(t, b, "checkpoint"), time.Since(begun); n != 2 || took >= lookAtLogs {
			t.Errorf("%d checkpoints of a log that grew fast, within %v", n, took)
		}
	})
}

// TestALongLogThatCannotBeCompacted keeps nobody from writing, and is not tried at each write.
func TestALongLogThatCannotBeCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b, "a")
		defer m.end()
		synctest.Wait()
		const each, due = 16 << 10, 64 << 10
		m.ds.housekeeping.maximum = due
		var tries atomicCount
		tries.next() // the number of the one that follows
		b.Fault = func(op bucket.Op, key string) bucket.Fault {
			if op == bucket.OpPut && strings.Contains(key, "/checkpoint/") {
				tries.next()
				return bucket.Fault{Refuse: os.ErrPermission}
			}
			return bucket.Fault{}
		}
		const writes = 3 * bytesToWait / compactBytes * due / each
		for range writes {
			m.write("n.phext", strings.Repeat("x", each), "", true)
		}
		if n := tries.next() - 2; n < 2 || n > 3 {
			t.Errorf("%d writes to a log that cannot be compacted have tried that %d times", writes, n)
		}
	})
}
