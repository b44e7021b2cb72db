package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/admin"
	"mirrorborn.us/sqgate/internal/registertest"
	"mirrorborn.us/sqgate/internal/s3test"
)

// TestPartitions has three hosts, the server of their bucket and HAProxy, each with a network
// of its own, and ten tenants with 100 requests a second. Each event happens once, in an order
// that the seed says. All that clients were told is linearizable, so that nothing acknowledged
// is lost and no read is stale.
//
//	SQTEST_PARTITION=1  (or a seed)
func TestPartitions(t *testing.T) {
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SQTEST_PARTITION"), "0"), 10, 64)
	if err != nil {
		t.Fatal("SQTEST_PARTITION: 1 or a seed is wanted")
	}
	if seed == 0 {
		t.Skip("NO PARTITIONS: SQTEST_PARTITION is not set; .ci/partitions installs what it takes, and sets it")
	}
	if seed == 1 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	c := newPartitioned(t, rand.New(rand.NewPCG(seed, 0)))
	all := c.events()
	c.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, e := range append(all, c.theEnd()) {
		c.happen(e)
	}
	close(c.traffic.stop)
	c.traffic.group.Wait()
	c.readAll()
	c.traffic.mu.Lock()
	defer c.traffic.mu.Unlock()
	t.Logf("%d calls of clients are checked\n%s", len(c.traffic.history), c.table)
	if err := registertest.Check(c.traffic.history, time.Minute); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
}

// partitioned is the service, the clients, and what happens.
type partitioned struct {
	t       *testing.T
	r       *rand.Rand
	net     *machines
	front   *machine // of HAProxy and the clients
	store   *machine // of the server of the bucket
	server  *s3test.Server
	hosts   []*gate
	traffic *traffic
	table   string
}

func newPartitioned(t *testing.T, r *rand.Rand) *partitioned {
	c := &partitioned{t: t, r: r, net: newMachines(t, "sq1", "sq2", "sq3", "store", "front")}
	c.store, c.front = c.net.all[3], c.net.all[4]
	c.server = s3test.StartAt(t, c.store.ip+":9000", c.store.command, clientOn(c.store))
	ids := tenTenants()
	for i, m := range c.net.all[:3] {
		g := newGate(t, cmp.Or(realSQ(), builtin), ids...)
		g.on, g.client = m, clientOn(m)
		g.args = []string{"--bucket", c.server.URL, "--host-name", m.name, "--listen", m.ip + ":1337", "--host-listen", m.ip + ":1338"}
		if i > 0 {
			if err := os.Remove(g.configPath()); err != nil {
				t.Fatal(err)
			}
			g.file, g.bucketFilled = maps.Clone(c.hosts[0].file), true
		}
		c.hosts = append(c.hosts, g)
		g.start()
	}
	c.awaitHosts()
	f := startHAProxy(t, c.front, c.hosts)
	keys := map[string]string{}
	for _, id := range ids {
		keys[id] = c.hosts[0].key(id)
	}
	c.traffic = newTraffic(t, keys)
	c.startTraffic(f, ids)
	return c
}

// startTraffic has four clients for each tenant make 2.5 calls a second each, and one for each
// host read there what it has, at whoever's scrolls.
func (c *partitioned) startTraffic(f *frontend, ids []string) {
	const tick = 400 * time.Millisecond // the clients come evenly within it
	number := 0
	for i, id := range ids {
		for k := range 4 {
			number++
			client := c.traffic.newClient(number, f.h1, "https://"+siteName)
			client.run(tick*time.Duration(k*len(ids)+i)/time.Duration(4*len(ids)), tick, func(n int) { client.some(id, n) })
		}
	}
	for i, g := range c.hosts {
		number++
		client := c.traffic.newClient(number, clientOn(c.front), g.url)
		client.client.Timeout, client.direct = 5*time.Second, true
		client.run(0, tick, func(n int) { client.read(scroll{ids[(n+i)%len(ids)], rand.IntN(scrollsOfATenant)}) })
	}
	c.t.Cleanup(func() {
		select {
		case <-c.traffic.stop:
		default:
			close(c.traffic.stop)
			c.traffic.group.Wait()
		}
	})
	c.traffic.awaitWrites("the clients begin", 10)
}

// awaitHosts waits until each host sees all.
func (c *partitioned) awaitHosts() {
	c.t.Helper()
	for _, g := range c.hosts {
		g.sees(len(c.hosts))
	}
}

// busiest is a host with some of the tenants.
func (c *partitioned) busiest() *gate {
	c.t.Helper()
	var list admin.HostList
	owns := map[string]int{}
	eventually(c.t, "the tenants are served", func() bool {
		if err := json.Unmarshal([]byte(c.hosts[0].managed("GET", "hosts", "", 200).body), &list); err != nil {
			c.t.Fatal(err)
		}
		all := 0
		for _, h := range list.Hosts {
			owns[h.Name] = h.Directories
			all += h.Directories
		}
		return all == len(c.traffic.keys)
	})
	order := c.r.Perm(len(c.hosts))
	best := slices.MaxFunc(order, func(i, j int) int { return owns[c.hosts[i].on.name] - owns[c.hosts[j].on.name] })
	return c.hosts[best]
}

// another is a host that is not this one.
func (c *partitioned) another(g *gate) *gate {
	others := slices.DeleteFunc(slices.Clone(c.hosts), func(o *gate) bool { return o == g })
	return others[c.r.IntN(len(others))]
}

// partitionEvent is something that happens while clients write.
type partitionEvent struct {
	name    string
	do      func()
	longest time.Duration // that a tenant may be without a successful write
	smooth  bool          // no request may fail
}

// On a machine that does nothing else, what is planned takes less than a second.
const (
	unattended = 20 * time.Second
	planned    = 3 * time.Second
)

func (c *partitioned) events() []partitionEvent {
	return []partitionEvent{
		{name: "nothing, for 5 s", longest: planned, smooth: true, do: func() { c.during(5 * time.Second) }},
		{name: "`kill -9`, disk wiped; an empty host comes when the others have taken over", longest: unattended, do: func() {
			g := c.busiest()
			c.lose(g)
			c.traffic.awaitWrites("the others take over", 2)
			g.start()
		}},
		{name: "`kill -9`, disk wiped; an empty host comes at once", longest: unattended, do: func() {
			g := c.busiest()
			c.lose(g)
			g.start()
		}},
		{name: "a host stands still for 30 s", longest: unattended, do: func() {
			g := c.busiest()
			g.signalFamily(syscall.SIGSTOP)
			defer g.signalFamily(syscall.SIGCONT)
			c.during(30 * time.Second)
		}},
		{name: "a host and the bucket are apart for 20 s", longest: unattended, do: func() {
			defer c.net.cut(c.busiest().on, c.store)()
			c.during(20 * time.Second)
		}},
		{name: "two hosts are apart for 20 s", longest: unattended, do: func() {
			g := c.busiest()
			defer c.net.cut(g.on, c.another(g).on)()
			c.during(20 * time.Second)
		}},
		{name: "a host and HAProxy are apart for 20 s", longest: unattended, do: func() {
			defer c.net.cut(c.busiest().on, c.front)()
			c.during(20 * time.Second)
		}},
		{name: "the bucket's server is killed, and comes back 5 s later", longest: unattended, do: func() {
			c.server.Kill()
			c.during(5 * time.Second)
			c.server.Restart()
		}},
		{name: "planned: a host is drained, stopped and started", longest: planned, smooth: true, do: func() {
			g := c.busiest()
			g.mustOperate("host", "drain", g.on.name)
			c.during(3 * time.Second) // until HAProxy has seen it
			g.stop()
			g.start()
		}},
	}
}

// theEnd leaves nothing but the bucket.
func (c *partitioned) theEnd() partitionEvent {
	return partitionEvent{name: "all hosts are lost at once, with their disks, and come back empty", longest: time.Minute, do: func() {
		for _, g := range c.hosts {
			g.signalFamily(syscall.SIGKILL)
		}
		for _, g := range c.hosts {
			c.lose(g)
		}
		for _, g := range c.hosts {
			g.launch()
		}
		for _, g := range c.hosts {
			if err := g.awaitServing(c.t.Context()); err != nil {
				c.t.Fatal(err)
			}
		}
	}}
}

// lose kills a host, and removes all that it has.
func (c *partitioned) lose(g *gate) {
	family := familyOf(g.cmd.Process.Pid)
	g.signalFamily(syscall.SIGKILL)
	g.wait()
	eventually(c.t, "all processes have ended", func() bool {
		return !slices.ContainsFunc(family, func(pid int) bool { return !zombie(fmt.Sprintf("/proc/%d", pid)) })
	})
	g.wipe()
}

// during lets time pass, in which clients go on.
func (c *partitioned) during(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
	}
}

// happen has an event happen, waits until everything has recovered by itself, and adds a row to
// the table.
func (c *partitioned) happen(e partitionEvent) {
	c.t.Helper()
	c.traffic.awaitWrites("before: "+e.name, 5) // so that HAProxy has seen all hosts
	from := c.traffic.now()
	e.do()
	c.awaitHosts()
	c.traffic.awaitWrites("after: "+e.name, 3)
	p := c.traffic.period(from, c.traffic.now())
	c.t.Logf("%s: without a successful write: anybody %v, a tenant %v (%s); %d requests, %.0f a second, of which %d changed nothing and %d are not known\n%s", e.name,
		p.anybody.Round(time.Millisecond), p.tenant.Round(time.Millisecond), p.worst, p.requests, p.rate, p.refused, p.notKnown, strings.Join(p.said[:min(len(p.said), 40)], "\n"))
	if p.tenant > e.longest {
		c.t.Errorf("%s: a tenant had no successful write for %v", e.name, p.tenant)
	}
	if failed := p.refused + p.notKnown; e.smooth && failed > 0 {
		c.t.Errorf("%s: %d requests failed", e.name, failed)
	}
	if c.table == "" {
		c.table = "| event | longest time without a successful write, of all tenants | of the worst tenant | requests | failed: nothing was changed | failed: not known |\n|---|---|---|---|---|---|\n"
	}
	c.table += fmt.Sprintf("| %s | %.2f s | %.2f s | %d | %d | %d |\n", e.name, p.anybody.Seconds(), p.tenant.Seconds(), p.requests, p.refused, p.notKnown)
}

// readAll reads each scroll at each host.
func (c *partitioned) readAll() {
	for i, g := range c.hosts {
		client := c.traffic.newClient(1000+i, clientOn(c.front), g.url)
		for id := range c.traffic.keys {
			for n := range scrollsOfATenant {
				eventually(c.t, fmt.Sprintf("%s has scroll %d of %s", g.on.name, n, id), func() bool { return client.read(scroll{id, n}) })
			}
		}
	}
}

// startHAProxy configures it with the example. Only addresses and files are others than it
// says.
func startHAProxy(t *testing.T, on *machine, hosts []*gate) *frontend {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("NO HAPROXY: it is not installed (Debian: haproxy)")
	}
	f := &frontend{name: "haproxy", dir: t.TempDir(), output: &logBuffer{grown: make(chan struct{})}}
	f.makeCertificate(t)
	var servers []string
	for _, g := range hosts {
		servers = append(servers, strings.TrimPrefix(g.url, "http://"))
	}
	f.configureHAProxy(t, on.ip+":443", on.ip+":80", servers...)
	cmd := on.command("haproxy", "-db", "-f", f.dir+"/haproxy.cfg")
	cmd.Stdout, cmd.Stderr = f.output, f.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		if t.Failed() {
			t.Logf("HAProxy said:\n%s", tail(f.output.String(), 60))
		}
	})
	dial := on.dialer()
	eventually(t, "HAProxy listens", func() bool {
		conn, err := dial(t.Context(), "tcp", on.ip+":443")
		if err == nil {
			_ = conn.Close() // nothing was sent
		}
		return err == nil
	})
	f.h1 = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, on.ip+":443")
		},
		TLSClientConfig: &tls.Config{RootCAs: f.trusted, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
	}}
	return f
}
