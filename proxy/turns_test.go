package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/keylimit"
)

const annsKey = "pmb-v1-ffeeddccbbaa99887766554433221100"

// sharedWorld has a second tenant "ann", and one turn for everybody.
type sharedWorld struct {
	*world
	queue *fairqueue.Queue
	group sync.WaitGroup

	mu      sync.Mutex
	answers []string // whose, in their order
}

func newSharedWorld(t *testing.T) *sharedWorld {
	w := &sharedWorld{world: newWorld(t, options{readMemory: 32 << 20})}
	var err error
	w.queue, err = fairqueue.New(1)
	w.check(err)
	t.Cleanup(func() { w.check(w.queue.Close()) })
	w.Dirs.Cache.Turns = w.queue
	all := []any{}
	for id, key := range map[string]string{"will": key, "ann": annsKey} {
		dir := filepath.Join(w.root, map[string]string{"will": "data", "ann": "ann"}[id])
		w.check(os.MkdirAll(dir, 0o700))
		all = append(all, map[string]any{"id": id, "api_key": key, "data_dir": dir})
	}
	text, err := json.Marshal(map[string]any{"tenants": all})
	w.check(err)
	w.check(os.WriteFile(filepath.Join(w.root, "tenants.json"), text, 0o600))
	w.check(w.store.Reload())
	w.put("large.phext", strings.Repeat("a scroll\x17", 1000))
	for _, key := range []string{key, annsKey} { // which recovers the directories
		w.begin("", key, http.MethodGet, "/api/v2/select", "")
	}
	w.group.Wait()
	w.answers = nil
	return w
}

// begin sends a request on a connection of its own.
func (w *sharedWorld) begin(who, key, method, target, body string) {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	w.beginRequest(who, r)
}

func (w *sharedWorld) beginRequest(who string, r *http.Request) {
	turn := w.queue.Turn("")
	w.group.Go(func() {
		defer turn.Give() // as internal/http1 does
		w.Handler().ServeHTTP(&noting{httptest.NewRecorder(), w, who}, r.WithContext(fairqueue.WithTurn(r.Context(), turn)))
	})
}

// stranger is a request without a key from an address whose turns are, or are not, those of
// the usual one.
func (w *sharedWorld) stranger(target string, theSame bool) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	usual := w.Gateway.stranger(r)
	for i := 0; (w.Gateway.stranger(r) == usual) != theSame; i++ {
		r.RemoteAddr = fmt.Sprintf("198.51.100.%d:1", i)
	}
	return r
}

// noting notes whose an answer is when it begins.
type noting struct {
	*httptest.ResponseRecorder
	w   *sharedWorld
	who string
}

func (n *noting) Write(b []byte) (int, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.answers = append(n.w.answers, n.who)
	return len(b), nil
}

// await returns when so many wait for their turns.
func (w *sharedWorld) await(n int) {
	for w.queue.Waiting() != n {
		runtime.Gosched()
	}
}

// A large request of a neighbour that has its turn lets others go first after each piece
// of its work.
func TestANeighboursLargeRequestLetsOthersGoFirst(t *testing.T) {
	const text = 300 << 10 // more is too much for a form or JSON here
	lines, set := make([]string, 2000), make([]string, 2000)
	for i := range lines {
		set[i] = fmt.Sprintf("1.1.1/1.1.1/1.%d.%d", 1+i/900, 1+i%900)
		lines[i] = set[i] + ": 00112233445566778899aabbccddeeff"
	}
	for name, x := range map[string]struct{ method, target, body string }{
		"where":            {"POST", "/api/v2/where", strings.Repeat("a text\n", 3*text/7)},
		"where scrolls":    {"POST", "/api/v2/where", strings.Repeat("a\x17", text/2)},
		"where checksum":   {"POST", "/api/v2/where?algo=checksum", strings.Repeat("a text\n", 3*text/7)},
		"JSON text":        {"POST", "/api/v2/update?p=..", `{"c":"1.1.1/1.1.1/1.1.1","s":"` + strings.Repeat(`a \"text\" \u0041`, text/17) + `"}`},
		"JSON list":        {"POST", "/api/v2/update?p=..", `{"c":"1.1.1/1.1.1/1.1.1","x":[` + strings.Repeat(`[],`, text/3) + `[]],"s":"y"}`},
		"JSON name":        {"POST", "/api/v2/update?p=..", `{"` + strings.Repeat(`a`, text) + `":"","c":"1.1.1/1.1.1/1.1.1"}`},
		"JSON spaces":      {"POST", "/api/v2/update?p=..", strings.Repeat(" ", text) + `{"c":"1.1.1/1.1.1/1.1.1"}`},
		"not quite JSON":   {"POST", "/api/v2/update?p=..", `{"c":"1.1.1/1.1.1/1.1.1","s":"` + strings.Repeat(`x`, text)},
		"form text":        {"POST", "/api/v2/update?p=..", "c=1.1.1/1.1.1/1.1.1&s=" + strings.Repeat("a+", text/2)},
		"form parts":       {"POST", "/api/v2/update?p=..", "c=1.1.1/1.1.1/1.1.1&s=a" + strings.Repeat("&", text)},
		"text":             {"POST", "/api/v2/update?p=new&c=1.1.1/1.1.1/1.1.1", strings.Repeat("a text\n", 3*text/7) + "\x17"},
		"delta":            {"POST", "/api/v2/delta?p=notes", strings.Join(lines, "\n")},
		"query":            {"POST", "/api/v2/query?p=notes", strings.Join(set, "\n")},
		"range":            {"GET", "/api/v2/query?p=large&from=1.1.1/1.1.1/1.1.1&to=2.1.1/1.1.1/1.1.1", ""},
		"delta of a phext": {"GET", "/api/v2/delta?p=large", ""},
		"toc":              {"GET", "/api/v2/toc?p=large", ""},
		"json-export":      {"GET", "/api/v2/json-export?p=large", ""},
		"checksum":         {"GET", "/api/v2/checksum?p=text", ""},
		"list":             {"GET", "/api/v2/list?p=large", ""},
		"object":           {"GET", "/api/v2/read?p=text&c=1.1.1/1.1.1/1.1.1", ""},
		"select":           {"GET", "/api/v2/select?p=text&c=1.1.1/1.1.1/1.1.1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSharedWorld(t)
			w.put("large.phext", strings.Repeat(strings.Repeat("a scroll\x17", 900)+"\x18", 10))
			w.put("text.phext", strings.Repeat("a \"text\"\n", 30*text/9))
			if _, query, ok := strings.Cut(x.target, "p="); ok { // which has it in memory
				w.begin("", key, "GET", "/api/v2/select?c=9.1.1/1.1.1/1.1.1&p="+strings.Split(query, "&")[0], "")
			}
			w.begin("", annsKey, "GET", "/api/v2/select?p=notes", "")
			w.group.Wait()
			w.answers = nil
			turn := w.queue.Turn("somebody")
			w.check(turn.Take(t.Context()))
			w.begin("neighbour", key, x.method, x.target, x.body)
			w.await(1)
			for range 3 { // to parse a request and to answer it are only two
				another := w.queue.Turn("another")
				took := make(chan error, 1)
				go func() { took <- another.Take(t.Context()) }()
				for w.queue.Waiting() < 2 { // it waits before anything can go on
					runtime.Gosched()
				}
				turn.Give()
				w.check(<-took)
				for w.queue.Waiting() == 0 {
					if w.answered() > 0 {
						t.Fatal("the neighbour was answered first")
					}
					runtime.Gosched()
				}
				turn = another
			}
			turn.Give()
			w.group.Wait()
		})
	}
}

func (w *sharedWorld) answered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.answers)
}

func (w *sharedWorld) hasAnswered(who string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.answers, who)
}

// However many requests of a neighbour wait, and whatever they ask, a tenant has
// the next turn but one.
func TestANeighboursRequestsDoNotComeFirst(t *testing.T) {
	const many = 20
	for name, x := range map[string]struct {
		key, method, target, body string
		waiting                   int // of the many requests
	}{
		"select":        {key, "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.3", "", many},
		"status":        {key, "GET", "/api/v2/status?p=notes", "", many},
		"delta":         {key, "GET", "/api/v2/delta?p=notes", "", many},
		"where":         {key, "POST", "/api/v2/where", "a text", many},
		"large body":    {key, "POST", "/api/v2/update?p=new&c=1.1.1/1.1.1/1.1.1", strings.Repeat("x", 100<<10), many},
		"toc":           {key, "GET", "/api/v2/toc?p=notes", "", 1}, // one makes the answer for all of them
		"json-export":   {key, "GET", "/api/v2/json-export?p=notes", "", 1},
		"not in memory": {key, "GET", "/api/v2/select?p=large&c=1.1.1/1.1.1/1.1.1", "", 1}, // one reads the file
		"query":         {key, "GET", "/api/v2/query?p=notes&set=1.1.1/1.1.1/1.1.1", "", many},
		"list":          {key, "GET", "/api/v2/list?p=notes", "", many},
		"list of all":   {key, "GET", "/api/v2/list?p=*", "", 1},                   // one reads a file
		"search":        {key, "GET", "/api/v2/search?p=*&q=scroll", "", many - 1}, // two at a time, of which one reads a file; the others are refused
		"refused":       {key, "GET", "/api/v2/select?p=..", "", many},
		"wrong key":     {"pmb-v1-00000000000000000000000000000000", "GET", "/api/v2/select", "", many},
		"health":        {"", "GET", "/health", "", many},
		"version":       {key, "GET", "/api/v2/version", "", many},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSharedWorld(t)
			w.begin("", key, "GET", "/api/v2/select?p=notes", "") // so that it is in memory
			w.group.Wait()
			w.answers = nil
			first := w.queue.Turn("somebody")
			w.check(first.Take(t.Context()))
			for range many {
				w.begin("neighbour", x.key, x.method, x.target, x.body)
			}
			w.await(x.waiting)
			w.begin("ann", annsKey, "GET", "/api/v2/select?p=notes", "")
			w.await(x.waiting + 1)
			if len(w.answers) > 0 {
				t.Fatalf("%d answers without a turn", len(w.answers))
			}
			first.Give()
			w.group.Wait()
			if len(w.answers) != many+1 || w.answers[0] != "ann" && w.answers[1] != "ann" {
				t.Errorf("the answers are %q", w.answers)
			}
		})
	}
}

// However many without a key wait, others have their turns: whoever has a key, however long
// the URL, whoever asks whether sqgate lives, the operator, and other addresses.
func TestStrangersKeepNobodyWaiting(t *testing.T) {
	const many = 20
	long := "/api/v2/select?p=notes&" + strings.Repeat("z=&", parsedAside)
	keyed := func(r *http.Request, key string) *http.Request {
		r.Header.Set("Authorization", "Bearer "+key)
		return r
	}
	for name, request := range map[string]func(w *sharedWorld) *http.Request{
		"a key":               func(w *sharedWorld) *http.Request { return keyed(w.stranger(long, true), annsKey) },
		"a key in the path":   func(w *sharedWorld) *http.Request { return w.stranger("/k/"+pathKey+long, true) },
		"another's phext":     func(w *sharedWorld) *http.Request { return keyed(w.stranger("/ann"+long, true), key) },
		"health":              func(w *sharedWorld) *http.Request { return w.stranger("/health", true) },
		"version":             func(w *sharedWorld) *http.Request { return w.stranger("/api/v2/version", true) },
		"status page":         func(w *sharedWorld) *http.Request { return w.stranger("/status", true) },
		"management":          func(w *sharedWorld) *http.Request { return keyed(w.stranger("/api/v2/admin/x", true), "operator") },
		"another address":     func(w *sharedWorld) *http.Request { return w.stranger("/api/v2/select", false) },
		"another, a long URL": func(w *sharedWorld) *http.Request { return w.stranger("/ann"+long, false) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newSharedWorld(t)
			w.setTenant(nil, map[string]any{"id": "ann", "api_key": annsKey, "data_dir": filepath.Join(w.root, "ann")})
			w.check(w.store.Reload())
			w.OperatorKey = func(key string) string { return strings.TrimPrefix(key, annsKey) }
			w.Admin = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				w.check(infoOf(r).turn.Take(r.Context())) // as sending does
				_, _ = rw.Write([]byte("x"))
			})
			turn := w.queue.Turn("somebody")
			w.check(turn.Take(t.Context()))
			for range many {
				w.beginRequest("stranger", w.stranger("/api/v2/select", true))
			}
			w.await(many)
			w.beginRequest("other", request(w))
			w.await(many + 1)
			rounds := 0
			for ; !w.hasAnswered("other"); rounds++ {
				next, took, waiting := w.queue.Turn("somebody"), make(chan error, 1), w.queue.Waiting()
				go func() { took <- next.Take(t.Context()) }()
				w.await(waiting + 1)
				turn.Give() // each that waits now has one turn, and then next
				w.check(<-took)
				turn = next
				for !w.hasAnswered("other") && w.queue.Waiting() <= many-w.answered() { // it waits again
					runtime.Gosched()
				}
			}
			turn.Give()
			w.group.Wait()
			if rounds > many/2 {
				t.Errorf("it was answered after %d strangers", rounds)
			}
		})
	}
}

// A long URL of an address that has to wait is not parsed: it does not matter what it is about.
func TestALongURLOfWhoeverHasToWaitIsNotParsed(t *testing.T) {
	read := "/will/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.3&" + strings.Repeat("z=&", parsedAside)
	for name, exhaust := range map[string]func(w *world, r *http.Request) time.Duration{
		"wrong keys":   func(w *world, r *http.Request) time.Duration { return w.KeyLimit.Count(r) },
		"public reads": func(w *world, r *http.Request) time.Duration { return w.PublicLimit.Count(r) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{readMemory: 1 << 20, tenant: public("notes")})
			if answer := w.keylessly("GET", read, ""); answer.Code != 200 {
				t.Fatalf("%d %s", answer.Code, answer.Body)
			}
			for exhaust(w, w.request("GET", "/", "")) == 0 {
			}
			w.wantError(w.keylessly("GET", read, ""), 429, "rate_limited")
			w.wantError(w.keylessly("GET", strings.Replace(read, "notes", "secret", 1), ""), 429, "rate_limited")
			if answer := w.ask("GET", read, ""); answer.Code != 200 {
				t.Errorf("with a key: %d %s", answer.Code, answer.Body)
			}
		})
	}
}

// The last read that an address has is not refused while it is served.
func TestTheLastPublicReadIsServed(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: public("notes")})
	w.PublicLimit = keylimit.PerMinute(1, time.Now)
	passed := time.Duration(0)
	w.now = func() time.Time { // each look finds it too old not to be identified again
		passed += 2 * fresh
		return time.Now().Add(passed)
	}
	read := "/will/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.3&" + strings.Repeat("z=&", parsedAside)
	if answer := w.keylessly("GET", read, ""); answer.Code != 200 {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}
