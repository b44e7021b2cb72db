package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

func newMachineThatMayBeAhead(t testing.TB, b bucket.Bucket) *machine {
	m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", lag: time.Second}
	m.start()
	return m
}

// crash kills a machine that is to start again.
func (m *machine) crash() {
	m.Helper()
	m.kill()
	m.killed.Store(false)
}

// TestACrashAheadOfTheBucket loses nothing that was acknowledged as long as there is the
// disk, also if the next process does not acknowledge ahead.
func TestACrashAheadOfTheBucket(t *testing.T) {
	for name, lag := range map[string]time.Duration{"still ahead": time.Second, "not ahead any more": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				m := newMachineThatMayBeAhead(t, b)
				synctest.Wait()
				for _, file := range []string{"same.phext", "changed.phext", "removed.phext"} {
					m.write(file, "one", "", true)
				}
				synctest.Wait()
				m.write("changed.phext", "two", "", false)
				m.write("new.phext", "three", "", false)
				m.check(os.Remove(m.path("removed.phext")))
				m.crash()
				m.lag = lag
				m.start()
				synctest.Wait()
				m.check(m.serve())
				m.want("changed.phext", "two")
				m.want("new.phext", "three")
				m.end()
				next := newMachine(t, b, "b")
				defer next.end()
				synctest.Wait()
				next.check(next.serve())
				for file, text := range map[string]string{"same.phext": "one", "changed.phext": "two", "new.phext": "three", "removed.phext": ""} {
					next.want(file, text)
				}
			})
		})
	}
}

// TestALostDiskIsNotAheadOfTheBucket has the data vanish, and the state not.
func TestALostDiskIsNotAheadOfTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachineThatMayBeAhead(t, bucket.NewMemory())
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		synctest.Wait()
		m.crash()
		m.check(os.RemoveAll(m.path("")))
		m.start()
		defer m.end()
		synctest.Wait()
		m.check(m.serve())
		m.want("n.phext", "one")
	})
}

// TestTheLastPhextIsRemovedAheadOfTheBucket has a directory be empty, because what was in it
// was removed by those who may. That is acknowledged like any other write.
func TestTheLastPhextIsRemovedAheadOfTheBucket(t *testing.T) {
	for name, test := range map[string]struct {
		lag  time.Duration // of the process that removes it
		lost bool          // another one vanishes with the disk
	}{
		"with a lag": {lag: time.Second}, "without the bucket for a time": {}, "and the disk is lost": {time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", lag: test.lag}
				m.start()
				synctest.Wait()
				m.write("removed.phext", "one", "", true)
				if test.lost {
					m.write("lost.phext", "two", "", true)
				}
				synctest.Wait()
				if test.lag == 0 {
					m.end()
					m.serveWithout()
					m.without = true
					m.start()
				}
				m.remove("removed.phext")
				m.crash()
				if test.lost {
					m.check(os.RemoveAll(m.path("")))
				}
				m.without = false
				m.start()
				synctest.Wait()
				lost := map[bool]string{true: "two"}[test.lost]
				m.check(m.serve())
				m.want("removed.phext", "")
				m.want("lost.phext", lost)
				m.end()
				next := newMachine(t, b, "b")
				defer next.end()
				synctest.Wait()
				next.check(next.serve())
				next.want("removed.phext", "")
				next.want("lost.phext", lost)
			})
		})
	}
}

// TestATenantIsArchivedWithoutTheBucket of whose phexts the journal here knows nothing: they
// came from the bucket.
func TestATenantIsArchivedWithoutTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		first := newMachine(t, b, "a")
		synctest.Wait()
		first.write("n.phext", "one", "", true)
		first.end()
		m := newMachine(t, b, "b")
		synctest.Wait()
		m.check(m.serve())
		m.want("n.phext", "one")
		m.end()
		m.serveWithout()
		m.check(os.Remove(m.path("n.phext")))
		m.archived = true
		m.start()
		synctest.Wait()
		m.check(m.serve())
		m.want("n.phext", "")
		m.end()
		next := newMachine(t, b, "c")
		defer next.end()
		synctest.Wait()
		next.check(next.serve())
		next.want("n.phext", "")
	})
}

// remove removes a file as a restore does, without the bucket.
func (m *machine) remove(file string) {
	m.Helper()
	_, j, unlock, err := m.lock(file)
	m.check(err)
	defer unlock()
	p, err := j.Begin(journal.Mutation{File: file, Op: journal.Remove, Tenant: m.tenant.UniqueID()}, func() (journal.State, error) { return journal.ReadState(nil, m.path(file)) })
	m.check(err)
	m.check(os.Remove(m.path(file)))
	m.check(p.Done(fsutil.FileID{}))
	m.check(p.Sync())
}

// TestAnotherWasThereMeanwhile has a host that was ahead come back too late, also with its files
// in another directory. What the other one has acknowledged stands.
func TestAnotherWasThereMeanwhile(t *testing.T) {
	stay := func(*machine) {}
	for _, test := range []struct {
		name         string
		fails        bool // the first attempt does, when this host is the owner already
		before, then func(*machine)
	}{
		{"at once", false, stay, stay},
		{"after a failure", true, stay, stay},
		{"moved", false, func(m *machine) { m.moveTo("elsewhere") }, stay},
		{"moved, after a failure", true, func(m *machine) { m.moveTo("elsewhere") }, stay},
		{"moved after a failure", true, stay, func(m *machine) { m.moveTo("elsewhere") }},
		{"elsewhere at the failure", true, func(m *machine) { m.dir = "elsewhere" }, func(m *machine) { m.dir = "" }},
	} {
		t.Run(test.name, func(t *testing.T) { anotherWasThereMeanwhile(t, test.fails, test.before, test.then) })
	}
}

func anotherWasThereMeanwhile(t *testing.T, fails bool, before, then func(*machine)) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachineThatMayBeAhead(t, b)
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		synctest.Wait()
		m.write("n.phext", "ahead", "", false)
		m.crash()
		next := newMachine(t, b, "b")
		synctest.Wait()
		next.check(next.serve())
		next.write("n.phext", "two", "", true)
		next.end()
		before(m)
		m.start()
		defer func() { m.end() }()
		synctest.Wait()
		if fails {
			key := logOf(t, b)[1]
			whole, err := b.Get(t.Context(), key, "")
			m.check(err)
			_, err = b.Put(t.Context(), key, []byte("damaged"), bucket.Condition{})
			m.check(err)
			if m.serve() == nil {
				t.Fatal("it is taken over")
			}
			m.crash()
			_, err = b.Put(t.Context(), key, whole.Body, bucket.Condition{})
			m.check(err)
			then(m)
			m.start()
			synctest.Wait()
		}
		m.check(m.serve())
		m.want("n.phext", "two")
	})
}

// TestACleanStopUploadsWhatWasAcknowledged although that takes longer than a lease that is
// not renewed.
func TestACleanStopUploadsWhatWasAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		var slow atomic.Bool
		b.Fault = func(op bucket.Op, key string) (fault bucket.Fault) {
			if slow.Load() && op == bucket.OpPut && strings.HasPrefix(key, "dirs/") {
				fault.Delay = 2 * leaseFor
			}
			return fault
		}
		m := newMachineThatMayBeAhead(t, b)
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		synctest.Wait()
		slow.Store(true)
		m.write("n.phext", "two", "", true)
		m.end()
		slow.Store(false)
		mark, err := readMarkFile(filepath.Join(m.ds.MarkDir, "will"))
		m.check(err)
		if mark.Epoch == 0 || mark.Ahead {
			t.Errorf("the next start would look for what is not in the bucket: %+v", mark)
		}
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		next.check(next.serve())
		next.want("n.phext", "two")
	})
}

// TestWritesWaitForABucketThatIsTooFarBehind has the bucket stand still: what is
// acknowledged then is not older than the lag, and all of it gets there by itself when it
// can be reached again, also after the lease has ended.
func TestWritesWaitForABucketThatIsTooFarBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		fault := everywhere(b)
		m := newMachineThatMayBeAhead(t, b)
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		synctest.Wait()
		fault.Store(&bucket.Fault{Refuse: bucket.ErrTemporary})
		begun := time.Now()
		m.write("n.phext", "two", "", true)
		if took := time.Since(begun); took > 0 {
			t.Errorf("a write waited %v for the bucket", took)
		}
		time.Sleep(m.lag + time.Second)
		d, _, unlock, err := m.lock("n.phext")
		m.check(err)
		if d.Behind() < m.lag {
			t.Errorf("it is %v behind", d.Behind())
		}
		r, err := d.Replica()
		m.check(err)
		late := r.Uploaded()
		unlock()
		if err := late.Wait(); err == nil { // it waits until the lease has ended
			t.Error("acknowledged with a bucket that is too far behind")
		}
		if err := m.serve(); err == nil || apierror.From(err).Kind != apierror.Unavailable {
			t.Errorf("without a lease: %v", err)
		}
		time.Sleep(time.Minute)
		fault.Store(&bucket.Fault{})
		time.Sleep(15 * time.Second) // nobody asks for it
		m.crash()
		m.check(os.RemoveAll(m.root))
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		next.check(next.serve())
		next.want("n.phext", "two")
	})
}

// TestServedWithoutTheBucketAfterOthers has a take-over end in its middle, after others had the
// directory, and the bucket be left out then: nothing old takes the place of what they wrote.
func TestServedWithoutTheBucketAfterOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b, "a")
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		m.end()
		next := newMachine(t, b, "b")
		synctest.Wait()
		next.check(next.serve())
		next.write("n.phext", "two", "", true)
		next.end()
		key := logOf(t, b)[1]
		whole, err := b.Get(t.Context(), key, "")
		m.check(err)
		_, err = b.Put(t.Context(), key, []byte("damaged"), bucket.Condition{})
		m.check(err)
		m.start()
		synctest.Wait()
		if m.serve() == nil {
			t.Fatal("it is taken over")
		}
		m.crash()
		_, err = b.Put(t.Context(), key, whole.Body, bucket.Condition{})
		m.check(err)
		m.without = true
		m.start()
		if m.serve() == nil {
			t.Error("it is served without the bucket, which has more")
		}
		m.crash()
		m.without = false
		m.start()
		defer m.end()
		synctest.Wait()
		m.check(m.serve())
		m.want("n.phext", "two")
	})
}

// TestServedWithoutTheBucketForAWhile keeps what was written then, also where another host could
// have had the directory, and has not.
func TestServedWithoutTheBucketForAWhile(t *testing.T) {
	for name, others := range map[string][]string{"alone": nil, "beside another host": {"b"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &cluster{TB: t, bucket: bucket.NewMemory(), hosts: map[string]*machine{}}
				defer c.end()
				a := c.add("a")
				for _, name := range others {
					c.add(name)
				}
				a.write("n.phext", "one", "", true)
				a.check(a.ds.Drain(t.Context())) // as a clean stop does
				a.end()
				a.serveWithout()
				a.serveWithout()
				a.edit("n.phext", "without")
				a.start()
				synctest.Wait()
				a.check(a.serve())
				a.want("n.phext", "without")
			})
		})
	}
}

// damageMark leaves so many bytes of the mark of a directory, and returns where it is.
func (m *machine) damageMark(left int64) string {
	m.Helper()
	path := filepath.Join(m.ds.MarkDir, "will")
	m.check(os.Truncate(path, left))
	return path
}

// TestADamagedMark keeps its directory from being served, with a bucket and without, and
// nobody else's. Whoever moves it away gets what the bucket has.
func TestADamagedMark(t *testing.T) {
	for name, without := range map[string]bool{"with the bucket": false, "without": true} {
		for _, left := range []int64{0, 20} {
			t.Run(fmt.Sprint(name, ", ", left, " bytes"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMachine(t, bucket.NewMemory(), "a")
					synctest.Wait()
					m.write("n.phext", "one", "", true)
					m.end()
					path := m.damageMark(left)
					m.without, m.idle = without, 1
					m.start()
					defer m.end()
					synctest.Wait()
					refused := m.dirs.Of(m.tenant.DataDir).Refusal()
					if !without {
						m.check(m.ds.CheckKnown(t.Context(), m.dirs)) // or sqgate does not start
						m.ds.CatchUp(t.Context(), m.dirs)             // which has nothing to try again
						refused = m.ds.Refused()[m.path("")]
					}
					if err := m.serve(); apierror.From(err).Kind != apierror.Unavailable || !errors.Is(refused, ErrMark) {
						t.Errorf("%v, %v", err, refused)
					}
					if log := m.log.String(); !strings.Contains(log, path+" is damaged") || !strings.Contains(log, "move that file away") {
						t.Error(log)
					}
					other, _ := m.snapshot.Load().ByID("idle0")
					release, err := m.dirs.LockExclusive(t.Context(), other.DataDir)
					m.check(err)
					release()
					m.check(os.Remove(path))
					time.Sleep(pauseAtMost)
					m.check(m.serve())
					m.want("n.phext", "one")
				})
			})
		}
	}
}

// TestADirectoryThatIsHalfFetched is not served without the bucket: what has not come yet would
// seem to be gone.
func TestADirectoryThatIsHalfFetched(t *testing.T) {
	for name, test := range map[string]struct {
		mend   func(m *machine)
		served bool
	}{
		"as it is":                       {func(*machine) {}, false},
		"its mark is moved away":         {func(m *machine) { m.check(os.Remove(filepath.Join(m.ds.MarkDir, "will"))) }, true},
		"the id is another tenant's now": {func(m *machine) { m.incarnation = tenants.NewIncarnation(time.Now()); m.setTenants() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _ := halfFetched(t, 0)
				m.crash()
				m.bucket.(*bucket.Memory).Fault = nil
				m.without, m.idle = true, 1
				m.start()
				defer func() { m.end() }()
				err := m.serve()
				if refused := m.dirs.Of(m.tenant.DataDir).Refusal(); apierror.From(err).Kind != apierror.Unavailable || refused == nil {
					t.Errorf("%v, %v", err, refused)
				}
				if log := m.log.String(); !strings.Contains(log, filepath.Join(m.ds.MarkDir, "will")) || !strings.Contains(log, "start with --bucket") {
					t.Error(log)
				}
				other, _ := m.snapshot.Load().ByID("idle0")
				m.check(m.dirs.Of(other.DataDir).Recover(t.Context()))
				test.mend(m)
				if err := m.serve(); err == nil != test.served {
					t.Errorf("served %v: %v", test.served, err)
				}
				if test.served {
					return
				}
				m.end()
				m.without = false
				m.start()
				synctest.Wait()
				m.check(m.serve())
				for i := range manyFiles {
					m.want(fileName(i), fmt.Sprint("text ", i))
				}
			})
		})
	}
}

// TestAPurgeWithoutTheBucket is refused if that has the tenant: it would not know.
func TestAPurgeWithoutTheBucket(t *testing.T) {
	for name, test := range map[string]struct {
		before func(m *machine)
		may    bool
	}{
		"in the bucket":                  {func(*machine) {}, false},
		"its mark is damaged":            {func(m *machine) { m.damageMark(20) }, false},
		"its mark is moved away":         {func(m *machine) { m.check(os.Remove(filepath.Join(m.ds.MarkDir, "will"))) }, true},
		"the id is another tenant's now": {func(m *machine) { m.incarnation = tenants.NewIncarnation(time.Now()) }, true},
		"never in the bucket":            {func(m *machine) { m.check(os.RemoveAll(m.ds.MarkDir)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, bucket.NewMemory(), "a")
				synctest.Wait()
				m.write("n.phext", "one", "", true)
				m.end()
				test.before(m)
				m.without = true
				m.start()
				defer m.end()
				err := m.alone.CheckPurge(m.tenant)
				if err == nil != test.may || err != nil && apierror.From(err).Kind != apierror.Conflict {
					t.Errorf("may be purged %v: %v", test.may, err)
				}
			})
		})
	}
}
