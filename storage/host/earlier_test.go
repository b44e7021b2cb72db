package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// beginIncarnation has all hosts know a tenant that was just made.
func (c *cluster) beginIncarnation() {
	now := tenants.NewIncarnation(time.Now())
	for _, m := range c.hosts {
		m.incarnation = now
		m.setTenants()
	}
}

// noTenants is a tenants file without any.
func (m *machine) noTenants() *tenants.Snapshot {
	m.Helper()
	snapshot, err := tenants.Parse([]byte(`{"tenants":[]}`))
	m.check(err)
	return snapshot
}

// TestAnIDThatIsUsedAgainAtAnotherHost has a tenant at two hosts, and gives its id to another
// one at the second. When that one comes to the first, which still has files and a journal
// of the earlier tenant, it is served there, and nothing of them is seen. They are set aside,
// or are gone if the earlier tenant was purged.
func TestAnIDThatIsUsedAgainAtAnotherHost(t *testing.T) {
	for _, purged := range []bool{false, true} {
		for _, served := range []bool{false, true} {
			t.Run(map[bool]string{false: "removed by hand", true: "purged"}[purged]+map[bool]string{false: ", first served here", true: ", served elsewhere before"}[served], func(t *testing.T) {
				inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
					a, b := c.hosts["a"], c.hosts["b"]
					c.beginIncarnation()
					a.write("secret.phext", "secret", "key", true)
					a.check(os.WriteFile(a.path("secret.phext.json"), []byte("secret"), 0o600))
					a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
					a.check(os.Rename(a.path("secret.phext"), journal.BeforePath(a.path("secret.phext")))) // as a crash leaves it
					a.check(os.WriteFile(a.path("secret.phext"), []byte("sec"), 0o600))
					b.write("secret.phext", "newer secret", "", true)
					b.delete()
					if purged {
						b.check(b.purge())
					}
					time.Sleep(time.Second)
					c.beginIncarnation()
					if served {
						b.write("mine.phext", "mine", "", true)
					}
					b.check(b.ds.HandOver(t.Context(), b.tenant.DataDir, "a"))
					a.check(a.ds.CheckKnown(t.Context(), a.dirs))
					a.check(a.serve())
					a.want("mine.phext", map[bool]string{true: "mine"}[served])
					for _, file := range []string{"secret.phext", "secret.phext.json", ".secret.phext.before"} {
						if _, err := os.Stat(a.path(file)); !errors.Is(err, os.ErrNotExist) {
							t.Errorf("%s is still there: %v", file, err)
						}
					}
					j, err := a.dirs.JournalOf(a.dirs.Of(a.tenant.DataDir))
					a.check(err)
					events, err := j.History(journal.Query{Limit: 100})
					a.check(err)
					for _, e := range events {
						if strings.Contains(e.File, "secret") {
							t.Errorf("in the history: %+v", e)
						}
					}
					all := ""
					for _, path := range a.quarantined() {
						text, _ := os.ReadFile(path) // a journal is a directory
						all += filepath.Base(path) + ": " + string(text) + "\n"
					}
					for _, what := range []string{"secret.phext: secret", "secret.phext.json: secret"} {
						if !strings.Contains(all, what) { // somebody may have put it there for the next one
							t.Errorf("%s was not set aside: %s", what, all)
						}
					}
					if strings.Contains(all, "data-journal") == purged {
						t.Errorf("purged %v, and set aside: %s", purged, all)
					}
					a.write("mine.phext", "from here", "", true)
					a.end()
					a.start()
					synctest.Wait()
					a.check(a.ds.CheckKnown(t.Context(), a.dirs))
					a.check(a.serve())
					a.want("mine.phext", "from here")
				})
			})
		}
	}
}

// TestPurgedElsewhere removes what this host has of a tenant that was purged at another one,
// also if that was while it was down, and whether the id is used again or not. A tenant that
// was only taken out of the tenants file keeps everything.
func TestPurgedElsewhere(t *testing.T) {
	for _, test := range []struct{ purged, again, down bool }{{true, false, false}, {true, true, false}, {true, false, true}, {true, true, true}, {false, false, false}, {false, true, true}} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
				a, b := c.hosts["a"], c.hosts["b"]
				c.beginIncarnation()
				a.write("secret.phext", "secret", "", true)
				a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
				b.write("secret.phext", "newer secret", "", true)
				dir := a.tenant.DataDir
				if test.down {
					a.end()
				}
				b.delete()
				if test.purged {
					b.check(b.purge())
				}
				time.Sleep(lookAtLogs + time.Second)
				synctest.Wait()
				if _, err := os.Stat(a.path("secret.phext")); err != nil {
					t.Error("it is removed while there is such a tenant:", err)
				}
				later := &machine{TB: t, root: t.TempDir(), incarnation: tenants.NewIncarnation(time.Now())}
				if later.setTenants(); !test.again {
					later.snapshot.Store(a.noTenants())
				} else {
					a.incarnation = later.incarnation
					a.setTenants()
					later.snapshot.Store(a.snapshot.Load())
				}
				if test.down {
					a.start()
				}
				a.snapshot.Store(later.snapshot.Load())
				time.Sleep(2 * (lookAtLogs + time.Second))
				synctest.Wait()
				j, err := a.journal.Of(a.dirs.Of(dir).Path)
				a.check(err)
				files, err := j.FilesAt(a.dirs.Of(dir).Path, time.Now())
				a.check(err)
				if _, err := os.Stat(a.path("secret.phext")); errors.Is(err, os.ErrNotExist) != test.purged || len(files) > 0 == test.purged {
					t.Errorf("the phext: %v; in the journal: %q", err, files)
				}
				if aside := a.quarantined(); len(aside) > 0 {
					t.Errorf("set aside: %q", aside)
				}
				b.check(b.ds.HandOver(t.Context(), b.tenant.DataDir, "a"))
			})
		})
	}
}

// TestPurgedAndBack has a tenant without an incarnation purged, and another one like it made and
// taken out of the tenants file: that one was not purged.
func TestPurgedAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, bucket.NewMemory(), "a")
		defer func() { m.end() }()
		synctest.Wait()
		m.write("n.phext", "one", "", true)
		m.delete()
		m.check(m.purge())
		m.write("n.phext", "two", "", true)
		m.end()
		m.start()
		m.snapshot.Store(m.noTenants())
		time.Sleep(2 * (lookAtLogs + time.Second))
		synctest.Wait()
		m.want("n.phext", "two")
	})
}

// TestAnIDThatIsUsedAgainWhereItWas does not take what nobody has taken over since for an old
// copy: nothing is set aside, and nothing is served.
func TestAnIDThatIsUsedAgainWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{TB: t, root: t.TempDir(), bucket: bucket.NewMemory(), name: "a", incarnation: tenants.NewIncarnation(time.Now())}
		m.start()
		synctest.Wait()
		m.write("n.phext", "the only copy", "", true)
		m.end()
		time.Sleep(time.Second)
		m.incarnation = tenants.NewIncarnation(time.Now())
		m.start()
		defer func() { m.end() }()
		synctest.Wait()
		if err := m.ds.CheckKnown(t.Context(), m.dirs); !errors.Is(err, ErrNotInBucket) {
			t.Error(err)
		}
		if err := m.serve(); err == nil {
			t.Error("it is served")
		}
		m.want("n.phext", "the only copy")
	})
}

// TestOneDirectoryThatTheBucketDoesNotKnow keeps nobody from the others.
func TestOneDirectoryThatTheBucketDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{TB: t, root: t.TempDir(), bucket: bucket.NewMemory(), name: "a", idle: 1}
		m.start()
		synctest.Wait()
		m.write("n.phext", "text", "", true)
		m.end()
		unknown := filepath.Join(m.root, "srv", "idle0")
		m.check(os.MkdirAll(unknown, 0o700))
		m.check(os.WriteFile(filepath.Join(unknown, "x.phext"), []byte("unknown"), 0o600))
		m.start()
		defer func() { m.end() }()
		synctest.Wait()
		m.check(m.ds.CheckKnown(t.Context(), m.dirs))
		if log := m.log.String(); !strings.Contains(log, "a directory is not served") || !strings.Contains(log, unknown) {
			t.Error(log)
		}
		m.check(m.serve())
		m.want("n.phext", "text")
		if _, err := m.dirs.LockExclusive(t.Context(), unknown); err == nil {
			t.Error("it is served")
		}
	})
}

// TestTheFirstDirectoryIsGone from the bucket, which was there before: it keeps nobody from the
// others.
func TestTheFirstDirectoryIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{TB: t, root: t.TempDir(), bucket: bucket.NewMemory(), name: "a", idle: 1}
		m.start()
		synctest.Wait()
		m.write("n.phext", "text", "", true) // of the tenant that is the first
		second := filepath.Join(m.root, "srv", "idle0")
		m.check(os.MkdirAll(second, 0o700))
		unlock, err := m.dirs.LockExclusive(t.Context(), second)
		m.check(err)
		unlock()
		m.end()
		m.check(os.WriteFile(filepath.Join(second, "x.phext"), []byte("edited"), 0o600))
		gone, _, err := m.bucket.List(t.Context(), "dirs/will/", "", 100)
		m.check(err)
		for _, o := range gone {
			m.check(m.bucket.Delete(t.Context(), o.Key))
		}
		m.start()
		defer func() { m.end() }()
		synctest.Wait()
		m.check(m.ds.CheckKnown(t.Context(), m.dirs))
	})
}

// TestWhatIsNotPurged stays where a tenant is purged elsewhere: what somebody has put into the
// directory or changed there, and everything if others have had its path since.
func TestWhatIsNotPurged(t *testing.T) {
	for _, others := range []bool{false, true} {
		inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
			a, b := c.hosts["a"], c.hosts["b"]
			c.beginIncarnation()
			for _, file := range []string{"old.phext", "changed.phext"} {
				a.write(file, "secret", "", true)
			}
			dir := a.dirs.Of(a.tenant.DataDir)
			j, err := a.journal.Of(dir.Path)
			a.check(err)
			a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
			a.check(os.WriteFile(a.path("byhand.phext"), []byte("by hand"), 0o600))
			a.check(os.WriteFile(journal.BeforePath(a.path("aside.phext")), []byte("aside"), 0o600))
			a.check(os.WriteFile(a.path("changed.phext"), []byte("changed"), 0o600))
			if others {
				_, err := j.Claim(journal.Owners{Tenants: []string{"other"}})
				a.check(errors.Join(err, j.SettleClaim(dir.Path)))
			}
			b.check(b.serve())
			for _, file := range []string{"old.phext", "changed.phext"} {
				a.check(os.Remove(b.path(file)))
			}
			b.check(b.purge())
			a.snapshot.Store(a.noTenants())
			time.Sleep(2 * (lookAtLogs + time.Second))
			synctest.Wait()
			entries, err := os.ReadDir(dir.Path)
			a.check(err)
			if want := map[bool]int{true: 4}[others]; len(entries) != want {
				t.Errorf("path given to others %v: %d files are left, want %d", others, len(entries), want)
			}
			all := ""
			for _, path := range a.quarantined() {
				text, _ := os.ReadFile(path) // a journal is a directory
				all += string(text) + "|"
			}
			if want := map[bool]string{false: "aside|by hand|changed|"}[others]; all != want {
				t.Errorf("path given to others %v: set aside: %q", others, all)
			}
			if _, err := os.Stat(filepath.Join(a.root, "bucket", "will")); !errors.Is(err, os.ErrNotExist) {
				t.Error("the mark stays:", err)
			}
			if !others {
				return
			}
			if events, err := j.History(journal.Query{Limit: 1}); err != nil || len(events) > 0 {
				t.Errorf("%v, %v", events, err)
			}
		})
	}
}

// TestPurgedWhileAHostStoodStill has the earlier owner, which nobody has told, remove what it has.
func TestPurgedWhileAHostStoodStill(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		a, b := c.hosts["a"], c.hosts["b"]
		c.beginIncarnation()
		a.write("secret.phext", "secret", "", true)
		stoppedAt := a.Clock()
		stopped := func() time.Duration { return stoppedAt }
		a.clock.Store(&stopped)
		a.current().timer.Stop()
		a.cut.Store(true)
		time.Sleep(stillFor + 2*renewEvery)
		b.delete()
		b.check(b.purge())
		a.cut.Store(false)
		begun := time.Now()
		on := func() time.Duration { return stoppedAt + time.Since(begun) }
		a.clock.Store(&on)
		a.snapshot.Store(a.noTenants())
		time.Sleep(3 * (lookAtLogs + time.Second))
		synctest.Wait()
		if _, err := os.Stat(a.path("secret.phext")); !errors.Is(err, os.ErrNotExist) {
			t.Error("it is still there:", err)
		}
	})
}

// TestAMarkThatCannotBeRead keeps the host neither from serving nor from removing what others
// have purged, from its start on.
func TestAMarkThatCannotBeRead(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		a, b := c.hosts["a"], c.hosts["b"]
		c.beginIncarnation()
		a.write("secret.phext", "secret", "", true)
		a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
		a.end()
		a.check(os.WriteFile(filepath.Join(a.root, "bucket", "aaa"), nil, 0o600)) // is looked at before the other
		a.start()
		time.Sleep(2 * (lookAtLogs + time.Second))
		synctest.Wait()
		b.delete()
		b.check(b.purge())
		a.snapshot.Store(a.noTenants())
		time.Sleep(2 * (lookAtLogs + time.Second))
		synctest.Wait()
		if _, err := os.Stat(a.path("secret.phext")); !errors.Is(err, os.ErrNotExist) {
			t.Error("it is still there:", err)
		}
		if log := a.log.String(); !strings.Contains(log, "directory=aaa") {
			t.Error(log)
		}
	})
}

// secretsOf is what a machine still has of a text: in phexts, in journals, and set aside.
func (m *machine) secretsOf(text string) (found []string) {
	m.Helper()
	m.check(filepath.WalkDir(m.root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir() {
			return nil // it is written or removed meanwhile
		}
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), text) {
			found = append(found, strings.TrimPrefix(path, m.root))
		}
		return fsutil.IgnoreMissing(err)
	}))
	return found
}

// TestPurgedElsewhereAndBack has a tenant without an incarnation at two hosts, purged at the
// second, and another one that is called the same there. The first host removes what it has
// of the earlier one, although it may never have seen that there was none in between: when it
// takes the directory over, or by itself, or when it starts. Nothing is removed of one that
// was not purged, nor of what was acknowledged without the bucket.
func TestPurgedElsewhereAndBack(t *testing.T) {
	for _, test := range []struct {
		name           string
		purged, gone   bool
		serves, starts bool
		ahead          bool
	}{
		{name: "taken over", purged: true, gone: true, serves: true},
		{name: "by itself", purged: true, gone: true},
		{name: "at the start", purged: true, gone: true, starts: true},
		{name: "another key of the same tenant"},
		{name: "the same tenant, at the start", starts: true},
		{name: "the same tenant, taken over", serves: true},
		{name: "ahead, at the start", purged: true, starts: true, ahead: true},
		{name: "ahead, taken over", purged: true, starts: true, serves: true, ahead: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
				a, b := c.hosts["a"], c.hosts["b"]
				a.write("secret.phext", "SECRET", "key", true)
				a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
				for range 7 {
					a.check(a.calls.Admit(a.tenant, quota.Reads, time.Now()))
				}
				if test.starts {
					a.end()
				}
				b.check(b.serve())
				if test.purged {
					b.delete()
					b.check(b.purge())
					b.write("mine.phext", "mine", "", true)
				}
				if test.ahead {
					a.without = true
					a.start()
					a.edit("mine.phext", "acknowledged here")
					a.end()
					a.without = false
				}
				if a.key = "pmb-v1-ffffffffffffffffffffffffffffffff"; test.starts {
					a.start()
				} else {
					a.setTenants()
				}
				if synctest.Wait(); test.serves {
					b.check(b.ds.HandOver(t.Context(), b.tenant.DataDir, "a"))
					a.check(a.serve())
				} else {
					time.Sleep(2 * (lookAtLogs + time.Second))
					synctest.Wait()
				}
				if found := a.secretsOf("SECRET"); (len(found) == 0) != test.gone {
					t.Errorf("there is: %q", found)
				}
				if test.ahead {
					if found := a.secretsOf("acknowledged here"); len(found) == 0 {
						t.Error("what was acknowledged is gone")
					}
				}
				if n := a.calls.Of(a.tenant, time.Now()).Today; test.gone && n > 0 {
					t.Errorf("%d calls of the earlier tenant are counted", n)
				}
				if !test.serves {
					return
				}
				a.want("mine.phext", map[bool]string{true: "mine"}[test.purged])
				a.want("secret.phext", map[bool]string{false: "SECRET"}[test.purged])
				j, err := a.journal.Of(a.dirs.Of(a.tenant.DataDir).Path)
				a.check(err)
				events, err := j.History(journal.Query{Limit: 100})
				a.check(err)
				for _, e := range events {
					if test.purged && strings.Contains(e.File, "secret") {
						t.Errorf("in the history: %+v", e)
					}
				}
				if _, _, ok, _ := j.Answered(a.tenant.UniqueID(), "key"); ok == test.purged {
					t.Errorf("an answer is known: %v", ok)
				}
			})
		})
	}
}

// TestOldCopiesThatWereMoved with the data_dir are old copies there, too. What somebody has
// changed is not, and neither are they where a bucket is to begin.
func TestOldCopiesThatWereMoved(t *testing.T) {
	for _, changed := range []bool{false, true} {
		inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
			a, b := c.hosts["a"], c.hosts["b"]
			for _, file := range []string{"n.phext", "removed.phext"} {
				a.write(file, "old", "", true)
			}
			a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
			b.write("n.phext", "new", "", true)
			unlock, err := b.dirs.LockExclusive(t.Context(), b.tenant.DataDir)
			b.check(err)
			b.check(os.Remove(b.path("removed.phext")))
			b.check(b.service().FilesReplaced(b.tenant, b.tenant.DataDir, []string{"removed.phext"}, "", ""))
			unlock()
			a.check(os.Rename(filepath.Join(a.root, "srv", "data"), filepath.Join(a.root, "srv", "moved")))
			a.dir = "moved"
			a.setTenants()
			if changed {
				a.check(os.WriteFile(a.path("n.phext"), []byte("changed"), 0o600))
			}
			if err := a.ds.CheckKnown(t.Context(), a.dirs); errors.Is(err, ErrNotInBucket) != changed {
				t.Errorf("changed %v: %v", changed, err)
			}
			if err := a.ds.initOne(t.Context(), a.dirs, a.dirs.Of(a.tenant.DataDir), func(func(*Progress)) {}); !errors.Is(err, ErrNotInBucket) {
				t.Errorf("changed %v: they are put into the bucket: %v", changed, err)
			}
			b.check(b.ds.HandOver(t.Context(), b.tenant.DataDir, "a"))
			if err := a.serve(); (err == nil) == changed {
				t.Errorf("changed %v: %v", changed, err)
			}
			if changed {
				a.want("n.phext", "changed")
				return
			}
			a.want("n.phext", "new")
			a.want("removed.phext", "")
			if aside := a.quarantined(); len(aside) > 0 {
				t.Errorf("set aside: %q", aside)
			}
		})
	}
}

// share has a host know two tenants that share a directory. The files of one have its id in front.
func (m *machine) share(incarnation string) {
	m.Helper()
	dir := filepath.Join(m.root, "srv", "shared")
	snapshot, err := tenants.Parse(fmt.Appendf(nil, `{"tenants": [
		{"id": "will", "api_key": "pmb-v1-00112233445566778899aabbccddeeff", "data_dir": %q, "shared_data_dir": true, "incarnation": %q},
		{"id": "emi", "api_key": "pmb-v1-ffeeddccbbaa99887766554433221100", "data_dir": %q, "shared_data_dir": true}]}`, dir, incarnation, dir))
	m.check(err)
	m.snapshot.Store(snapshot)
	m.tenant, _ = snapshot.ByID("will")
	m.dir = "shared"
}

// TestAnIDThatIsUsedAgainInASharedDirectory: what another host still has of the earlier tenant,
// which was deleted and purged, is removed when that host takes the directory over, and so
// reaches nobody. What the others have stays.
func TestAnIDThatIsUsedAgainInASharedDirectory(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		a, b := c.hosts["a"], c.hosts["b"]
		first := tenants.NewIncarnation(time.Now())
		a.share(first)
		b.share(first)
		for _, file := range []string{"will.secret.phext", "will.again.phext", "emi.n.phext"} {
			a.write(file, "SECRET of "+file, "", true)
		}
		a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
		before := time.Now()
		b.delete()
		b.check(b.purge())
		time.Sleep(time.Second)
		later := tenants.NewIncarnation(time.Now())
		a.share(later)
		b.share(later)
		b.write("will.again.phext", "mine", "", true)
		time.Sleep(2 * (lookAtLogs + time.Second))
		synctest.Wait()
		b.check(b.ds.HandOver(t.Context(), b.tenant.DataDir, "a"))
		for file, want := range map[string]string{"will.secret.phext": "", "will.again.phext": "mine", "emi.n.phext": "SECRET of emi.n.phext"} {
			a.check(a.serve())
			a.want(file, want)
		}
		if aside := a.quarantined(); len(aside) > 0 {
			t.Errorf("set aside: %q", aside)
		}
		if _, err := a.service().Restore(t.Context(), a.tenant, history.Target{At: before}); err == nil {
			t.Error("what the earlier one had can be restored")
		}
	})
}
