package host

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// TestWhatTheOperatorDoesIsInTheBucket restores, removes and puts back phexts. A new
// machine has them as they are then, also those that somebody had edited before.
func TestWhatTheOperatorDoesIsInTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		a := newMachine(t, b, "a")
		synctest.Wait()
		service := &history.Service{Dirs: a.dirs, Ledger: quota.NewLedger(func() *tenants.Snapshot { return a.dirs.Tenants() }, a.Logger)}
		a.write("restored.phext", "then", "", true)
		a.write("removed.phext", "x", "", true)
		time.Sleep(time.Second)
		then := time.Now()
		time.Sleep(time.Second)
		a.write("restored.phext", "now", "", true)
		a.check(os.WriteFile(a.path("restored.phext"), []byte("by hand"), 0o600))
		phext := "restored"
		_, err := service.Restore(t.Context(), a.tenant, history.Target{Phext: &phext, At: then})
		a.check(err)
		release, err := a.dirs.LockExclusive(t.Context(), a.tenant.DataDir)
		a.check(err)
		a.check(os.Remove(a.path("removed.phext")))
		a.check(os.WriteFile(a.path("brought back.phext"), []byte("from an archive"), 0o600))
		a.check(service.FilesReplaced(a.tenant, []string{"removed.phext", "brought back.phext"}, "", "archive"))
		release()
		a.end()
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		next.check(next.serve())
		next.want("restored.phext", "then")
		next.want("removed.phext", "")
		next.want("brought back.phext", "from an archive")
	})
}

// TestADirectoryOfNobody can be locked, to become a new tenant's, and is not in the bucket.
func TestADirectoryOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b, "a")
		defer m.end()
		synctest.Wait()
		b.Calls()
		release, err := m.dirs.LockExclusive(t.Context(), filepath.Join(m.root, "new"))
		m.check(err)
		release()
		if calls := b.Calls(); len(calls) > 0 {
			t.Error(calls)
		}
	})
}
