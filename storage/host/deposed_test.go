package host

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
)

// TestAPausedHost is stopped, with its clock or without, while another host takes its
// directory over. It can acknowledge nothing, and what it wrote is set aside if it takes
// the directory back, which it can in the same process.
func TestAPausedHost(t *testing.T) {
	for name, clockStops := range map[string]bool{"its clock goes on": false, "its clock stops": true} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
				if err := c.write("a", "n.phext", "before"); err != nil {
					t.Fatal(err)
				}
				a, other := c.hosts[c.owner()], c.other()
				stoppedAt := a.Clock()
				stopped := func() time.Duration { return stoppedAt }
				if clockStops {
					a.clock.Store(&stopped) // as that of a virtual machine
					a.current().timer.Stop()
				}
				a.cut.Store(true)
				time.Sleep(stillFor + 2*renewEvery)
				if err := c.hosts[other].ds.HandOver(t.Context(), c.hosts[other].tenant.DataDir, a.name); !errors.Is(err, ErrNoSuchHost) {
					t.Error("it was given to a host that is gone:", err)
				}
				if err := c.write(other, "n.phext", "after"); err != nil {
					t.Fatal(err)
				}
				stops := a.stops.Load()
				a.cut.Store(false)
				d := a.dirs.Of(a.tenant.DataDir)
				if d.Owned() != clockStops {
					t.Errorf("the paused host serves the directory: %v", d.Owned())
				}
				if clockStops {
					if err := a.tryWrite("n.phext", "lost"); !errors.Is(err, datadir.ErrMoved) {
						t.Error("a deposed host has acknowledged a write:", err)
					}
					begun := time.Now()
					on := func() time.Duration { return stoppedAt + time.Since(begun) }
					a.clock.Store(&on)
				}
				if d.Owned() {
					t.Error("a deposed host goes on")
				}
				if n := a.ds.Deposed(); clockStops && n != 1 {
					t.Errorf("it was deposed %d times", n)
				}
				time.Sleep(4 * renewEvery)
				if clockStops && a.stops.Load() == stops {
					t.Error("its child was not stopped")
				}
				for _, at := range []string{"a", "b"} {
					c.want(at, "n.phext", "after")
				}
				if c.owner() != other {
					t.Errorf("%q has it", c.owner())
				}
				if n, others := a.ds.Deposed(), c.hosts[other].ds.Deposed(); n != 1 || others != 0 {
					t.Errorf("it was deposed %d times, and the other one %d times", n, others)
				}
				if err := c.hosts[other].ds.HandOver(t.Context(), c.hosts[other].tenant.DataDir, a.name); err != nil {
					t.Fatal(err)
				}
				c.want(other, "n.phext", "after")
				if err := c.write(other, "n.phext", "back"); err != nil || c.owner() != a.name {
					t.Errorf("it does not come back: %v, %q", err, c.owner())
				}
				c.want(other, "n.phext", "back")
				if entries := a.quarantined(); len(entries) > 0 != clockStops {
					t.Errorf("set aside: %q", entries)
				}
			})
		})
	}
}

// TestAHostThatSawNothing because it was stopped does not take that for silence of the
// others, whether they moved meanwhile or not.
func TestAHostThatSawNothing(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		if err := c.write("a", "n.phext", "one"); err != nil {
			t.Fatal(err)
		}
		owner, other := c.owner(), c.other()
		running := *c.hosts[other].clock.Load()
		later := func() time.Duration { return running() + time.Hour }
		c.hosts[other].clock.Store(&later)
		to, here, err := c.hosts[other].ds.Route(t.Context(), c.hosts[other].tenant.DataDir)
		if here || err != nil || to.Name != owner {
			t.Errorf("%+v, here %v, %v", to, here, err)
		}
		if err := c.hosts[other].serve(); !errors.Is(err, datadir.ErrMoved) {
			t.Error("it has taken over from a host that lives:", err)
		}
		time.Sleep(2 * renewEvery)
		c.want(other, "n.phext", "one")
	})
}

// TestAHandOverLeavesLittleToRead however long the log is: whoever takes the directory over
// reads it while everybody waits. What a host has left behind is no more than old when the
// directory comes back, although the log does not say so any more.
func TestAHandOverLeavesLittleToRead(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		for i := range 3 * mostToRead {
			if err := c.write("a", "n.phext", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		owner, other := c.hosts[c.owner()], c.hosts[c.other()]
		if err := owner.ds.HandOver(t.Context(), owner.tenant.DataDir, other.name); err != nil {
			t.Fatal(err)
		}
		c.want(other.name, "n.phext", fmt.Sprint(3*mostToRead-1))
		name, _, err := other.ds.nameOf(other.dirs.Of(other.tenant.DataDir))
		if err != nil {
			t.Fatal(err)
		}
		one := other.ds.housekeeping.of(name)
		if one == nil || one.log.End() <= 3*mostToRead || one.log.End()-one.compacted.Load() > mostToRead {
			t.Fatalf("it had to read %d of %d objects", one.log.End()-one.compacted.Load(), one.log.End())
		}
		for i := range 2 * mostToRead {
			if err := c.write("a", "n.phext", fmt.Sprint("there ", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := other.ds.HandOver(t.Context(), other.tenant.DataDir, owner.name); err != nil {
			t.Fatal(err)
		}
		c.want(owner.name, "n.phext", fmt.Sprint("there ", 2*mostToRead-1))
		if entries := owner.quarantined(); c.owner() != owner.name || len(entries) > 0 {
			t.Errorf("%q has it, and has set aside %q", c.owner(), entries)
		}
	})
}

// TestDrain hands everything over to the others, which know before. A host that is drained
// takes nothing over as long as another one can, and serves again afterwards.
func TestDrain(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		for i := range 10 {
			owner := c.owner()
			if owner == "" {
				owner = "a"
			}
			other := map[string]string{"a": "b", "b": "a"}[owner]
			if err := c.hosts[owner].ds.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if c.owner() == owner {
				t.Fatal("a drained host has the directory")
			}
			if err := c.hosts[owner].serve(); i > 0 && !errors.Is(err, datadir.ErrMoved) {
				t.Error("a drained host takes a directory over:", err)
			}
			text := string(rune('a' + i))
			for _, from := range []string{owner, other} {
				if err := c.write(from, "n.phext", text+from); err != nil {
					t.Fatal(err)
				}
				c.want(owner, "n.phext", text+from)
				c.want(other, "n.phext", text+from)
			}
			if c.owner() != other {
				t.Errorf("round %d: %q has it, and not %s", i, c.owner(), other)
			}
			if err := c.hosts[owner].ds.Undrain(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(renewEvery)
		}
		for _, m := range c.hosts {
			if err := m.ds.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * renewEvery)
		if err := c.write("a", "n.phext", "all are drained"); err != nil {
			t.Error("nobody serves, because all are drained:", err)
		}
	})
}

// TestALeaseThatIsRegained goes on with what nobody has taken.
func TestALeaseThatIsRegained(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		if err := c.write("a", "n.phext", "one"); err != nil {
			t.Fatal(err)
		}
		owner := c.hosts[c.owner()]
		owner.cut.Store(true)
		time.Sleep(leaseFor + renewEvery)
		if owner.dirs.Of(owner.tenant.DataDir).Owned() {
			t.Error("it serves without a lease")
		}
		owner.cut.Store(false)
		time.Sleep(renewEvery)
		if err := c.write("b", "n.phext", "two"); err != nil {
			t.Fatal(err)
		}
		c.want("a", "n.phext", "two")
		if c.owner() != owner.name {
			t.Errorf("%q has it", c.owner())
		}
	})
}

// TestTheNextHost cannot be reached, or has died: another one takes the directory over.
func TestTheNextHost(t *testing.T) {
	inCluster(t, []string{"a", "b", "c"}, func(t *testing.T, c *cluster) {
		if err := c.write("a", "n.phext", "one"); err != nil {
			t.Fatal(err)
		}
		owner, next := c.owner(), c.other()
		if err := c.hosts[owner].ds.HandOver(t.Context(), c.hosts[owner].tenant.DataDir, next); err != nil {
			t.Fatal(err)
		}
		c.hosts[next].kill()
		delete(c.hosts, next)
		time.Sleep(leaseFor + renewEvery) // until then it is waited for where nobody has tried to reach it
		for name := range c.hosts {
			if err := c.write(name, "n.phext", name); err != nil {
				t.Error(err)
			}
			c.want(name, "n.phext", name)
		}
		if c.owner() == "" {
			t.Error("nobody has it")
		}
	})
}

// TestTheNextHostDrains before it has what was handed over to it, so another one takes that.
func TestTheNextHostDrains(t *testing.T) {
	inCluster(t, []string{"a", "b", "c"}, func(t *testing.T, c *cluster) {
		if err := c.write("a", "n.phext", "one"); err != nil {
			t.Fatal(err)
		}
		owner, next := c.owner(), c.other()
		if err := c.hosts[owner].ds.HandOver(t.Context(), c.hosts[owner].tenant.DataDir, next); err != nil {
			t.Fatal(err)
		}
		if err := c.hosts[next].ds.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * renewEvery) // the others see it
		for name := range c.hosts {
			if err := c.write(name, "n.phext", name); err != nil {
				t.Errorf("at %s: %v", name, err)
			}
		}
		if c.owner() == "" || c.owner() == next {
			t.Errorf("%q has it", c.owner())
		}
	})
}

// TestRendezvous spreads directories evenly, and a host that comes or goes moves only its
// own.
func TestRendezvous(t *testing.T) {
	h := &Directories{Host: newHost(bucket.NewMemory(), "none")}
	h.Many = true
	see := func(names ...string) {
		h.view.watched = nil
		for _, name := range names {
			o := newHost(h.Bucket, name)
			o.URL = "https://" + name
			h.view.observe(name, o.object(), "", h.clock(), h.clock)
		}
	}
	count := func(dirs int) (all []string, counts map[string]int) {
		counts = map[string]int{}
		for i := range dirs {
			r := h.choose(string(rune('a'+i%26))+time.Duration(i).String(), object.Owner{})
			all = append(all, r.host)
			counts[r.host]++
		}
		return all, counts
	}
	see("a", "b", "c")
	three, counts := count(3000)
	for name, n := range counts {
		if n < 900 || n > 1100 {
			t.Errorf("%s has %d of 3000", name, n)
		}
	}
	see("a", "b")
	two, _ := count(3000)
	for i := range three {
		if three[i] != "c" && two[i] != three[i] {
			t.Fatal("a directory has moved from", three[i], "to", two[i])
		}
	}
}

// TestAnAnswerThatComesLate shows how things were when it was asked for. What this process
// did not see, since it was stopped, is no silence.
func TestAnAnswerThatComesLate(t *testing.T) {
	var v view
	now := time.Duration(0)
	clock := func() time.Duration { return now }
	o := object.Host{Name: "b", Incarnation: "1", Counter: 7}
	now = time.Minute
	v.observe("b", o, "7", 0, clock) // asked for a minute ago
	begun := now + time.Second
	now += time.Hour // the next answer comes late, or this process was stopped
	if w := v.observe("b", o, "7", begun, clock); w.ended("1") || !w.alive() {
		t.Errorf("%+v", w)
	}
	if w := v.observe("b", o, "7", time.Minute+stillFor, clock); !w.ended("1") || w.alive() {
		t.Errorf("%+v", w)
	}
	o.Incarnation, o.Counter = "2", 1
	now += time.Second
	seen := now
	v.observe("b", o, "1", now, clock)
	o.Counter++
	if w := v.observe("b", o, "2", seen+stillFor-1, clock); w.ended("1") || !w.alive() {
		t.Errorf("an earlier process: %+v", w)
	}
	o.Counter++
	now = seen + stillFor
	if w := v.observe("b", o, "3", now, clock); !w.ended("1") || w.ended("2") {
		t.Errorf("an earlier process: %+v", w)
	}
}
