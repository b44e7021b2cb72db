package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"mirrorborn.us/sqgate/internal/s3test"
)

// requestCounter counts what comes to a bucket, by method and the first part of the key.
type requestCounter struct {
	mu    sync.Mutex
	kinds map[string]int
}

func (c *requestCounter) fault(r *http.Request) s3test.Fault {
	_, key, _ := strings.Cut(r.URL.Path, "/v1/")
	if key == "" {
		_, key, _ = strings.Cut(r.URL.Query().Get("prefix"), "/v1/")
	}
	kind, _, _ := strings.Cut(key, "/")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds[r.Method+" "+kind]++
	return s3test.Fault{}
}

// since returns what has come since the last time.
func (c *requestCounter) since() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	kinds := c.kinds
	c.kinds = map[string]int{}
	return kinds
}

func (c *requestCounter) heartbeats() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kinds["PUT hosts"]
}

// TestIdleCostsTheHeartbeat has 10,000 tenants, of which some have written something. While
// nobody asks for anything, sqgate renews its lease, and nothing else goes to the bucket.
// A start costs no more with many tenants than with one.
func TestIdleCostsTheHeartbeat(t *testing.T) {
	t.Parallel()
	const tenants, active = 10_000, 10
	counter := &requestCounter{kinds: map[string]int{}}
	proxy := s3test.NewProxy(s3test.Start(t))
	proxy.SetFault(counter.fault)
	ids := make([]string, tenants)
	for i := range ids {
		ids[i] = fmt.Sprintf("tenant-%05d", i)
	}
	g := newGate(t, builtin, ids...)
	g.args = []string{"--bucket", proxy.URL, "--private-network=false"}
	beat := func(n int) map[string]int {
		t.Helper()
		eventually(t, "heartbeats", func() bool { return counter.heartbeats() >= n })
		return counter.since()
	}
	for start := range 2 {
		g.start()
		cost := beat(2)
		t.Logf("a start costs %v", cost)
		if cost["GET dirs"] > start { // whether it is the same bucket
			t.Errorf("start %d costs %v", start, cost)
		}
		if start == 0 {
			for i := range active {
				g.must(ids[i*tenants/active], "POST", at("update", "n", origin), "text", 200)
			}
			t.Logf("%d tenants that write once cost %v", active, counter.since())
		}
		beats := rounds(3, 8)
		if cost := beat(beats); len(cost) > 1 {
			t.Errorf("while nobody asks for anything, %d heartbeats cost %v", beats, cost)
		}
		g.stop()
		t.Logf("an end costs %v", counter.since())
	}
}
