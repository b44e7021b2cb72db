package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

// cluster is machines that share a bucket, and forward requests to each other.
type cluster struct {
	testing.TB
	bucket *bucket.Memory
	hosts  map[string]*machine
}

func newCluster(t testing.TB, names ...string) *cluster {
	c := &cluster{TB: t, bucket: bucket.NewMemory(), hosts: map[string]*machine{}}
	for _, name := range names {
		c.add(name)
	}
	return c
}

func (c *cluster) add(name string) *machine { return c.start(name, false) }

// addWithPresence is add for a machine that notices a missing volume.
func (c *cluster) addWithPresence(name string) *machine { return c.start(name, true) }

func (c *cluster) start(name string, presence bool) *machine {
	m := &machine{TB: c.TB, root: c.TempDir(), bucket: c.bucket, name: name, history: 30 * 24 * time.Hour, many: true, presence: presence}
	m.start()
	c.hosts[name] = m
	synctest.Wait()
	time.Sleep(renewEvery + time.Millisecond) // until all have seen it
	synctest.Wait()
	return m
}

func (c *cluster) end() {
	for _, m := range c.hosts {
		m.end()
	}
}

// at has a request that comes to one host done where it belongs: what a gateway does.
func (c *cluster) at(from string, do func(*machine) error) error {
	var last error
	for range 3 {
		m := c.hosts[from]
		to, here, err := m.ds.Route(context.Background(), m.tenant.DataDir)
		if err != nil {
			return err
		}
		if !here {
			other := c.hosts[to.Name]
			if other == nil || other.Incarnation != to.Incarnation || other.killed.Load() {
				m.Unreachable(to.Name)
				m.ds.Forget(m.tenant.DataDir)
				last = datadir.ErrMoved
				continue
			}
			if ok, err := other.ds.Accepts(context.Background(), other.tenant.DataDir); err != nil {
				return err
			} else if !ok {
				m.ds.Forget(m.tenant.DataDir)
				last = datadir.ErrMoved
				continue
			}
			m = other
		}
		if last = do(m); !errors.Is(last, datadir.ErrMoved) {
			return last
		}
		c.hosts[from].ds.Forget(c.hosts[from].tenant.DataDir)
	}
	return last
}

func (c *cluster) write(from, file, text string) error {
	return c.at(from, func(m *machine) error { return m.tryWrite(file, text) })
}

func (c *cluster) read(from, file string) (text string, err error) {
	err = c.at(from, func(m *machine) error {
		v, err := m.dirs.Of(m.tenant.DataDir).RecoveredView(context.Background(), m.call(file))
		if err == nil {
			text = v.Phext.Text()
		}
		return err
	})
	return text, err
}

func (c *cluster) want(from, file, text string) {
	c.Helper()
	if got, err := c.read(from, file); err != nil || got != text {
		c.Errorf("%s at %s is %q, %v; want %q", file, from, got, err, text)
	}
}

// owner is the one host that owns the directory, or "".
func (c *cluster) owner() (name string) {
	c.Helper()
	for _, m := range c.hosts {
		if m.dirs.Of(m.tenant.DataDir).Owned() {
			if name != "" {
				c.Errorf("both %s and %s serve the directory", name, m.name)
			}
			name = m.name
		}
	}
	return name
}

// other is a host that does not own the directory.
func (c *cluster) other() string {
	owner := c.owner()
	for name := range c.hosts {
		if name != owner {
			return name
		}
	}
	return ""
}

// tryWrite is a write as the writer makes it, with the file frozen for readers until it is
// in the bucket.
func (m *machine) tryWrite(file, text string) error {
	d, j, unlock, err := m.lock(file)
	if err != nil {
		return err
	}
	r, err := d.Replica()
	if err != nil {
		unlock()
		return err
	}
	before, err := m.dirs.NewestFile(m.path(file))
	m.check(err)
	frozen := m.dirs.Cache.Freeze(map[string]*cache.Version{m.path(file): before})
	mutation, v, p := m.journaled(j, file, text, text)
	after := map[string]*cache.Version{m.path(file): v}
	frozen.Written(after)
	r.Add([]journal.Mutation{mutation}, datadir.Known(v), p.Time())
	uploading := r.Uploaded()
	unlock()
	if err = uploading.Wait(); err != nil {
		after = nil
	}
	frozen.Publish(after)
	return err
}

func inCluster(t *testing.T, names []string, test func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, names...)
		defer c.end()
		test(t, c)
	})
}

// TestTwoHosts share a directory: one owns it, requests at the other go there. When the
// owner dies, the other takes it over, but not before its heartbeat stood still for 12 s.
func TestTwoHosts(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		for i := range 10 {
			for _, from := range []string{"a", "b"} {
				text := fmt.Sprint(from, i)
				if err := c.write(from, "n.phext", text); err != nil {
					t.Fatal(err)
				}
				c.want("a", "n.phext", text)
				c.want("b", "n.phext", text)
			}
		}
		owner, other := c.owner(), c.other()
		peers := c.hosts[other].Peers()
		if len(peers) != 2 || !peers[0].Alive || !peers[1].Alive || peers[0].Name != "a" {
			t.Errorf("%+v", peers)
		}
		time.Sleep(2 * renewEvery)
		for _, p := range c.hosts[other].Peers() {
			if p.Directories != map[string]int{owner: 1}[p.Name] {
				t.Errorf("%+v", p)
			}
		}
		c.hosts[owner].kill()
		lost := time.Now()
		delete(c.hosts, owner)
		for {
			err := c.write(other, "n.phext", "after")
			if err == nil {
				break
			}
			if !errors.Is(err, datadir.ErrMoved) {
				t.Fatal(err)
			}
			if time.Since(lost) > 20*time.Second {
				t.Fatal("nobody takes it over", err)
			}
			time.Sleep(time.Second / 4)
		}
		// The last heartbeat came up to renewEvery before the end.
		if took := time.Since(lost); took < stillFor-renewEvery || took > stillFor+2*renewEvery {
			t.Errorf("it took %v", took)
		}
		c.want(other, "n.phext", "after")
	})
}

// TestHandOverBothWays moves a directory back and forth, with writers and a reader at both
// hosts all the time. No request fails, no write is lost, and no read is stale.
func TestHandOverBothWays(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		c.bucket.Fault = func(bucket.Op, string) bucket.Fault { return bucket.Fault{Delay: 5 * time.Millisecond} }
		stop := make(chan struct{})
		var running sync.WaitGroup
		var requests atomic.Int64
		for _, from := range []string{"a", "b"} {
			var acknowledged atomic.Int64
			file := from + ".phext"
			running.Go(func() {
				for i := int64(1); ; i++ {
					select {
					case <-stop:
						c.want(from, file, fmt.Sprint(i-1))
						return
					case <-time.After(7 * time.Millisecond):
					}
					if err := c.write(from, file, fmt.Sprint(i)); err != nil {
						t.Error("a write failed:", err)
						return
					}
					acknowledged.Store(i)
					requests.Add(1)
				}
			})
			for _, at := range []string{"a", "b"} {
				running.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(3 * time.Millisecond):
						}
						least, got := acknowledged.Load(), int64(0)
						text, err := c.read(at, file)
						if _, scan := fmt.Sscan(text, &got); err != nil || least > 0 && (scan != nil || got < least) {
							t.Errorf("read %q, %v, and %d was acknowledged before", text, err, least)
						}
						requests.Add(1)
					}
				})
			}
		}
		time.Sleep(time.Second)
		for range 20 {
			from, to := c.owner(), c.other()
			begun := time.Now()
			if err := c.hosts[from].ds.HandOver(t.Context(), c.hosts[from].tenant.DataDir, to); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("a hand-over took %v", took)
			}
			time.Sleep(300 * time.Millisecond)
			if now := c.owner(); now != to {
				t.Errorf("%q has it, and not %s", now, to)
			}
		}
		close(stop)
		running.Wait()
		if n := requests.Load(); n < 2000 {
			t.Errorf("only %d requests", n)
		}
		for _, m := range c.hosts {
			if strings.Contains(m.log.String(), "set aside") {
				t.Error(m.log.String())
			}
		}
	})
}
