package host

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

// moveTo gives will another directory, to which everything was moved.
func (m *machine) moveTo(dir string) {
	m.Helper()
	from := m.path("")
	m.dir = dir
	m.check(os.Rename(from, m.path("")))
	m.setTenants()
}

// TestOldCopiesAreMoved to another directory on a host that gave them away, or lost them: they are
// replaced by what the bucket has, as without that.
func TestOldCopiesAreMoved(t *testing.T) {
	for _, test := range []struct {
		name    string
		running bool // it is moved while sqgate runs
		lost    bool // it was not handed over
	}{{name: "while it runs", running: true}, {name: "before a start"}, {name: "after a crash", lost: true}} {
		t.Run(test.name, func(t *testing.T) {
			inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
				a, b := c.hosts["a"], c.hosts["b"]
				for _, file := range []string{"same.phext", "changed.phext", "removed.phext"} {
					a.write(file, "one", "", true)
				}
				if test.lost {
					a.kill()
					time.Sleep(stillFor + 2*renewEvery)
				} else {
					a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
				}
				b.write("changed.phext", "two", "", true)
				d, _, unlock, err := b.lock("removed.phext")
				b.check(err)
				r, err := d.Replica()
				b.check(err)
				b.check(os.Remove(b.path("removed.phext")))
				r.Add([]journal.Mutation{{File: "removed.phext", Op: journal.Remove}}, datadir.KnownFile{}, 0)
				b.check(r.Uploaded().Wait())
				unlock()
				if !test.running && !test.lost {
					a.end()
				}
				a.moveTo("elsewhere")
				if a.killed.Store(false); !test.running {
					a.start()
				}
				time.Sleep(2 * renewEvery)
				synctest.Wait()
				a.check(a.ds.CheckKnown(t.Context(), a.dirs))
				if refused := a.ds.Refused(); len(refused) > 0 {
					t.Errorf("%v", refused)
				}
				b.check(b.ds.HandOver(t.Context(), b.tenant.DataDir, "a"))
				a.check(a.serve())
				for file, text := range map[string]string{"same.phext": "one", "changed.phext": "two", "removed.phext": ""} {
					a.want(file, text)
				}
				if aside := a.quarantined(); len(aside) > 0 && !test.lost {
					t.Errorf("set aside: %q", aside)
				}
				a.write("changed.phext", "three", "", true)
				a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
				c.want("b", "changed.phext", "three")
			})
		})
	}
}

// TestAnotherDirectory is not taken for one that was moved.
func TestAnotherDirectory(t *testing.T) {
	for name, prepare := range map[string]func(a *machine){
		"a copy": func(a *machine) {
			from := a.path("")
			a.dir = "elsewhere"
			a.check(os.CopyFS(a.path(""), os.DirFS(from)))
		},
		"something new": func(a *machine) {
			a.moveTo("elsewhere")
			a.edit("mine.phext", "never in the bucket")
		},
		"a change": func(a *machine) {
			a.moveTo("elsewhere")
			a.edit("n.phext", "never in the bucket")
		},
		"others' phexts": func(a *machine) {
			a.check(os.RemoveAll(a.path("")))
			a.dir = "elsewhere"
			for _, file := range []string{"x.phext", "y.phext", "n.phext"} {
				a.edit(file, "of somebody else")
			}
		},
		"the path was somebody else's": func(a *machine) {
			j, err := a.journal.Of(a.path(""))
			a.check(err)
			a.moveTo("elsewhere")
			_, err = j.Claim(journal.Owners{Tenants: []string{"another"}})
			a.check(err)
			a.check(j.SettleClaim(a.root))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
				a, b := c.hosts["a"], c.hosts["b"]
				a.write("n.phext", "one", "", true)
				a.kill()
				time.Sleep(stillFor + 2*renewEvery)
				b.write("n.phext", "two", "", true)
				a.killed.Store(false)
				a.start()
				time.Sleep(2 * renewEvery)
				synctest.Wait()
				prepare(a)
				a.setTenants()
				before, err := os.ReadFile(a.path("n.phext"))
				a.check(err)
				b.check(b.ds.HandOver(t.Context(), b.tenant.DataDir, "a"))
				if err := a.serve(); err == nil || !errors.Is(a.ds.Refused()[a.path("")], ErrNotInBucket) {
					t.Errorf("it is served: %v, %v", err, a.ds.Refused())
				}
				a.want("n.phext", string(before))
			})
		})
	}
}

// TestADirectoryThatIsAheadIsMoved and loses nothing that was acknowledged. If it is not just what
// the journal has seen last, nothing is done with it.
func TestADirectoryThatIsAheadIsMoved(t *testing.T) {
	for _, older := range []bool{false, true} {
		for _, without := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				m := newMachineThatMayBeAhead(t, b)
				synctest.Wait()
				for _, file := range []string{"same.phext", "changed.phext", "removed.phext"} {
					m.write(file, "one", "", true)
				}
				synctest.Wait()
				if without {
					m.end()
					m.without = true
					m.start()
				}
				m.write("changed.phext", "two", "", false)
				m.write("new.phext", "three", "", false)
				m.remove("removed.phext")
				if without {
					m.end()
					m.without = false
				} else {
					m.crash()
				}
				m.moveTo("elsewhere")
				if older {
					m.edit("changed.phext", "one") // from a backup, say
					m.check(os.Chtimes(m.path("changed.phext"), time.Unix(1, 0), time.Unix(1, 0)))
				}
				m.start()
				synctest.Wait()
				err := m.serve()
				if older {
					if err == nil {
						t.Error("it is served")
					}
					m.want("new.phext", "three")
					m.end()
					return
				}
				if m.end(); err != nil {
					t.Fatal(err)
				}
				next := newMachine(t, b, "b")
				defer next.end()
				synctest.Wait()
				next.check(next.serve())
				for file, text := range map[string]string{"same.phext": "one", "changed.phext": "two", "new.phext": "three", "removed.phext": ""} {
					next.want(file, text)
				}
			})
		}
	}
}
