package host

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
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
