package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"mirrorborn.us/sqgate/cluster"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/host"
)

// placement is who owns which directory, for several worlds.
type placement struct {
	mu    sync.Mutex
	peers []host.Peer
	owner string // of all directories
}

func (p *placement) set(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owner = owner
}

// oneHost is what a host knows of it. remembered is whom it takes for the owner until it
// Forgets that.
type oneHost struct {
	*placement
	name       string
	remembered string
}

func (h *oneHost) Peers() []host.Peer { return h.peers }

func (h *oneHost) Route(context.Context, string) (host.Peer, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := h.owner
	if h.remembered != "" {
		name = h.remembered
	}
	for _, p := range h.peers {
		if p.Name == name {
			return p, name == h.name, nil
		}
	}
	return host.Peer{}, false, datadir.ErrMoved
}

func (h *oneHost) Accepts(context.Context, string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.owner == h.name, nil
}

func (h *oneHost) Forget(string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remembered = ""
}

func (h *oneHost) Refresh(context.Context) error { return nil }

func (h *oneHost) Unreachable(string) {}

// join makes a world one of several hosts. The test waits for its server at its end.
func (p *placement) join(t *testing.T, w *world, name string) *oneHost {
	t.Helper()
	id, err := cluster.NewIdentity()
	w.check(err)
	h := &oneHost{placement: p, name: name}
	w.Hosts = cluster.New(cluster.Config{Hosts: h, Identity: id, Logger: w.Logger})
	server := httptest.NewUnstartedServer(w.HostHandler())
	server.Listener = w.Hosts.Listener(server.Listener, func(net.Addr) func() { return func() {} })
	server.Start()
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Hosts.Run(ctx) })
	t.Cleanup(server.Close)
	t.Cleanup(func() { end(); running.Wait() })
	p.peers = append(p.peers, host.Peer{Name: name, Alive: true, Incarnation: name, Fingerprint: id.Fingerprint, URL: "https://" + server.Listener.Addr().String()})
	return h
}

// twoHosts are of one service. Each has its own files, so that an answer tells whose it is.
func twoHosts(t *testing.T, o options) (p *placement, a, b *world, atA *oneHost) {
	t.Helper()
	p = &placement{owner: "b"}
	a, b = newWorld(t, o), newWorld(t, o)
	a.put("notes.phext", "\x17\x17at a")
	b.put("notes.phext", "\x17\x17at b")
	atA = p.join(t, a, "a")
	p.join(t, b, "b")
	return p, a, b, atA
}

const toNotes = "?p=notes&c=1.1.1/1.1.1/1.1.3"

func TestAnyHostTakesARequest(t *testing.T) {
	p, a, b, _ := twoHosts(t, options{readMemory: 1 << 20})
	for _, w := range []*world{a, b} {
		r := w.serve(w.request("GET", "/api/v2/select"+toNotes, ""))
		if r.Code != 200 || r.Body.String() != "at b" {
			t.Errorf("%d %s", r.Code, r.Body)
		}
		for _, name := range []string{"Access-Control-Allow-Origin", "X-Request-Id", "X-Content-Type-Options", "Cache-Control", "Etag"} {
			if n := len(r.Header().Values(name)); n != 1 {
				t.Errorf("%d of %s", n, name)
			}
		}
		if r := w.serve(w.request("POST", "/api/v2/update"+toNotes, "at b")); r.Code != 200 || r.Header().Get("X-Sq-Quota-Used") == "" {
			t.Errorf("%d %s", r.Code, r.Body)
		}
		// A write without any body empties nothing, at whichever host.
		if r := w.serve(w.request("POST", "/api/v2/update"+toNotes, "")); r.Code != http.StatusLengthRequired {
			t.Errorf("%d %s", r.Code, r.Body)
		}
	}
	p.set("a")
	if r := a.serve(a.request("GET", "/api/v2/select"+toNotes, "")); r.Body.String() != "at a" {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}

// TestTheOwnerCounts has limits, counts and figures at the owner alone, and one id in both logs.
func TestTheOwnerCounts(t *testing.T) {
	_, a, b, _ := twoHosts(t, options{tenant: map[string]any{"requests_per_minute": 2}})
	for i, want := range []int{200, 200, 429} {
		r := a.serve(a.request("GET", "/api/v2/select"+toNotes, "", "X-Forwarded-For", "198.51.100.7"))
		if r.Code != want {
			t.Errorf("request %d: %d %s", i, r.Code, r.Body)
		}
		for _, w := range []*world{a, b} {
			if id := "request=" + r.Header().Get("X-Request-Id"); strings.Count(w.log.String(), id) != 1 {
				t.Errorf("%s is not in the log once:\n%s", id, w.log.String())
			}
		}
	}
	if !strings.Contains(b.log.String(), "remote=192.0.2.1 ") || strings.Contains(b.log.String(), "198.51.100.7") {
		t.Errorf("the owner does not know the client:\n%s", b.log.String())
	}
	if will, _ := b.store.Current().ByID("will"); b.Calls.Of(will, b.now()).Today != 3 {
		t.Errorf("the owner counted %d", b.Calls.Of(will, b.now()).Today)
	}
	if will, _ := a.store.Current().ByID("will"); a.Calls.Of(will, a.now()).Today != 0 {
		t.Error("the door counted")
	}
	if len(a.observed) != 0 || len(b.observed) != 3 {
		t.Errorf("figures at the door: %q, at the owner: %q", a.observed, b.observed)
	}
}

// TestAKeyIsCheckedOnBothHosts sends wrong keys to either, and one that only the door takes.
func TestAKeyIsCheckedOnBothHosts(t *testing.T) {
	const othersKey = "pmb-v1-ffeeddccbbaa99887766554433221100"
	other := map[string]any{"id": "emi", "api_key": othersKey, "data_dir": t.TempDir()}
	_, a, b, _ := twoHosts(t, options{others: []map[string]any{other}})
	for _, test := range []struct {
		name, key, target string
		status            int
	}{
		{"no tenant's", "pmb-v1-0000000000000000", "/api/v2/select", 401},
		{"another tenant's, with the id in the path", othersKey, "/will/api/v2/select", 403},
		{"another tenant's", othersKey, "/api/v2/select", 200}, // of its own phext, in which is nothing
	} {
		r := a.serve(a.request("GET", test.target+toNotes, "", "Authorization", "Bearer "+test.key))
		if r.Code != test.status || strings.Contains(r.Body.String(), "at b") {
			t.Errorf("%s: %d %s", test.name, r.Code, r.Body)
		}
	}
	// The owner does not know the tenant's new key yet, and looks.
	looked := 0
	b.setTenant(map[string]any{"api_key": othersKey})
	b.check(b.store.Reload())
	b.RefreshTenants = func(context.Context) {
		looked++
		b.setTenant(nil)
		b.check(b.store.Reload())
	}
	if r := a.serve(a.request("GET", "/api/v2/select"+toNotes, "")); r.Code != 200 || looked != 1 {
		t.Errorf("%d %s, looked %d times", r.Code, r.Body, looked)
	}
	// And it takes no key that is good at the door alone.
	b.setTenant(map[string]any{"api_key": "pmb-v1-another-one"})
	b.check(b.store.Reload())
	b.RefreshTenants = func(context.Context) { looked++ }
	if r := a.serve(a.request("GET", "/api/v2/select"+toNotes, "")); r.Code != 401 || looked != 2 {
		t.Errorf("%d %s, looked %d times", r.Code, r.Body, looked)
	}
}

// TestTheDoorTakesNobodysWord has a client say what only hosts may say.
func TestTheDoorTakesNobodysWord(t *testing.T) {
	p, a, _, _ := twoHosts(t, options{})
	for _, owner := range []string{"a", "b"} {
		p.set(owner)
		r := a.serve(a.request("GET", "/api/v2/select"+toNotes, "", "Sqgate-Method", "DELETE", "X-Request-Id", "0123456789abcdef", "X-Forwarded-For", "127.0.0.1"))
		if r.Code != 200 || r.Body.String() != "at "+owner || r.Header().Get("X-Request-Id") == "0123456789abcdef" {
			t.Errorf("%d %s %v", r.Code, r.Body, r.Header())
		}
	}
	if strings.Contains(a.log.String(), "remote=127.0.0.1") {
		t.Error("a client was believed what its address is")
	}
}

// TestADirectoryMovesBetween has each host say that a directory is not its own any more.
func TestADirectoryMovesBetween(t *testing.T) {
	p, a, b, atA := twoHosts(t, options{})
	p.set("a")
	atA.remembered = "b" // which refuses
	if r := a.serve(a.request("POST", "/api/v2/update"+toNotes, "at a")); r.Code != 200 || atA.remembered != "" {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	// A handler finds out that the directory is another host's: nothing was answered yet.
	handler := func(w *world, then string) http.Handler {
		return w.withOwner(false, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			w.check(err)
			infoOf(r).body = body
			p.set(then)
			w.refuse(out, r, errors.Join(errors.New("the lease has ended"), datadir.ErrMoved))
		}))
	}
	will, _ := a.store.Current().ByID("will")
	h := a.withAccessLog(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		infoOf(r).access = access{tenant: will, caller: will, key: key, scope: rewrite.Everything}
		handler(a, "b").ServeHTTP(out, r)
	}))
	r := httptest.NewRecorder()
	h.ServeHTTP(r, a.request("POST", "/api/v2/update"+toNotes, "a text"))
	if r.Code != 200 || r.Body.String() != "Updated 6 bytes" {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	if r := b.serve(b.request("GET", "/api/v2/select"+toNotes, "")); r.Body.String() != "a text" {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}

// TestRequestsOnTheirWayAreBounded has one tenant fill its places at the door with requests
// for another host.
func TestRequestsOnTheirWayAreBounded(t *testing.T) {
	_, a, b, _ := twoHosts(t, options{})
	var leaves []func()
	for {
		leave, err := a.dir.Enter("")
		if err != nil {
			break
		}
		leaves = append(leaves, leave)
	}
	if r := a.serve(a.request("GET", "/api/v2/select"+toNotes, "")); r.Code != 503 || len(b.observed) != 0 {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	for _, leave := range leaves {
		leave()
	}
	bodies, all := a.dir.Bodies.Limit(), a.dir.Bodies.Of("")
	all.Take(bodies)
	if r := a.serve(a.request("POST", "/api/v2/update"+toNotes, strings.Repeat("x", 60_000))); r.Code != 503 || len(b.observed) != 0 {
		t.Errorf("a body that has no room: %d %s", r.Code, r.Body)
	}
	all.Give(bodies)
	if r := a.serve(a.request("POST", "/api/v2/update"+toNotes, strings.Repeat("x", 60_000))); r.Code != 200 || !all.Take(bodies) {
		t.Errorf("a body that has room: %d %s", r.Code, r.Body)
	}
	all.Give(bodies)
	if r := a.serve(a.request("GET", "/api/v2/select"+toNotes, "")); r.Code != 200 {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	if leave, err := a.dir.Enter(""); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}

// statusOf is a client that waits for the status of an answer without an end.
type statusOf struct {
	*httptest.ResponseRecorder
	status chan int
}

func (s *statusOf) WriteHeader(status int) {
	s.status <- status
	s.ResponseRecorder.WriteHeader(status)
}

// TestOneTenantsListenersLeavePlacesToOthers opens more and more at the door, until they are
// refused there: the owner would have more.
func TestOneTenantsListenersLeavePlacesToOthers(t *testing.T) {
	others := []map[string]any{{"id": "other", "api_key": otherKey, "data_dir": t.TempDir()}}
	_, a, _, _ := twoHosts(t, options{others: others})
	client, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer leave()
	listen := func(key string) int {
		w := &statusOf{httptest.NewRecorder(), make(chan int, 1)}
		r := a.request("GET", "/api/v2/changes", "", "Accept", eventStream, "Authorization", "Bearer "+key).WithContext(client)
		all.Go(func() {
			defer func() { _ = recover() }() // an answer that breaks off ends with a panic
			a.Handler().ServeHTTP(w, r)
		})
		return <-w.status
	}
	status, n := 200, 0
	for ; status == 200 && n < mostStreams/2; n++ {
		status = listen(key)
	}
	if status != 503 {
		t.Errorf("%d of one tenant listen", n)
	}
	if status := listen(otherKey); status != 200 {
		t.Errorf("after %d of one tenant, another one's got %d", n-1, status)
	}
}
