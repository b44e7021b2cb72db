package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
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
			if n := strings.Count(b.log.String(), "cannot be read"); n != 1 {
				t.Errorf("%d lines in the log:\n%s", n, b.log)
			}
			a.kill()
			delete(c.hosts, "a")
			time.Sleep(stillFor + 2*renewEvery)
			c.want("b", "n.phext", "text")
			refuse("")
			time.Sleep(2 * renewEvery)
			if log := b.log.String(); !strings.Contains(log, "can be read again") {
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
