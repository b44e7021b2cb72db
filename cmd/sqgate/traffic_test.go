package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/registertest"
)

// traffic is clients of ten tenants that read and write all the time, and all that they have
// been told.
type traffic struct {
	t     *testing.T
	keys  map[string]string // of the tenants
	begun time.Time
	stop  chan struct{}
	group sync.WaitGroup

	mu       sync.Mutex
	history  []porcupine.Operation
	requests []request
	grown    chan struct{} // closed when there is another request
}

// scroll is a register.
type scroll struct {
	tenant string
	n      int
}

const scrollsOfATenant = 4

func (s scroll) target(op string) string {
	return at(op, string(rune('a'+s.n%2)), fmt.Sprintf("1.1.1/1.1.1/1.1.%d", s.n+1))
}

// request is what the tables are made of.
type request struct {
	tenant       string
	begun, ended time.Duration
	outcome      outcome
	write        bool
	said         string // if it failed
}

type outcome int

const (
	answered outcome = iota // also if the precondition of a write did not hold
	refused                 // nothing was changed or read
	notKnown                // whether a write was made
	defect
)

// trafficClient makes one call after the other for a tenant, and mostly of its own scrolls.
type trafficClient struct {
	*traffic
	number int
	client *http.Client
	base   string
	direct bool // it only looks, at one host
	last   map[scroll]string
}

func newTraffic(t *testing.T, keys map[string]string) *traffic {
	return &traffic{t: t, keys: keys, begun: time.Now(), stop: make(chan struct{}), grown: make(chan struct{})}
}

func (tr *traffic) now() time.Duration { return time.Since(tr.begun) }

func (tr *traffic) newClient(number int, client *http.Client, base string) *trafficClient {
	return &trafficClient{traffic: tr, number: number, client: client, base: base, last: map[scroll]string{}}
}

// run makes a call at each tick, unless the one before is still under way, until the traffic
// is stopped. after is when the first tick comes.
func (c *trafficClient) run(after, tick time.Duration, call func(n int)) {
	c.group.Go(func() {
		select {
		case <-c.stop:
			return
		case <-time.After(after):
		}
		ticks := time.NewTicker(tick)
		defer ticks.Stop()
		for n := 0; ; n++ {
			select {
			case <-c.stop:
				return
			case <-ticks.C:
				call(n)
			}
		}
	})
}

// some makes one of the calls that a client of a tenant makes. Every other one is a write
// that nothing of others can refuse, so that a gap between them says that something is wrong.
func (c *trafficClient) some(tenant string, n int) {
	s := scroll{tenant, rand.IntN(scrollsOfATenant)}
	text, last := fmt.Sprintf("<%d.%d>", c.number, n), c.last[s]
	switch {
	case (n+c.number)%2 == 0 && rand.IntN(3) == 0:
		c.write(registertest.Called{Register: s, Op: registertest.Insert, Text: text}, rand.IntN(2) == 0)
	case (n+c.number)%2 == 0:
		c.write(registertest.Called{Register: s, Op: registertest.Update, Text: text}, false)
	case last != "" && rand.IntN(3) == 0:
		c.write(registertest.Called{Register: s, Op: registertest.Swap, Text: text, Expected: last}, false)
	default:
		c.read(s)
	}
}

// read reads, and says whether that was possible.
func (c *trafficClient) read(s scroll) bool {
	begun := c.now()
	r, o := c.send("GET", s, "select", "", "", "")
	if o != answered {
		return false
	}
	c.last[s] = r.body
	c.note(registertest.Called{Register: s, Op: registertest.Read}, registertest.Told{Text: r.body}, begun)
	return true
}

// write says whether the write was acknowledged. With a key, it is repeated until it is known
// what became of it.
func (c *trafficClient) write(call registertest.Called, keyed bool) bool {
	s, op, match, key, tries := call.Register.(scroll), "update", "", "", 1
	switch {
	case call.Op == registertest.Swap:
		match = etag.Of(call.Expected)
	case call.Op == registertest.Insert:
		op = "insert"
	}
	if keyed {
		key, tries = call.Text, 5
	}
	begun, told := c.now(), registertest.Told{}
	for range tries {
		r, o := c.send("POST", s, op, call.Text, match, key)
		switch {
		case o == answered && r.status == http.StatusPreconditionFailed:
			delete(c.last, s)
			c.note(call, registertest.Told{Refused: true}, begun)
			return false
		case o == answered:
			if call.Op != registertest.Insert {
				c.last[s] = call.Text
			}
			c.note(call, registertest.Told{}, begun)
			return true
		case o != refused:
			told.Unknown = true
		}
	}
	if told.Unknown {
		c.note(call, told, begun)
	}
	return false
}

func (c *trafficClient) note(call registertest.Called, t registertest.Told, begun time.Duration) {
	o := registertest.Operation(c.number, call, t, begun, c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, o)
}

func (c *trafficClient) send(method string, s scroll, op, body, match, key string) (reply, outcome) {
	req, err := http.NewRequest(method, c.base+s.target(op), strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return reply{}, defect
	}
	req.Header.Set("Authorization", "Bearer "+c.keys[s.tenant])
	if match != "" {
		req.Header.Set("If-Match", match)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	begun := c.now()
	r, err := answerOf(c.client, req)
	one := request{tenant: s.tenant, begun: begun, ended: c.now(), outcome: outcomeOf(r, err), write: method == "POST" && r.status == 200}
	if one.outcome != answered {
		one.said = fmt.Sprintf("%s %s: %v %d %.300s", method, req.URL.Path, err, r.status, r.body)
	}
	if one.outcome == defect {
		c.t.Errorf("client %d of %s: %s", c.number, s.tenant, one.said)
	}
	if !c.direct {
		c.mu.Lock()
		c.requests = append(c.requests, one)
		close(c.grown)
		c.grown = make(chan struct{})
		c.mu.Unlock()
	}
	return r, one.outcome
}

// outcomeOf is what an answer means. Only sqgate knows that nothing was changed: an answer
// without its X-Request-Id is the load balancer's.
func outcomeOf(r reply, err error) outcome {
	switch {
	case err != nil:
		return notKnown
	case r.status == http.StatusOK, r.status == http.StatusPreconditionFailed:
		return answered
	case r.header.Get("X-Request-Id") == "" && r.status >= 502:
		return notKnown
	case r.status == http.StatusServiceUnavailable:
		return refused
	case r.status == http.StatusInternalServerError, r.status == http.StatusGatewayTimeout:
		return notKnown
	}
	return defect
}

// awaitWrites waits until each tenant has so many more successful writes.
func (tr *traffic) awaitWrites(what string, n int) {
	tr.t.Helper()
	from, late := tr.now(), time.After(waitTimeout)
	for {
		tr.mu.Lock()
		count := map[string]int{}
		for _, r := range slices.Backward(tr.requests) {
			if r.ended < from {
				break
			}
			if r.write && r.begun >= from {
				count[r.tenant]++
			}
		}
		grown := tr.grown
		tr.mu.Unlock()
		missing := ""
		for id := range tr.keys {
			if count[id] < n {
				missing = id
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-grown:
		case <-late:
			tr.t.Fatalf("%s: within %v, %s has %d successful writes", what, waitTimeout, missing, count[missing])
		}
	}
}

// period is what the requests that ended in a period of time came to.
type period struct {
	anybody, tenant             time.Duration // longest time without a successful write: of all tenants, and of the worst one
	worst                       string        // whose that is, and when it begins
	requests, refused, notKnown int
	rate                        float64 // requests begun in a second
	said                        []string
}

func (tr *traffic) period(from, to time.Duration) (p period) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	writes := map[string][]time.Duration{}
	var all []time.Duration
	for _, r := range tr.requests { // in the order of their ends
		if r.ended < from || r.ended > to {
			continue
		}
		p.requests++
		switch r.outcome {
		case refused:
			p.refused++
		case notKnown:
			p.notKnown++
		}
		if r.said != "" {
			p.said = append(p.said, fmt.Sprintf("%v to %v %s: %s", r.begun.Round(time.Millisecond), r.ended.Round(time.Millisecond), r.tenant, r.said))
		}
		if r.write {
			writes[r.tenant], all = append(writes[r.tenant], r.ended), append(all, r.ended)
		}
	}
	p.rate = float64(p.requests) / (to - from).Seconds()
	p.anybody, _ = longestGap(from, all, to)
	for id := range tr.keys {
		if gap, begun := longestGap(from, writes[id], to); gap > p.tenant {
			p.tenant, p.worst = gap, fmt.Sprintf("%s from %v", id, begun.Round(time.Millisecond))
		}
	}
	return p
}

func longestGap(from time.Duration, times []time.Duration, to time.Duration) (longest, begun time.Duration) {
	for _, t := range append(times, to) {
		if t-from > longest {
			longest, begun = t-from, from
		}
		from = t
	}
	return longest, begun
}
