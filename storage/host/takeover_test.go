package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/datadir"
)

// TestANewMachine has the first one vanish with its disk: after a clean end at once, and
// else when its lease has ended. Everything acknowledged is there, and a repeated request
// is answered.
func TestANewMachine(t *testing.T) {
	for _, test := range []struct {
		name   string
		next   string // the name of the next host
		vanish func(*machine)
		wait   time.Duration
	}{
		{"ended", "b", (*machine).end, 0},
		{"killed", "b", (*machine).kill, stillFor},
		{"ended, with the same name", "a", (*machine).end, 0},
		{"killed, with the same name", "a", (*machine).kill, leaseFor},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				a := newMachine(t, b, "a")
				synctest.Wait()
				a.write("n.phext", "one", "key", true)
				a.write("n.phext", "two", "", true)
				a.write("m.phext", "other", "", true)
				test.vanish(a)
				next := newMachine(t, b, test.next)
				defer next.end()
				synctest.Wait()
				begun := time.Now()
				next.check(next.serve())
				if took := time.Since(begun); took < test.wait || took > test.wait+renewEvery {
					t.Errorf("it took %v, and not %v", took, test.wait)
				}
				next.want("n.phext", "two")
				next.want("m.phext", "other")
				j, err := next.dirs.JournalOf(next.dirs.Of(next.tenant.DataDir))
				next.check(err)
				if text, _, ok, err := j.Answered("will", "key"); text != "done" || !ok || err != nil {
					t.Errorf("a repeated request is answered %q, %v, %v", text, ok, err)
				}
				next.write("n.phext", "three", "", true)
				next.want("n.phext", "three")
			})
		})
	}
}

// TestAStartAfterACrash on the same disk waits for nobody. While a process runs, no other
// may use its state directory.
func TestAStartAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b, "a")
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		if err := (&Directories{Host: newHost(b, "a"), MarkDir: m.ds.MarkDir}).Lock(); !errors.Is(err, ErrInUse) {
			t.Error(err)
		}
		m.kill()
		m.killed.Store(false)
		m.start()
		defer m.end()
		synctest.Wait()
		begun := time.Now()
		m.check(m.serve())
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestTheSameDisk is started again on what is there. Only what differs is fetched, and
// what was acknowledged to nobody is set aside, with its answer.
func TestTheSameDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b, "a")
		synctest.Wait()
		m.write("same.phext", "same", "", true)
		m.write("ahead.phext", "before", "", true)
		m.write("behind.phext", "old", "", true)
		m.write("behind.phext", "new", "", true)
		m.write("ahead.phext", "ahead", "lost", false)
		m.write("made.phext", "ahead", "", false)
		m.check(os.WriteFile(m.path("behind.phext"), []byte("old"), 0o600))
		m.end()
		before, err := os.Stat(m.path("same.phext"))
		m.check(err)
		m.start()
		synctest.Wait()
		m.check(m.serve())
		m.want("same.phext", "same")
		m.want("ahead.phext", "before")
		m.want("behind.phext", "new")
		m.want("made.phext", "")
		after, err := os.Stat(m.path("same.phext"))
		m.check(err)
		if !os.SameFile(before, after) || !strings.Contains(m.log.String(), "fetched=2 ") {
			t.Errorf("what is the same was fetched:\n%s", m.log.String())
		}
		aside, err := filepath.Glob(filepath.Join(m.root, "quarantine", "*"))
		m.check(err)
		if len(aside) != 2 {
			t.Errorf("set aside: %q", aside)
		}
		j, err := m.dirs.JournalOf(m.dirs.Of(m.tenant.DataDir))
		m.check(err)
		if _, _, ok, _ := j.Answered("will", "lost"); ok {
			t.Error("a write that does not stand is answered as if it did")
		}
		m.end()
		m.start()
		synctest.Wait()
		m.check(m.serve())
		if !strings.Contains(m.log.String(), "fetched=0 ") {
			t.Error(m.log.String())
		}
		m.end()
	})
}

// TestPhextsThatTheBucketDoesNotKnow are never replaced by what an empty or another
// bucket has.
func TestPhextsThatTheBucketDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := bucket.NewMemory()
		foreign := newMachine(t, other, "a")
		synctest.Wait()
		foreign.write("n.phext", "of somebody else", "", true)
		foreign.end()
		for name, b := range map[string]bucket.Bucket{"empty": bucket.NewMemory(), "another": other} {
			m := newMachine(t, b, "a")
			synctest.Wait()
			m.check(os.MkdirAll(m.path(""), 0o700))
			m.check(os.WriteFile(m.path("n.phext"), []byte("mine"), 0o600))
			if err := m.serve(); err == nil || apierror.From(err).Kind != apierror.Unavailable {
				t.Errorf("%s: %v", name, err)
			}
			if !strings.Contains(m.log.String(), "sqgate bucket init") {
				t.Errorf("%s: the log does not say why: %s", name, m.log.String())
			}
			m.want("n.phext", "mine")
			m.end()
		}
	})
}

// TestALostStateDirectory is no reason not to serve what is just what the bucket has.
func TestALostStateDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, bucket.NewMemory(), "a")
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		m.end()
		m.check(os.RemoveAll(filepath.Join(m.root, "bucket")))
		m.check(os.RemoveAll(filepath.Join(m.root, "journal")))
		m.start()
		defer m.end()
		synctest.Wait()
		m.check(m.serve())
		m.want("n.phext", "one")
	})
}

// TestAnOwnerThatLives keeps its directory.
func TestAnOwnerThatLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		a, other := newMachine(t, b, "a"), newMachine(t, b, "b")
		defer a.end()
		defer other.end()
		synctest.Wait()
		a.write("n.phext", "one", "", true)
		if err := other.serve(); !errors.Is(err, datadir.ErrMoved) {
			t.Error(err)
		}
		a.write("n.phext", "two", "", true)
	})
}

// TestABucketThatCannotBeReached ends the lease, and all goes on by itself when it can be
// reached again.
func TestABucketThatCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		fault := everywhere(b)
		m := newMachine(t, b, "a")
		defer m.end()
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		d := m.dirs.Of(m.tenant.DataDir)
		fault.Store(&bucket.Fault{Refuse: bucket.ErrTemporary})
		time.Sleep(leaseFor - renewEvery - time.Second)
		if !d.Recovered() {
			t.Error("not served within the lease")
		}
		time.Sleep(renewEvery + time.Second)
		if d.Recovered() {
			t.Error("served without a lease")
		}
		before := m.stops.Load()
		if err := m.serve(); !errors.Is(err, datadir.ErrMoved) {
			t.Error(err)
		}
		if m.stops.Load() != before {
			t.Error("files are recovered that cannot be taken over")
		}
		fault.Store(&bucket.Fault{})
		time.Sleep(renewEvery)
		synctest.Wait()
		m.check(m.serve())
		m.write("n.phext", "two", "", true)
		m.want("n.phext", "two")
	})
}

// TestIdleTenantsCostNothing counts the requests of a host with 10,000 tenants in a minute:
// there is only its heartbeat. One of them has been written to, and 100 have been read.
func TestIdleTenantsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", idle: 10_000}
		m.start()
		defer m.end()
		synctest.Wait()
		for i := range 100 {
			idle, _ := m.snapshot.Load().ByID(fmt.Sprint("idle", i))
			m.check(m.dirs.Of(idle.DataDir).Recover(t.Context()))
		}
		m.write("n.phext", "one", "", true)
		synctest.Wait()
		b.Calls()
		time.Sleep(time.Minute + renewEvery/2)
		if calls := b.Calls(); fmt.Sprint(calls) != "map[put:30]" {
			t.Error(calls)
		}
	})
}
