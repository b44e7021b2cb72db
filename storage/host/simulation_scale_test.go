package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
)

// TestScale measures what hosts and tenants cost at the bucket, and how long it takes until
// the tenants of a host that ends or dies are served by others. Nothing goes wrong
// otherwise, and each request takes 8 to 12 ms. SQTEST_SCALE=1 has it measure the table in
// docs/scaling.md.
func TestScale(t *testing.T) {
	sizes := [][2]int{{3, 30}}
	if os.Getenv("SQTEST_SCALE") != "" {
		sizes = [][2]int{{3, 100}, {3, 1000}, {10, 1000}, {20, 1000}, {50, 1000}, {3, 10_000}}
	}
	sq := startSQ(t)
	t.Log(scaleHead)
	for _, size := range sizes {
		m := measure(t, sq, size[0], size[1])
		t.Log(m)
		if m.perWrite != 1 || m.idle > 30*float64(m.hosts) || m.idle < 28*float64(m.hosts) {
			t.Errorf("%d hosts, %d tenants: %.2f requests for a write, and %.1f in an idle minute", m.hosts, m.tenants, m.perWrite, m.idle)
		}
		if worst := m.killed.at(100); worst > 20*time.Second || m.killed.at(0) < leaseFor {
			t.Errorf("after a kill, served after %v to %v", m.killed.at(0), worst)
		}
		if worst := m.ended.at(100); worst > 2*time.Second {
			t.Errorf("after a clean end, served after %v", worst)
		}
	}
}

// durations are sorted.
type durations []time.Duration

func (d durations) at(percent int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return d[(len(d)-1)*percent/100]
}

type measured struct {
	hosts, tenants int
	perWrite       float64 // requests
	idle           float64 // requests in a minute of all hosts
	claim          float64 // requests for the first write of a tenant
	ended, killed  durations
	perKilled      float64 // requests for a tenant of a host that was killed
}

const scaleHead = "\n| hosts | tenants | first write | write | idle minute | clean end: median, worst | kill: median, 99 %, worst | requests for each tenant of it |\n|---|---|---|---|---|---|---|---|\n"

func (m measured) String() string {
	round := func(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
	return fmt.Sprintf("| %d | %d | %.1f | %.2f | %.0f | %s, %s | %s, %s, %s | %.1f |\n", m.hosts, m.tenants, m.claim, m.perWrite, m.idle,
		round(m.ended.at(50)), round(m.ended.at(100)), round(m.killed.at(50)), round(m.killed.at(99)), round(m.killed.at(100)), m.perKilled)
}

func measure(t *testing.T, sq *sqServers, hosts, tenants int) (m measured) {
	s := &simulation{plan: plan{seed: 1, hosts: hosts, tenants: tenants, length: time.Hour, history: time.Hour, calm: true}, T: t, sq: sq, root: temporary(t), requests: map[bucket.Op]int{}}
	m = measured{hosts: hosts, tenants: tenants}
	synctest.Test(t, func(*testing.T) {
		s.begun, s.over = time.Now(), make(chan struct{})
		s.bucket = bucket.NewMemory()
		for i := range hosts {
			s.hosts = append(s.hosts, &simHost{simulation: s, name: fmt.Sprint("h", i), number: i, root: filepath.Join(s.root, fmt.Sprint("h", i))})
			s.hosts[i].start()
		}
		time.Sleep(time.Second)
		all := make([]int, tenants)
		for i := range all {
			all[i] = i
		}
		s.lookAtRequests()
		s.writeAll(0, all, func(i int) *simHost { return s.hosts[i%hosts] })
		m.claim = float64(s.lookAtRequests()) / float64(tenants)
		s.writeAll(1, all, func(i int) *simHost { return s.hosts[i%hosts] })
		m.perWrite = float64(s.lookAtRequests()) / float64(tenants)
		time.Sleep(time.Minute)
		s.mu.Lock()
		for _, n := range s.requests {
			m.idle += float64(n)
		}
		s.mu.Unlock()
		of := func(host int) (all []int) {
			for i := host; i < tenants; i += hosts {
				all = append(all, i)
			}
			return all
		}
		s.closing.Store(true)
		s.hosts[0].finish(0)
		m.ended = s.writeAll(2, of(0), func(i int) *simHost { return s.hosts[1+s.draw("other", i, s.now()).IntN(hosts-1)] })
		last := hosts - 1
		s.lookAtRequests()
		s.hosts[last].kill()
		m.killed = s.writeAll(3, of(last), func(i int) *simHost { return s.hosts[1+s.draw("other", i, s.now()).IntN(hosts-2)] })
		m.perKilled = float64(s.lookAtRequests()) / float64(len(m.killed))
		for _, h := range s.hosts {
			h.kill()
		}
		close(s.over)
		s.flights.Wait()
		for _, h := range s.hosts {
			h.bury()
		}
	})
	sq.forget(s.root)
	if err := os.RemoveAll(s.root); err != nil {
		t.Error(err)
	}
	if err := s.failed(); err != nil {
		t.Error(err)
	}
	return m
}

// lookAtRequests is how many there were since the last time, without those of leases.
func (s *simulation) lookAtRequests() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for op, calls := range s.requests {
		if op != leaseRenewal {
			n += calls
		}
	}
	clear(s.requests)
	return n
}

// leaseRenewal is what renewals are counted as.
const leaseRenewal bucket.Op = "renew"

func opOf(op bucket.Op, key string) bucket.Op {
	if op == bucket.OpPut && strings.HasPrefix(key, "hosts/") {
		return leaseRenewal
	}
	return op
}

// writeAll writes to all these tenants, each until it succeeds, and says how long it took.
// They begin within a second.
func (s *simulation) writeAll(n int, all []int, host func(int) *simHost) (took durations) {
	var mu sync.Mutex
	var writing sync.WaitGroup
	begun := s.now()
	for _, i := range all {
		writing.Go(func() {
			time.Sleep(between(s.draw("begin", n, i), 1, time.Second))
			for try := 0; s.now() < s.length; try++ {
				c := &client{simulation: s, number: i, last: map[register]string{}, at: host(i)}
				if c.write(1000*n+try, register{tenant: i}, 30*time.Second) {
					break
				}
				time.Sleep(between(s.draw("pause", n, i, try), 50*time.Millisecond, 200*time.Millisecond))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, s.now()-begun)
		})
	}
	writing.Wait()
	slices.Sort(took)
	return took
}
