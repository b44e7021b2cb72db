package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

func (m *machine) service() *history.Service {
	return &history.Service{Dirs: m.dirs, Ledger: quota.NewLedger(m.snapshot.Load, m.Logger)}
}

// delete is what deleting will does to its files.
func (m *machine) delete() {
	m.Helper()
	release, err := m.dirs.LockExclusive(m.Context(), m.tenant.DataDir)
	m.check(err)
	defer release()
	files, err := m.tenant.OwnFiles()
	m.check(err)
	for _, file := range files {
		m.check(os.Remove(m.path(file)))
	}
	m.check(m.service().FilesReplaced(m.tenant, m.tenant.DataDir, files, "", "the tenant was deleted"))
}

// purge is what purging will does to the bucket and the journal.
func (m *machine) purge() error {
	release, err := m.dirs.LockExclusive(m.Context(), m.tenant.DataDir)
	if err != nil {
		return err
	}
	defer release()
	return m.service().Purge(m.Context(), m.tenant)
}

// secrets are the objects of will's directory that hold anything of what was written.
func secrets(t *testing.T, b bucket.Bucket) (found []string) {
	t.Helper()
	for e, err := range bucket.All(t.Context(), b, "dirs/will/", "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := b.Get(t.Context(), e.Key, "")
		if err != nil {
			t.Fatal(err)
		}
		if c, err := object.Decode[object.Checkpoint](o.Body); err == nil && len(c.Files)+len(c.Answers)+len(c.Calls) == 0 {
			continue
		}
		if l, err := object.Decode[object.Log](o.Body); err == nil && len(l.Groups) == 0 {
			continue
		}
		if !strings.HasSuffix(e.Key, "/owner") && !strings.HasSuffix(e.Key, "/clock") && !strings.HasPrefix(e.Key, "dirs/will/purged/") {
			found = append(found, e.Key)
		}
	}
	return found
}

// TestPurge leaves nothing of a tenant in the bucket but who owned its directory, also if
// it is interrupted anywhere. One that slept meanwhile cannot bring anything back.
func TestPurge(t *testing.T) {
	for fail := 0; fail < 40; fail += 3 {
		synctest.Test(t, func(t *testing.T) {
			b := bucket.NewMemory()
			m := newMachine(t, b, "a")
			defer m.end()
			synctest.Wait()
			m.write("secret.phext", "secret", "key", true)
			m.compact()
			m.write("secret.phext", "another secret", "", true)
			m.write("by hand.phext", "removed by hand", "", true)
			m.check(os.Remove(m.path("by hand.phext")))
			r, err := m.dirs.Of(m.tenant.DataDir).Replica()
			m.check(err)
			m.delete()
			if len(secrets(t, b)) == 0 {
				t.Fatal("there is nothing to purge")
			}
			var n atomicCount
			b.Fault = func(op bucket.Op, key string) bucket.Fault {
				if strings.HasPrefix(key, "dirs/") && op != bucket.OpGet && n.next() == fail {
					return bucket.Fault{Refuse: os.ErrPermission}
				}
				return bucket.Fault{}
			}
			if err := m.purge(); err != nil {
				time.Sleep(time.Second)
				m.check(m.purge())
			} else if fail > 0 && fail < 9 {
				t.Errorf("call %d failed, and nobody was told", fail)
			}
			n.stop()
			if found := secrets(t, b); len(found) > 0 {
				t.Errorf("still there: %q", found)
			}
			if r.Holds() && slices.Contains(r.Files(), "secret.phext") {
				t.Error("the deleted phext is known")
			}
			// The directory can be used again.
			m.write("new.phext", "new", "", true)
			m.check(m.serve())
			m.want("secret.phext", "")
			m.want("by hand.phext", "")
			if aside, _ := filepath.Glob(filepath.Join(m.root, "quarantine", "*")); len(aside) > 0 {
				t.Errorf("set aside: %q", aside)
			}
		})
	}
}

// atomicCount counts calls until stop.
type atomicCount struct{ n, over atomic.Int64 }

func (c *atomicCount) next() int { return int(c.n.Add(1) + c.over.Load()) }

func (c *atomicCount) stop() { c.over.Store(1000) }

// TestAnIDThatIsUsedAgain inherits nothing from the bucket, whether the earlier tenant was
// purged or only left the tenants file, here and on a new machine.
func TestAnIDThatIsUsedAgain(t *testing.T) {
	for _, how := range []string{"purged", "removed by hand", "removed by hand, on a new machine", "purged, on a new machine"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", incarnation: tenants.NewIncarnation(time.Now())}
				m.start()
				synctest.Wait()
				m.write("secret.phext", "secret", "key", true)
				m.compact()
				m.write("secret.phext", "another secret", "", true)
				earlier := m.tenant
				if strings.HasPrefix(how, "purged") {
					m.delete()
					m.check(m.purge())
				}
				time.Sleep(time.Second)
				next := m
				incarnation := tenants.NewIncarnation(time.Now())
				if strings.HasSuffix(how, "new machine") {
					m.end()
					next = &machine{TB: t, root: t.TempDir(), bucket: b, name: "b", incarnation: incarnation}
					next.start()
					synctest.Wait()
				} else {
					m.check(os.RemoveAll(m.path("secret.phext")))
					m.incarnation = incarnation
					m.setTenants()
				}
				d := next.dirs.Of(next.tenant.DataDir)
				if _, err := d.LockForWrite(t.Context(), earlier, nil); err == nil {
					t.Error("the earlier tenant may write")
				}
				next.write("mine.phext", "mine", "", true)
				next.check(next.serve())
				next.want("secret.phext", "")
				j, err := next.dirs.JournalOf(d)
				next.check(err)
				if _, _, ok, _ := j.Answered(next.tenant.UniqueID(), "key"); ok {
					t.Error("an answer was inherited")
				}
				next.end()
				last := &machine{TB: t, root: t.TempDir(), bucket: b, name: "c", incarnation: incarnation}
				last.start()
				defer last.end()
				synctest.Wait()
				last.check(last.serve())
				last.want("secret.phext", "")
				last.want("mine.phext", "mine")
				if r, err := last.dirs.Of(last.tenant.DataDir).Replica(); err != nil || r.Of != datadir.OwnerOf(last.tenant) {
					t.Error(r, err)
				}
			})
		})
	}
}
