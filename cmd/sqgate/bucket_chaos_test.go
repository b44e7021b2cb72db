package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/s3test"
	"mirrorborn.us/sqgate/phext"
)

// chaosWorlds is how many sqgates have a part of the rounds, side by side, each with a
// bucket of its own: much of the time of a round is a lease's.
const chaosWorlds = 10

// TestBucketChaos kills sqgate, its children and a real S3 server at random moments,
// loses the machine with its disk, and has requests to the bucket go wrong. The same
// sqgate is started again each time, and recovers by itself. Nothing that was
// acknowledged or seen is lost, and nothing that was refused is there.
func TestBucketChaos(t *testing.T) {
	all, err := strconv.Atoi(cmp.Or(os.Getenv("SQTEST_BUCKET_CHAOS"), "0"))
	if err != nil {
		t.Fatal("SQTEST_BUCKET_CHAOS: a number of rounds is wanted")
	}
	if all == 0 {
		t.Skip("SQTEST_BUCKET_CHAOS says how many rounds there are")
	}
	for i := range chaosWorlds {
		server := s3test.Start(t)
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			newBucketChaos(t, cmp.Or(realSQ(), builtin), server).run((all + i) / chaosWorlds)
		})
	}
}

// TestBucketChaosInADirectory has a few rounds of it with a directory as the bucket.
func TestBucketChaosInADirectory(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) { newBucketChaos(t, sq, nil).run(4) })
}

// bucketChaos is a sqgate with a bucket, its writers, and what happens to them.
type bucketChaos struct {
	t      *testing.T
	g      *gate
	seed   uint64
	r      *rand.Rand
	server *s3test.Server // nil: the bucket is a directory
	proxy  *s3test.Proxy
	slots  []*slot
	once   insertedOnce
	seen   atomic.Pointer[string] // what a reader saw last at the second slot

	progress  chan struct{} // a writer was answered, or a request to the bucket came
	happened  map[string]int
	recovered []time.Duration
}

func newBucketChaos(t *testing.T, sq string, server *s3test.Server) *bucketChaos {
	c := &bucketChaos{t: t, g: newGate(t, sq, "will", "emi"), seed: rand.Uint64(), server: server, progress: make(chan struct{}, 100), happened: map[string]int{}}
	c.r = rand.New(rand.NewPCG(c.seed, 0))
	if server == nil {
		c.g.args = []string{"--bucket", "file://" + t.TempDir()}
	} else {
		c.proxy = s3test.NewProxy(server)
		c.proxy.SetFault(nil)
		c.g.args = []string{"--bucket", c.proxy.URL, "--private-network=false"}
	}
	c.slots = []*slot{
		newSlot("will", "n&c=1.1.1/1.1.1/1.900.1", updates),
		newSlot("will", "n&c=1.1.1/1.1.1/1.900.2", inserts),
		newSlot("will", "n&c=1.1.1/1.1.1/1.900.3", updatesAndDeletes()),
		newSlot("will", "n&c=1.1.1/1.1.1/1.900.4", updates),
		newSlot("will", "n&c=a.name", updatesAndDeletes()),
		newSlot("will", "another&c=1.1.1/1.1.1/1.1.1", updates),
		newSlot("emi", "n&c=1.1.1/1.1.1/1.1.1", updatesAndDeletes()),
	}
	c.once = insertedOnce{tenant: "emi", target: "once&c=1.1.1/1.1.1/1.1.1"}
	t.Logf("seed %d", c.seed)
	return c
}

// run has so many rounds, or fewer if there is no time for all of them.
func (c *bucketChaos) run(rounds int) {
	c.g.start()
	begun := time.Now()
	for n, last := 0, false; !last; n++ {
		deadline, bounded := c.t.Deadline()
		last = n == rounds-1 || bounded && time.Until(deadline) < longestRound
		c.round(n, last)
		if c.t.Failed() {
			c.t.Fatalf("seed %d, round %d", c.seed, n)
		}
	}
	slices.Sort(c.recovered)
	all := len(c.recovered)
	c.t.Logf("%d of %d rounds in %v: %v; recovered within %v, at most %v", all, rounds, time.Since(begun).Round(time.Second), c.happened,
		c.recovered[all/2].Round(time.Millisecond), c.recovered[all-1].Round(time.Millisecond))
}

// longestRound is how long a round may take.
const longestRound = 90 * time.Second

// round has writers write, something happen, and everything looked at.
func (c *bucketChaos) round(n int, last bool) {
	// Texts that only grow would make each round slower than the one before.
	for _, target := range []*slot{c.slots[1], {tenant: c.once.tenant, target: c.once.target}} {
		c.g.must(target.tenant, "POST", "/api/v2/update?p="+target.target, "", 200)
	}
	c.slots[1].may, c.once.text = map[string]bool{"": true}, ""
	c.seen.Store(new(string))

	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i, s := range c.slots {
		writers.Go(func() {
			c.repeat(stop, func(number int) (ok bool) {
				refused, err := s.once(c.g, fmt.Sprintf("round %d writer %d number %d;", n, i, number))
				return err == nil && !refused
			})
		})
	}
	writers.Go(func() {
		c.repeat(stop, func(number int) bool { return c.once.write(c.g, fmt.Sprintf("round %d number %d;", n, number)) })
	})
	writers.Go(func() { c.repeat(stop, func(int) bool { return c.look() }) })
	if c.server != nil && c.r.IntN(2) == 0 {
		c.count("bad weather")
		c.weather(2 + c.r.IntN(20))
	} else {
		c.weather(0)
	}
	c.await(1 + c.r.IntN(40))
	begun := time.Now()
	c.strike(last)
	close(stop)
	writers.Wait()
	c.weather(0)
	c.check(n)
	c.recovered = append(c.recovered, time.Since(begun))
}

func (c *bucketChaos) count(what string) { c.happened[what]++ }

// repeat calls write until stop is closed. After one that is not acknowledged it pauses,
// as clients do.
func (c *bucketChaos) repeat(stop <-chan struct{}, write func(number int) (acknowledged bool)) {
	for number := 0; ; number++ {
		var pause time.Duration
		if !write(number) {
			pause = 20 * time.Millisecond
		}
		c.note()
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// note has await count one more.
func (c *bucketChaos) note() {
	select {
	case c.progress <- struct{}{}:
	default:
	}
}

// await waits until so many things have happened.
func (c *bucketChaos) await(n int) {
	for range n + len(c.progress) {
		select {
		case <-c.progress:
		case <-time.After(waitTimeout):
			c.t.Fatalf("seed %d: nothing happens any more", c.seed)
		}
	}
}

// weather has one of oneIn requests to the bucket go wrong; 0 = none.
func (c *bucketChaos) weather(oneIn int) {
	if c.server == nil {
		return
	}
	c.proxy.SetFault(func(*http.Request) s3test.Fault {
		c.note()
		if oneIn == 0 || rand.IntN(oneIn) > 0 {
			return s3test.Fault{}
		}
		some := rand.N(200 * time.Millisecond)
		return []s3test.Fault{
			{Before: some}, {After: some}, {Late: 5 * some},
			{Refuse: s3test.Cut}, {Refuse: http.StatusServiceUnavailable}, {Refuse: http.StatusInternalServerError},
			{Lose: s3test.Cut}, {Lose: http.StatusServiceUnavailable}, {Lose: http.StatusInternalServerError},
		}[rand.IntN(9)]
	})
}

// strike does something to the service, and has it run again.
func (c *bucketChaos) strike(last bool) {
	kind := c.r.IntN(16)
	switch {
	case last || kind == 0:
		c.count("machine lost")
		c.killAll()
		c.g.wipe()
		c.restart()
	case kind < 3:
		c.count("child killed")
		c.killChildren()
	case kind < 6:
		c.count("sqgate killed")
		c.g.kill()
		c.restart()
	case kind < 9 || c.server == nil:
		c.count("sqgate and children killed")
		c.killAll()
		c.restart()
	case kind < 12:
		c.count("S3 killed")
		c.server.Kill()
		c.await(c.r.IntN(20))
		c.server.Restart()
	case kind < 14:
		c.count("S3 and sqgate killed")
		c.server.Kill()
		c.g.kill()
		c.server.Restart()
		c.restart()
	default:
		c.count("nothing killed")
		c.await(c.r.IntN(40))
	}
}

func (c *bucketChaos) killAll() {
	c.g.kill()
	c.killChildren()
}

func (c *bucketChaos) killChildren() {
	for _, id := range []string{"will", "emi"} {
		for _, pid := range childrenOf(c.g.dataDir(id)) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended already
		}
	}
}

// restart starts sqgate until it serves, as systemd does.
func (c *bucketChaos) restart() {
	for range 100 {
		c.g.launch()
		ctx, cancel := context.WithCancel(c.t.Context())
		exited := c.g.exited
		go func() { <-exited; cancel() }()
		err := c.g.awaitServing(ctx)
		cancel()
		if err == nil {
			return
		}
		c.count("not started at once")
	}
	c.t.Fatalf("seed %d: sqgate does not start:\n%s", c.seed, tail(c.g.log.String(), 20))
}

// check waits until everything is served, and compares it with what was answered.
func (c *bucketChaos) check(n int) {
	for i, s := range c.slots {
		eventually(c.t, "it is served again", func() bool {
			r, err := c.g.do(s.tenant, "GET", "/api/v2/select?p="+s.target, "")
			return err == nil && r.status != 503
		})
		if problem := s.check(c.g); problem != "" {
			c.t.Errorf("seed %d, round %d, writer %d: %s", c.seed, n, i, problem)
		}
	}
	if problem := c.once.check(c.g); problem != "" {
		c.t.Errorf("seed %d, round %d, repeated with an Idempotency-Key: %s", c.seed, n, problem)
	}
	for text := range c.slots[1].may {
		if seen := *c.seen.Load(); !strings.HasPrefix(text, seen) {
			c.t.Errorf("seed %d, round %d: a reader saw %q, and now it is %q", c.seed, n, seen, text)
		}
	}
	for _, file := range []string{"will/n", "will/another", "emi/n", "emi/once"} {
		id, name, _ := strings.Cut(file, "/")
		served := c.g.get(id, "/api/v2/get?p="+name)
		text, err := os.ReadFile(filepath.Join(c.g.dataDir(id), name+".phext"))
		if err != nil && !os.IsNotExist(err) {
			c.t.Fatal(err)
		}
		if phext.Parse(string(text)).Render() != served {
			c.t.Errorf("seed %d, round %d: of %s the service answers %q, and the file holds %q", c.seed, n, file, served, text)
		}
	}
}

// look reads what is inserted, as a client that only reads.
func (c *bucketChaos) look() (ok bool) {
	s := c.slots[1]
	r, err := c.g.do(s.tenant, "GET", "/api/v2/select?p="+s.target, "")
	if err != nil || r.status != 200 {
		return false
	}
	if before := *c.seen.Load(); !strings.HasPrefix(r.body, before) {
		c.t.Errorf("seed %d: a reader saw %q, and then %q", c.seed, before, r.body)
	}
	c.seen.Store(&r.body)
	return true
}

// insertedOnce is a writer that repeats each insert with the same Idempotency-Key until it
// is acknowledged. So each stands there exactly once.
type insertedOnce struct {
	tenant, target string
	text           string // what stands there, without pending
	pending        string // what was sent and not acknowledged
	unknown        bool   // and may stand there
}

// write repeats what is pending, or inserts a value.
func (o *insertedOnce) write(g *gate, value string) (acknowledged bool) {
	if o.pending == "" {
		o.pending, o.unknown = value, false
	}
	req, err := http.NewRequest("POST", g.base()+"/api/v2/insert?p="+o.target, strings.NewReader(o.pending))
	if err != nil {
		g.t.Error(err)
		return false
	}
	req.Header.Set("Authorization", "Bearer "+g.key(o.tenant))
	req.Header.Set("Idempotency-Key", o.pending)
	r, err := g.send(req)
	if err != nil || r.status == 500 || r.status == 504 {
		o.unknown = true
	}
	if err != nil || r.status != 200 {
		return false
	}
	o.text, o.pending = o.text+o.pending, ""
	return true
}

// check returns what is wrong, or "". Then it has what is pending acknowledged.
func (o *insertedOnce) check(g *gate) string {
	may := map[string]bool{o.text: true}
	if o.unknown {
		may[o.text+o.pending] = true
	}
	for range 2 {
		r, err := g.do(o.tenant, "GET", "/api/v2/select?p="+o.target, "")
		if err != nil || r.status != 200 {
			return fmt.Sprintf("select: %d %s %v", r.status, r.body, err)
		}
		if !may[r.body] {
			return fmt.Sprintf("%q stands there; it may be one of %q", r.body, slices.Collect(maps.Keys(may)))
		}
		if o.pending != "" && !o.write(g, "") {
			return fmt.Sprintf("%q is not acknowledged", o.pending)
		}
		may = map[string]bool{o.text: true}
	}
	return ""
}
