package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/tenants"
)

// refuseGet returns what has the bucket fail whoever reads an object whose key has a part, until
// that is "".
func refuseGet(b *bucket.Memory) (set func(part string)) {
	var refused atomic.Pointer[string]
	b.Fault = func(op bucket.Op, key string) (f bucket.Fault) {
		if part := refused.Load(); op == bucket.OpGet && part != nil && *part != "" && strings.Contains(key, *part) {
			f.Refuse = bucket.ErrTemporary
		}
		return f
	}
	return func(part string) { refused.Store(&part) }
}

// TestAnotherHostCannotBeRead keeps nobody from taking over what a host that can be read has,
// once it is gone, nor from placing what nobody has.
func TestAnotherHostCannotBeRead(t *testing.T) {
	for _, seen := range []bool{true, false} {
		inCluster(t, []string{"a", "b", "gone"}, func(t *testing.T, c *cluster) {
			refuse := refuseGet(c.bucket)
			c.hosts["gone"].end()
			delete(c.hosts, "gone")
			time.Sleep(2 * renewEvery)
			a, b := c.hosts["a"], c.hosts["b"]
			a.write("n.phext", "text", "", true)
			if !seen {
				b.end()
			}
			refuse(hostKey("gone"))
			if !seen {
				b.start()
			}
			time.Sleep(10 * renewEvery)
			c.want("b", "n.phext", "text")
			said := map[bool]int{false: 1}[seen] // it is known to have ended, and is not asked for
			if n := strings.Count(b.log.String(), "cannot be read"); n != said {
				t.Errorf("%d lines in the log:\n%s", n, b.log)
			}
			a.kill()
			delete(c.hosts, "a")
			time.Sleep(stillFor + 2*renewEvery)
			c.want("b", "n.phext", "text")
			refuse("")
			time.Sleep(2 * renewEvery)
			if log := b.log.String(); strings.Count(log, "can be read again") != said {
				t.Error(log)
			}
		})
	}
}

// TestTheOwnerCannotBeRead by another host, for which it then neither lives nor is gone:
// nothing is taken over, and nothing new is placed there.
func TestTheOwnerCannotBeRead(t *testing.T) {
	for _, seen := range []bool{true, false} {
		inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
			refuse := refuseGet(c.bucket)
			a, b := c.hosts["a"], c.hosts["b"]
			a.write("n.phext", "text", "", true)
			if !seen {
				b.end()
			}
			refuse(hostKey("a"))
			if !seen {
				b.start()
				time.Sleep(renewEvery)
			}
			for begun := time.Now(); time.Since(begun) < 4*stillFor; time.Sleep(renewEvery) {
				if err := b.serve(); err == nil || c.owner() != "a" {
					t.Fatal("it was taken over:", err)
				}
				if text, err := c.read("b", "n.phext"); seen && (err != nil || text != "text") {
					t.Fatalf("%q, %v", text, err)
				}
			}
			if len(b.ds.candidates()) > 0 {
				t.Error("it is placed there")
			}
			a.write("n.phext", "more", "", true)
			a.kill()
			delete(c.hosts, "a")
			for begun := time.Now(); time.Since(begun) < 4*stillFor; time.Sleep(renewEvery) {
				if err := b.serve(); err == nil {
					t.Fatal("it was taken over")
				}
			}
			refuse("")
			time.Sleep(stillFor + 3*renewEvery)
			c.want("b", "n.phext", "more")
		})
	}
}

// TestItIsNotKnownWhoWasPurged while the bucket cannot say so: that is logged once, logs are
// compacted as usual, and what was purged is removed when the bucket can.
func TestItIsNotKnownWhoWasPurged(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		refuse := refuseGet(c.bucket)
		a, b := c.hosts["a"], c.hosts["b"]
		for _, m := range c.hosts {
			m.idle = 1
		}
		c.beginIncarnation()
		a.write("secret.phext", "secret", "", true)
		a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
		b.check(b.serve())
		b.delete()
		b.check(b.purge())
		refuse("/purged/")
		both := a.snapshot.Load()
		idle, _ := both.ByID("idle0")
		text, err := json.Marshal(map[string]any{"tenants": []any{map[string]any{"id": "idle0", "api_key": fmt.Sprintf("pmb-v1-%032x", 0), "data_dir": idle.DataDir}}})
		a.check(err)
		alone, err := tenants.Parse(text)
		a.check(err)
		secret := a.path("secret.phext")
		a.snapshot.Store(alone)
		a.tenant, _ = alone.ByID("idle0")
		a.check(a.serve())
		name, _, err := a.ds.nameOf(a.dirs.Of(idle.DataDir))
		a.check(err)
		one := a.ds.housekeeping.of(name)
		for range compactAfter + 1 {
			if _, err := one.log.Append(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(6 * lookAtLogs)
		synctest.Wait()
		if one.compacted.Load() == 0 {
			t.Error("the log of another directory is not compacted")
		}
		if n := strings.Count(a.log.String(), "is left for now"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, a.log)
		}
		if _, err := os.Stat(secret); err != nil {
			t.Error("it is removed, and nobody knows whether it was purged:", err)
		}
		refuse("")
		time.Sleep(lookAtLogs + askWithin + time.Second)
		synctest.Wait()
		if _, err := os.Stat(secret); !errors.Is(err, os.ErrNotExist) {
			t.Error("what was purged is there:", err)
		}
	})
}

// TestTheBucketCannotBeAskedAboutADirectory at the start: all others are served, and that one as
// soon as it can be asked about. While it can be asked about nothing, the start waits.
func TestTheBucketCannotBeAskedAboutADirectory(t *testing.T) {
	for _, test := range []struct {
		name   string
		refuse string // part of the keys
		lists  bool   // are refused too
		alone  bool   // there is no other directory
		marked bool
	}{
		{name: "one of two", refuse: "dirs/will/owner", marked: true},
		{name: "one of two, after the state was lost", refuse: "dirs/will/"},
		{name: "the other one", refuse: "dirs/idle0/", marked: true},
		{name: "the only one", refuse: "dirs/will/", alone: true, marked: true},
		{name: "the whole bucket", refuse: "/", lists: true, marked: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", idle: 1}
				refuse, lists := refuseGet(b), atomic.Bool{}
				gets := b.Fault
				b.Fault = func(op bucket.Op, key string) bucket.Fault {
					if lists.Load() && op == bucket.OpList {
						return bucket.Fault{Refuse: bucket.ErrTemporary}
					}
					return gets(op, key)
				}
				m.start()
				synctest.Wait()
				m.write("n.phext", "text", "", true)
				second := filepath.Join(m.root, "srv", "idle0")
				serve := func() error {
					unlock, err := m.dirs.LockExclusive(t.Context(), second)
					if err == nil {
						unlock()
					}
					return err
				}
				if !test.alone {
					m.check(os.MkdirAll(second, 0o700))
					m.check(serve())
					m.check(os.WriteFile(filepath.Join(second, "x.phext"), []byte("edited"), 0o600))
				}
				m.end()
				if !test.marked {
					m.check(os.RemoveAll(m.ds.MarkDir))
				}
				m.start()
				defer func() { m.end() }()
				synctest.Wait()
				refuse(test.refuse)
				lists.Store(test.lists)
				begun := time.Now()
				if test.lists {
					over := time.AfterFunc(time.Minute, func() { refuse(""); lists.Store(false) })
					defer over.Stop()
				}
				err := m.ds.CheckKnown(t.Context(), m.dirs)
				took := time.Since(begun)
				log := m.log.String()
				if test.lists {
					if err != nil || took < time.Minute || took > 2*time.Minute || strings.Count(log, "the bucket does not answer") != 1 {
						t.Errorf("%v, after %v\n%s", err, took, log)
					}
					return
				}
				path := m.dirs.Of(m.tenant.DataDir).Path
				if test.refuse == "dirs/idle0/" { // will is asked about first, and that is enough
					if err != nil || took > 0 {
						t.Errorf("%v, after %v", err, took)
					}
				} else if !errors.Is(err, ErrNotAsked) || took > askWithin+knownWithin || !strings.Contains(log, "not served before") || !strings.Contains(log, path) {
					t.Errorf("%v, after %v\n%s", err, took, log)
				}
				if err := serve(); !test.alone && test.marked && test.refuse != "dirs/idle0/" && err != nil {
					t.Error("the other one is not served:", err)
				}
				if test.refuse != "dirs/idle0/" {
					begun = time.Now()
					if err, took := m.serve(), time.Since(begun); err == nil || took > askWithin+time.Second {
						t.Errorf("whoever asks for it is told %v, after %v", err, took)
					}
				}
				refuse("")
				time.Sleep(pauseAtMost) // since the last attempt
				m.check(m.serve())
				m.want("n.phext", "text")
			})
		})
	}
}

// TestHostsThatHaveEnded are listed for ever, and cost no request each. One of them that comes
// back is seen, and so is its end.
func TestHostsThatHaveEnded(t *testing.T) {
	inCluster(t, []string{"a", "b", "c"}, func(t *testing.T, c *cluster) {
		a, b := c.hosts["a"], c.hosts["b"]
		lives := func() bool {
			w, ok := a.view.of("b")
			return ok && w.alive() && len(a.ds.candidates()) == 2
		}
		for range 3 {
			if !lives() {
				t.Fatal("it lives, and is not seen")
			}
			b.end()
			time.Sleep(2 * renewEvery)
			if lives() {
				t.Fatal("it has ended, and that is not seen")
			}
			c.bucket.Calls()
			time.Sleep(10 * renewEvery)
			if gets := c.bucket.Calls()[bucket.OpGet]; gets > 2*11 { // a and c look at each other
				t.Errorf("%d requests", gets)
			}
			b.start()
			time.Sleep(2 * renewEvery)
		}
	})
}
