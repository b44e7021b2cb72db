package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/internal/registertest"
	"mirrorborn.us/sqgate/storage/bucket"
)

// The simulation runs several hosts that share a bucket, with clients at all of them, in
// virtual time. Hosts stand still, die, lose their disks and are cut off, and the bucket is
// slow, refuses, loses answers and lists late. With every other seed, hosts send requests to
// each other, are drained and give tenants away. What the clients have seen must be
// linearizable, and what was acknowledged must be there on a new machine. What happens
// is a function of the seed.
//
//	SQTEST_SIMULATION=5000           so many seeds, if there is time, beginning with a random one
//	SQTEST_SEED=N                    this one, with everything that happens
//	SQTEST_SEED=N SQTEST_EVENTS=3,7  with these of its events alone

// seedsByDefault is how many seeds an ordinary test runs.
const seedsByDefault = 30

func TestSimulation(t *testing.T) {
	inOrder(t)
	if text := os.Getenv("SQTEST_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		replay(t, seed)
		return
	}
	first, n := uint64(1), uint64(seedsByDefault)
	if text := os.Getenv("SQTEST_SIMULATION"); text != "" {
		most, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		first, n = rand.Uint64N(1<<40), most
	}
	sq, calls, begun := startSQ(t), 0, time.Now()
	deadline, bounded := t.Deadline()
	seed := first
	for ; seed < first+n && !(bounded && time.Until(deadline) < timeToExplain); seed++ {
		s := simulate(t, sq, newPlan(seed))
		calls += len(s.history)
		if s.failed() != nil {
			t.Fatalf("the seed is the %d. from %d\n%s", seed-first+1, first, explain(t, sq, s))
		}
	}
	t.Logf("%d of %d seeds from %d, and %d calls of clients, in %v", seed-first, n, first, calls, time.Since(begun).Round(time.Millisecond))
}

// timeToExplain is how long before the deadline no other seed is begun.
const timeToExplain = 45 * time.Second

// inOrder has one goroutine run at a time, until the end of the test, and no garbage
// collected in between. So of those that can run at one moment of the simulation, the
// same one comes first in each run, unless the machine is so busy that the kernel stops
// this process for long, or the race detector has them run in any order.
func inOrder(t *testing.T) {
	processors, percent := runtime.GOMAXPROCS(1), debug.SetGCPercent(-1)
	t.Cleanup(func() { runtime.GOMAXPROCS(processors); debug.SetGCPercent(percent) })
}

// replay runs one seed, and logs what happens.
func replay(t *testing.T, seed uint64) {
	p := newPlan(seed)
	if text := os.Getenv("SQTEST_EVENTS"); text != "" {
		var kept []event
		for number := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '-' }) {
			i, err := strconv.Atoi(number)
			if err != nil || i >= len(p.events) {
				t.Fatalf("SQTEST_EVENTS=%s: there are %d events", text, len(p.events))
			}
			kept = append(kept, p.events[i])
		}
		p.events = kept
	}
	s := simulate(t, startSQ(t), p)
	t.Logf("%v\n%s", p, strings.Join(s.said, "\n"))
	if err := s.failed(); err != nil {
		t.Error(err)
	}
}

// TestSimulationIsRepeatable: a seed says everything that happens. On a busy machine that
// need not be so each time.
func TestSimulationIsRepeatable(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector has goroutines run in any order")
	}
	inOrder(t)
	sq := startSQ(t)
	for seed := range uint64(3) {
		said := map[string]bool{}
		for same := false; !same; {
			s := simulate(t, sq, newPlan(seed))
			slices.Sort(s.said) // at one moment, the order does not matter
			text := strings.Join(s.said, "\n")
			same = said[text]
			if said[text] = true; len(said) > 5 || text == "" {
				t.Fatalf("seed %d is another one each time", seed)
			}
		}
	}
}

// plan is a seed, and what it says at once.
type plan struct {
	seed    uint64
	hosts   int
	clients int
	tenants int
	length  time.Duration // until everything heals
	history time.Duration // that the bucket keeps
	calm    bool          // nothing goes wrong at the bucket
	many    bool          // hosts send requests to each other
	events  []event
}

// event is something that happens to a host, or to the bucket.
type event struct {
	number int
	at     time.Duration
	kind   kind
	host   int
	length time.Duration
	late   bool // timers are late after a pause
}

type kind string

const (
	pause   kind = "stands still"
	kill    kind = "is killed"
	wipe    kind = "is killed, and its disk is lost"
	finish  kind = "ends"
	cut     kind = "is cut off from the bucket"
	compact kind = "compacts its logs"
	damage  kind = "has its object in the bucket damaged"
	drain   kind = "is drained"
	move    kind = "gives a tenant away"
	apart   kind = "is cut off from other hosts"
	rough   kind = "the bucket is slow, and fails now and then"
	storm   kind = "the bucket is very slow, and fails often"
	outage  kind = "the bucket fails"
)

func (e event) String() string {
	if e.kind == rough || e.kind == storm || e.kind == outage {
		return fmt.Sprintf("%d. %v %s for %v", e.number, e.at, e.kind, e.length)
	}
	return fmt.Sprintf("%d. %v host %d %s, %v", e.number, e.at, e.host, e.kind, e.length)
}

func (p plan) String() string {
	text := fmt.Sprintf("seed %d: %d hosts, %d tenants, %d clients, %v, history %v, many %v", p.seed, p.hosts, p.tenants, p.clients, p.length, p.history, p.many)
	for _, e := range p.events {
		text += "\n" + e.String()
	}
	return text
}

// kinds has each as often as it is to happen. kindsOfMany happen only where hosts send
// requests to each other.
var kindsOfMany = append([]kind{drain, drain, drain, move, move, move, move, apart, apart}, kinds...)

var kinds = []kind{pause, pause, pause, kill, kill, wipe, finish, finish, cut, cut, cut, compact, compact, damage, damage, rough, rough, storm, storm, outage}

func newPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{seed: seed, hosts: 2 + r.IntN(3), clients: 3 + r.IntN(2), tenants: 1 + r.IntN(2)}
	p.many = seed%2 == 0
	kinds := kinds
	if p.many {
		kinds = kindsOfMany
	}
	p.length = between(r, 40*time.Second, 110*time.Second)
	p.history = []time.Duration{15 * time.Second, 40 * time.Second, 30 * 24 * time.Hour}[r.IntN(3)]
	for at := between(r, time.Second, 10*time.Second); at < p.length; at += between(r, time.Second, 14*time.Second) {
		e := event{number: len(p.events), at: at, kind: kinds[r.IntN(len(kinds))], host: r.IntN(p.hosts), late: r.IntN(2) == 0}
		switch e.length = between(r, 0, 10*time.Second); {
		case e.kind == outage:
			e.length /= 2
		case e.kind != finish && r.IntN(2) == 0:
			e.length = between(r, 9*time.Second, 40*time.Second)
		}
		e.length = min(e.length, p.length-at)
		p.events = append(p.events, e)
	}
	return p
}

func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// simulation is one run of a plan.
type simulation struct {
	plan
	*testing.T
	sq      *sqServers
	root    string
	bucket  *bucket.Memory
	begun   time.Time
	hosts   []*simHost
	over    chan struct{}  // closed when only the dead are left
	closing atomic.Bool    // nobody is started any more
	flights sync.WaitGroup // requests on their way to the bucket
	clients sync.WaitGroup

	mu       sync.Mutex
	bad      kind      // what the bucket is like
	badUntil time.Time //
	said     []string
	wrong    []error
	history  []porcupine.Operation
	requests map[bucket.Op]int
}

// simulate runs a plan. It returns when nothing of it runs any more.
func simulate(t *testing.T, sq *sqServers, p plan) *simulation {
	s := &simulation{plan: p, T: t, sq: sq, root: temporary(t), requests: map[bucket.Op]int{}}
	synctest.Test(t, func(*testing.T) { s.run() })
	if err := os.RemoveAll(s.root); err != nil {
		t.Error(err)
	}
	sq.forget(s.root)
	if s.seed%8 == 0 {
		runtime.GC()
	}
	if problem := registertest.Check(s.history, checkTimeout); problem != nil {
		s.wrong = append(s.wrong, problem)
	}
	return s
}

// temporary is a directory in memory, if that is possible: a disk's syncs are most of the
// time of a simulation.
func temporary(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "sqgate-simulation")
	if err != nil {
		return t.TempDir()
	}
	return dir
}

// checkTimeout is how long it may take to check the history of a register.
const checkTimeout = time.Minute

func (s *simulation) failed() error { return errors.Join(s.wrong...) }

// draw is random, and the same in each run of the seed for the same thing.
func (s *simulation) draw(of ...any) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed, xxh3.HashString(fmt.Sprint(of...))))
}

func (s *simulation) now() time.Duration { return time.Since(s.begun) }

// say notes what happens.
func (s *simulation) say(format string, args ...any) {
	if s.calm {
		return // there is nothing to be found out
	}
	line := fmt.Sprintf("%v ", s.now()) + fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.over: // what the dead still say does not matter
	default:
		s.said = append(s.said, line)
	}
}

func (s *simulation) fail(err error) {
	s.say("WRONG: %v", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, err)
}

const (
	healed = 45 * time.Second // how long clients go on after everything has healed
	served = 40 * time.Second // how soon everything is served again
)

func (s *simulation) run() {
	s.begun, s.over = time.Now(), make(chan struct{})
	s.bucket = bucket.NewMemory()
	for i := range s.plan.hosts {
		s.hosts = append(s.hosts, &simHost{simulation: s, name: fmt.Sprint("h", i), number: i, root: filepath.Join(s.root, fmt.Sprint("h", i))})
		s.hosts[i].start()
	}
	for i := range s.plan.clients {
		c := &client{simulation: s, number: i, last: map[register]string{}}
		s.clients.Go(c.run)
	}
	for _, e := range s.events {
		time.Sleep(e.at - s.now())
		s.happen(e)
	}
	time.Sleep(s.length - s.now())
	s.heal()
	s.clients.Wait()
	s.lookFromANewMachine()
	for _, h := range s.hosts {
		h.kill()
	}
	close(s.over)
	s.flights.Wait()
	for _, h := range s.hosts {
		h.bury()
	}
}

func (s *simulation) happen(e event) {
	s.say("%v", e)
	h := s.hosts[e.host]
	switch e.kind {
	case rough, storm, outage:
		s.mu.Lock()
		s.bad, s.badUntil = e.kind, time.Now().Add(e.length)
		s.mu.Unlock()
	case pause:
		h.pause(e.length, e.late)
	case kill:
		h.kill()
		h.startIn(e.length)
	case wipe:
		h.kill()
		h.wiped.Store(true)
		if err := os.RemoveAll(h.root); err != nil {
			s.fail(err)
		}
		h.startIn(e.length)
	case finish:
		h.finish(e.length)
	case cut:
		h.cut(e.length)
	case compact:
		h.compact()
	case damage:
		s.damageHost(h.name)
	case drain:
		h.drain(e.length)
	case move:
		h.move(e)
	case apart:
		h.setApart(e.length)
	}
}

// damageHost flips a bit of a host's object, if there is one.
func (s *simulation) damageHost(name string) {
	o, err := s.bucket.Get(context.Background(), hostKey(name), "")
	if errors.Is(err, bucket.ErrNotFound) {
		return
	}
	if err == nil {
		body := slices.Clone(o.Body)
		body[len(body)-1] ^= 1
		_, err = s.bucket.Put(context.Background(), hostKey(name), body, bucket.Condition{})
	}
	if err != nil {
		s.fail(err)
	}
}

// heal ends what goes wrong, and has all tenants served again.
func (s *simulation) heal() {
	s.say("everything heals")
	s.mu.Lock()
	s.bad = ""
	s.mu.Unlock()
	for _, h := range s.hosts {
		h.heal()
	}
	for i := range s.tenants {
		s.clients.Go(func() {
			c := &client{simulation: s, number: 100 + i, last: map[register]string{}, sure: true}
			for n := 0; !c.write(n, register{tenant: i}, 20*time.Second); n++ {
				if s.now() > s.length+served {
					s.fail(fmt.Errorf("%v after everything has healed, tenant %d is not served", served, i))
					return
				}
				time.Sleep(time.Second)
			}
		})
	}
}

// lookFromANewMachine has all hosts end, or vanish, and reads everything on another one.
func (s *simulation) lookFromANewMachine() {
	s.closing.Store(true)
	for _, h := range s.hosts {
		if h.number%2 == 0 {
			h.finish(0)
		} else {
			h.kill()
		}
	}
	time.Sleep(leaseFor)
	for _, h := range s.hosts {
		h.kill()
	}
	s.closing.Store(false)
	last := &simHost{simulation: s, name: "new", number: len(s.hosts), root: filepath.Join(s.root, "new")}
	s.hosts = append(s.hosts, last)
	last.start()
	time.Sleep(time.Second)
	c := &client{simulation: s, number: 200, last: map[register]string{}}
	for _, reg := range s.registers() {
		if !c.readAt(last, reg, time.Minute) {
			s.fail(fmt.Errorf("a new machine does not have %v", reg))
		}
	}
}

// explain finds the fewest events of a seed with which it fails.
func explain(t *testing.T, sq *sqServers, s *simulation) string {
	all := s.events
	for i := 0; i < len(s.events); {
		fewer := s.plan
		fewer.events = slices.Delete(slices.Clone(s.events), i, i+1)
		if again := simulate(t, sq, fewer); again.failed() != nil {
			s = again
		} else {
			i++
		}
	}
	var numbers []string
	for _, e := range s.events {
		numbers = append(numbers, strconv.Itoa(e.number))
	}
	return fmt.Sprintf("%v\n%v\n(%d of %d events) again with: SQTEST_SEED=%d SQTEST_EVENTS=%s go test ./storage/host -run '^TestSimulation$' -v",
		s.failed(), s.plan, len(s.events), len(all), s.seed, cmp.Or(strings.Join(numbers, ","), "-"))
}
