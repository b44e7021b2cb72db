package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/internal/pace"
	"mirrorborn.us/sqgate/storage/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bucket is what hosts of a test know of each other.
type bucket struct {
	mu     sync.Mutex
	peers  []host.Peer
	unseen []host.Peer
	owner  string
}

// view is a Hosts. What it does not Forget, it may remember wrongly.
type view struct {
	*bucket
	name        string
	remembered  string // instead of the owner; "" = that one
	forgotten   int
	unreachable []string
}

func (v *view) Peers() []host.Peer {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]host.Peer(nil), v.peers...)
}

// Refresh lets the host see one that has just started.
func (v *view) Refresh(context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.peers = append(v.peers, v.unseen...)
	v.unseen = nil
	return nil
}

func (v *view) Route(context.Context, string) (host.Peer, bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := cmp.Or(v.remembered, v.owner)
	for _, p := range v.peers {
		if p.Name == name {
			return p, name == v.name, nil
		}
	}
	return host.Peer{}, false, errNoOwner
}

func (v *view) Accepts(context.Context, string) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.owner == v.name, nil
}

func (v *view) Forget(string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.remembered = ""
	v.forgotten++
}

func (v *view) Unreachable(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unreachable = append(v.unreachable, name)
}

// member is a host of a test, with a listener for the others.
type member struct {
	*Forwarder
	view   *view
	server *httptest.Server
}

func (b *bucket) join(t *testing.T, name string, serve http.HandlerFunc) *member {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	m := &member{view: &view{bucket: b, name: name}}
	m.Forwarder = New(Config{Hosts: m.view, Identity: id, Logger: slog.New(slog.DiscardHandler)})
	m.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		as, _, ok := Received(r)
		accepted, _ := m.Accepts(r.Context(), "d")
		switch {
		case !ok:
			w.WriteHeader(http.StatusBadRequest)
		case !accepted:
			RefuseNotOwner(w)
		default:
			serve(w, as)
		}
	}))
	m.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	m.server.Listener = m.Listener(m.server.Listener, anybody)
	m.server.Start()
	t.Cleanup(m.server.Close)
	t.Cleanup(m.transport.CloseIdleConnections)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peers = append(b.peers, host.Peer{Name: name, Alive: true, Fingerprint: id.Fingerprint, URL: "https://" + m.server.Listener.Addr().String()})
	return m
}

// ask has a host answer a request that begins there.
func (m *member) ask(t *testing.T, r *http.Request, repeatable bool, here func(w http.ResponseWriter, r *http.Request) bool) (*httptest.ResponseRecorder, error) {
	t.Helper()
	w := httptest.NewRecorder()
	w.Header().Set("X-Of-The-Door", "1")
	err := m.Serve(w, r, Call{Dir: "d", ID: "0123456789abcdef", Repeatable: repeatable, Here: func() (bool, []byte) { return here(w, r), nil }})
	return w, err
}

// anybody may connect.
func anybody(net.Addr) (decided func()) { return func() {} }

func never(t *testing.T) func(http.ResponseWriter, *http.Request) bool {
	return func(http.ResponseWriter, *http.Request) bool { t.Error("it was served at the door"); return false }
}

// tell answers with all that the handler was told.
func tell(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header().Set("X-Of-The-Owner", "1")
	fmt.Fprintf(w, "%s %s from %s, length %d, Content-Length %q, key %q, marks %q %q, body %d %.5s %v", r.Method, r.URL.RequestURI(), r.RemoteAddr, r.ContentLength, r.Header.Get("Content-Length"),
		r.Header.Get("Authorization"), r.Header.Get(headerMethod), r.Header.Get(headerClient), len(body), body, err)
}

func TestTheOwnerGetsTheRequestAsItWas(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", tell)
	b.join(t, "b", tell)
	large := strings.Repeat("x", 3*pace.Step)
	for _, test := range []struct {
		name   string
		method string
		target string
		body   io.Reader
		change func(*http.Request)
		want   string
	}{
		{"a read", "GET", "/api/v2/toc?p=a;b&c=%zz", nil, nil, `GET /api/v2/toc?p=a;b&c=%zz from 192.0.2.1:0, length 0, Content-Length "", key "Bearer k", marks "" "", body 0  <nil>`},
		{"an escaped path", "GET", "//k/a%2Fb/x", nil, nil, `GET //k/a%2Fb/x from 192.0.2.1:0, length 0, Content-Length "", key "Bearer k", marks "" "", body 0  <nil>`},
		{"a small body", "PUT", "/u", strings.NewReader("small"), nil, `PUT /u from 192.0.2.1:0, length 5, Content-Length "5", key "Bearer k", marks "" "", body 5 small <nil>`},
		{"an empty body", "POST", "/u", http.NoBody, func(r *http.Request) { r.Header.Set("Content-Length", "0") }, `POST /u from 192.0.2.1:0, length 0, Content-Length "0", key "Bearer k", marks "" "", body 0  <nil>`},
		{"no body, and no word of one", "POST", "/u", nil, nil, `POST /u from 192.0.2.1:0, length 0, Content-Length "", key "Bearer k", marks "" "", body 0  <nil>`},
		{"a large body", "POST", "/u", strings.NewReader(large), nil, fmt.Sprintf(`POST /u from 192.0.2.1:0, length %[1]d, Content-Length "%[1]d", key "Bearer k", marks "" "", body %[1]d xxxxx <nil>`, len(large))},
		{"a body without a length", "POST", "/u", io.MultiReader(strings.NewReader("chunks")), nil, `POST /u from 192.0.2.1:0, length -1, Content-Length "", key "Bearer k", marks "" "", body 6 chunk <nil>`},
		{"what a client must not say", "GET", "/r", nil, func(r *http.Request) {
			r.Header.Set(headerMethod, "DELETE")
			r.Header.Set(headerClient, "198.51.100.7")
			r.Header.Set(headerUnframed, "1")
			r.Header.Set("Connection", "Upgrade, Authorization")
			r.Header.Set("Upgrade", "websocket")
		}, `GET /r from 192.0.2.1:0, length 0, Content-Length "", key "Bearer k", marks "" "", body 0  <nil>`},
		{"a proxy on this host", "GET", "/r", nil, func(r *http.Request) {
			r.RemoteAddr = "127.0.0.1:5"
			r.Header.Set(headerClient, "203.0.113.1, 198.51.100.7")
		}, `GET /r from 198.51.100.7:0, length 0, Content-Length "", key "Bearer k", marks "" "", body 0  <nil>`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.target, test.body)
			r.Header.Set("Authorization", "Bearer k")
			if test.change != nil {
				test.change(r)
			}
			w, err := a.ask(t, r, false, never(t))
			if err != nil {
				t.Fatal(err)
			}
			if w.Body.String() != test.want {
				t.Errorf("the owner was told\n%s, want\n%s", w.Body, test.want)
			}
			if w.Header().Get("X-Of-The-Owner") == "" || w.Header().Get("X-Of-The-Door") != "" {
				t.Errorf("the headers are not the owner's: %v", w.Header())
			}
		})
	}
	if n := a.Counts()[Answered]; n != 9 {
		t.Errorf("%d were counted", n)
	}
}

// TestAHostHasJustStarted is the first that the owner sees of it.
func TestAHostHasJustStarted(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", tell)
	b.join(t, "b", tell)
	a.view.bucket = &bucket{owner: "b", peers: b.peers[1:]}
	b.peers, b.unseen = b.peers[1:], b.peers[:1]
	if _, err := a.ask(t, httptest.NewRequest("GET", "/r", nil), true, never(t)); err != nil || a.Counts()[Answered] != 1 || a.Counts()[Unreachable] != 0 {
		t.Errorf("%v, %v", err, a.Counts())
	}
}

// TestTheOwnerHasChanged asks a host whose memory is wrong: the other one says so, and it
// looks again.
func TestTheOwnerHasChanged(t *testing.T) {
	b := &bucket{owner: "c"}
	a := b.join(t, "a", tell)
	b.join(t, "b", tell)
	b.join(t, "c", tell)
	for _, size := range []int{0, 10, 3 * pace.Step} { // of a large body nothing is sent to whoever does not want it
		a.view.remembered = "b"
		w, err := a.ask(t, httptest.NewRequest("POST", "/u", strings.NewReader(strings.Repeat("x", size))), false, never(t))
		if want := fmt.Sprintf("body %d ", size); err != nil || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d bytes: %v %s", size, err, w.Body)
		}
	}
	if c := a.Counts(); a.view.forgotten != 3 || c[NotOwner] != 3 || c[Answered] != 3 {
		t.Errorf("forgot %d times, %v", a.view.forgotten, c)
	}
}

// TestADirectoryMovesAwayMeanwhile has a host lose a directory after it has read the body.
func TestADirectoryMovesAwayMeanwhile(t *testing.T) {
	b := &bucket{owner: "a"}
	a := b.join(t, "a", tell)
	b.join(t, "b", tell)
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/u", strings.NewReader("text"))
	err := a.Serve(w, r, Call{Dir: "d", ID: "0123456789abcdef", Here: func() (bool, []byte) {
		text, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.owner = "b"
		return true, text
	}})
	if err != nil || !strings.Contains(w.Body.String(), "body 4 text") {
		t.Errorf("%v %s", err, w.Body)
	}
}

// fill takes all places that owners can have.
func fill(t *testing.T, all *memlimit.Shares, owners ...string) {
	t.Helper()
	for _, owner := range owners {
		for share := all.Of(owner); share.Take(1); {
			t.Cleanup(func() { share.Give(1) })
		}
	}
}

// TestWhatSomeTakeLeavesAPlaceForTheNext has tenants whose requests do not end: the places
// to one host are not those to another, and those of streams are for all hosts.
func TestWhatSomeTakeLeavesAPlaceForTheNext(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", nil)
	b.join(t, "b", tell)
	b.join(t, "c", tell)
	to := b.peers[1].Fingerprint
	all := []string{"greedy", "too", "three"}
	fill(t, a.requestsTo(to), all...)
	fill(t, a.streams, all...)
	ask := func(owner string, endless bool) error {
		return a.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/r", nil), Call{Dir: "d", ID: "0123456789abcdef", Owner: owner, Endless: endless})
	}
	for range 2 { // what is answered has no place any more
		for _, endless := range []bool{false, true} {
			if err := ask("", endless); err != nil {
				t.Errorf("endless %v: %v", endless, err)
			}
			want := map[bool]error{false: errTooMany, true: errTooManyStreams}[endless]
			for _, owner := range all {
				if err := ask(owner, endless); err != want || apierror.From(err).RetryAfter == 0 {
					t.Errorf("%s, endless %v: %v", owner, endless, err)
				}
			}
		}
	}
	b.owner = "c"
	for _, owner := range all {
		if err := ask(owner, false); err != nil {
			t.Error(err)
		}
		if err := ask(owner, true); err != errTooManyStreams {
			t.Error(err)
		}
	}
	if n := a.streams.Used(); n < mostStreams*3/5 || n == mostStreams {
		t.Errorf("%d places are taken", n)
	}
}

// TestStreamsTakeNoPlacesOfOthers, and end with their clients, which says nothing against
// the owner.
func TestStreamsTakeNoPlacesOfOthers(t *testing.T) {
	b := &bucket{owner: "b"}
	begun := make(chan struct{}, 2)
	b.join(t, "b", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/changes" {
			tell(w, r)
			return
		}
		_ = http.NewResponseController(w).Flush() // it can
		begun <- struct{}{}
		<-r.Context().Done()
	})
	a := b.join(t, "a", nil)
	client, leave := context.WithCancel(t.Context())
	defer leave()
	var streams sync.WaitGroup
	for range cap(begun) {
		streams.Go(func() {
			defer func() { _ = recover() }() // an answer that breaks off ends with a panic
			r := httptest.NewRequestWithContext(client, "GET", "/changes", nil)
			_ = a.Serve(httptest.NewRecorder(), r, Call{Dir: "d", ID: "0123456789abcdef", Repeatable: true, Endless: true})
		})
		select {
		case <-begun:
		case <-time.After(10 * time.Second):
			t.Fatal("a stream did not begin")
		}
	}
	if n := a.requestsTo(b.peers[0].Fingerprint).Used(); n != 0 || a.streams.Used() != int64(cap(begun)) {
		t.Errorf("%d places of others, and %d of streams", n, a.streams.Used())
	}
	leave()
	streams.Wait()
	if n := a.streams.Used(); n != 0 {
		t.Errorf("%d places were kept", n)
	}
	if n := a.Counts(); n[Lost] != 0 || n[Unreachable] != 0 || len(a.view.unreachable) != 0 {
		t.Errorf("%v, unreachable %v", n, a.view.unreachable)
	}
}

// TestTheTransportRepeatsNothingByItself: a header that says that a request may be repeated
// goes along only if sqgate heeds it.
func TestTheTransportRepeatsNothingByItself(t *testing.T) {
	b := &bucket{owner: "b"}
	b.join(t, "b", func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
			fmt.Fprint(w, len(r.Header.Values(name)), " ")
		}
	})
	a := b.join(t, "a", nil)
	for given, want := range map[string]string{"": "0 0 ", "once": "1 0 "} {
		r := httptest.NewRequest("POST", "/insert", strings.NewReader("text"))
		r.Header.Set("Idempotency-Key", given)
		r.Header.Set("X-Idempotency-Key", "x")
		if w, err := a.ask(t, r, false, never(t)); err != nil || w.Body.String() != want {
			t.Errorf("%q: %q %v", given, w.Body, err)
		}
	}
}

// TestATrailerIsLeftOut, whatever its name: it says nothing of the other host.
func TestATrailerIsLeftOut(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", nil)
	b.join(t, "b", tell)
	r := httptest.NewRequest("POST", "/r", strings.NewReader("text"))
	r.ContentLength, r.TransferEncoding, r.Trailer = -1, []string{"chunked"}, http.Header{"A b": nil}
	if w, err := a.ask(t, r, true, never(t)); err != nil || w.Code != 200 {
		t.Errorf("%v, %d %s", err, w.Code, w.Body)
	}
	if n := a.Counts(); n[Unreachable] != 0 {
		t.Errorf("%v", n)
	}
}

// TestOnlyHostsOfTheBucketGetIn tries a certificate that is not in the bucket, and none.
func TestOnlyHostsOfTheBucketGetIn(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", tell)
	b.join(t, "b", tell)
	other, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, certificates := range [][]tls.Certificate{nil, {other.certificate}} {
		config := other.config(func(string) bool { return true })
		config.Certificates = certificates
		conn, err := tls.Dial("tcp", strings.TrimPrefix(b.peers[1].URL, "https://"), config)
		if err == nil {
			_ = conn.Close()
			t.Error("a stranger got in")
		}
	}
	// And whoever has taken a host's address is not told anything: it has another certificate.
	b.peers[1].Fingerprint = strings.Repeat("0", 64)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := a.ask(t, httptest.NewRequest("POST", "/u", nil).WithContext(ctx), false, never(t)); err != errNoOwner && err != ctx.Err() || a.Counts()[Unreachable] == 0 {
		t.Errorf("%v, %v", err, a.Counts())
	}
}

// TestAHostCannotBeReached has the first attempt end before anything is sent, and the next
// one find the host that has taken over.
func TestAHostCannotBeReached(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", tell)
	dead := b.join(t, "b", tell)
	b.join(t, "c", tell)
	dead.server.Close()
	a.view.remembered, b.owner = "b", "c"
	w, err := a.ask(t, httptest.NewRequest("POST", "/u", strings.NewReader("text")), false, never(t))
	if err != nil || !strings.Contains(w.Body.String(), "body 4 text") {
		t.Errorf("%v %s", err, w.Body)
	}
	if a.Counts()[Unreachable] != 1 || len(a.view.unreachable) != 1 || a.view.unreachable[0] != "b" {
		t.Errorf("%v, %v", a.Counts(), a.view.unreachable)
	}
}

// TestAHostIsCutOff has the system of the owner not answer at all. After the first request,
// others are told at once to ask another host, except for one now and then that tries.
func TestAHostIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{owner: "b", peers: []host.Peer{{Name: "a"}, {Name: "b", Alive: true, Fingerprint: "f", URL: "https://b:1"}}}
		refuses, dials := false, 0
		f := New(Config{Hosts: &view{bucket: b, name: "a"}, Logger: slog.New(slog.DiscardHandler), Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if dials++; refuses {
				return nil, syscall.ECONNREFUSED
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		here := false
		ask := func(want error, within time.Duration) {
			t.Helper()
			begun := time.Now()
			err := f.Serve(httptest.NewRecorder(), httptest.NewRequest("POST", "/u", nil), Call{Dir: "d", Here: func() (bool, []byte) { here = true; return false, nil }})
			if took := time.Since(begun); !errors.Is(err, want) || took > within {
				t.Errorf("%v after %v", err, took)
			}
		}
		ask(errCutOff, dialTimeout+time.Second/2)
		for range 3 {
			ask(errCutOff, 0)
		}
		time.Sleep(silentFor)
		var one sync.WaitGroup
		one.Go(func() { ask(errCutOff, dialTimeout+time.Second/2) })
		synctest.Wait()
		ask(errCutOff, 0)
		one.Wait()
		if dials != 2 {
			t.Errorf("it was tried %d times", dials)
		}
		time.Sleep(silentFor)
		refuses = true // its system answers: the process is to come back, or another host to take over
		time.AfterFunc(time.Second, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.owner = "a"
		})
		ask(nil, 2*time.Second)
		if !here {
			t.Error("it was not served at the door")
		}
	})
}

// TestAnAnswerIsLost cuts the connection when the owner has done what was asked. A write
// is not repeated, also if it is a GET, unless that does no harm.
func TestAnAnswerIsLost(t *testing.T) {
	for _, test := range []struct {
		name       string
		repeatable bool
		body       int
		want       error
		done       int
	}{
		{"a write", false, 10, errLost, 1},
		{"a write without a body", false, 0, errLost, 1},
		{"a read", true, 0, nil, 2},
		{"a write with an Idempotency-Key", true, 10, nil, 2},
		{"one with a large body", true, 3 * pace.Step, errLostRead, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &bucket{owner: "b"}
			a := b.join(t, "a", tell)
			done := 0
			b.join(t, "b", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if r.URL.Path == "/lost" {
					if done++; done == 1 {
						panic(http.ErrAbortHandler)
					}
				}
			})
			// The connection is one that was used before: http.Transport repeats a GET there.
			if _, err := a.ask(t, httptest.NewRequest("GET", "/before", nil), true, never(t)); err != nil {
				t.Fatal(err)
			}
			_, err := a.ask(t, httptest.NewRequest("GET", "/lost", bytes.NewReader(make([]byte, test.body))), test.repeatable, never(t))
			if err != test.want || done != test.done {
				t.Errorf("%v after %d times, want %v after %d", err, done, test.want, test.done)
			}
		})
	}
}

// TestNobodyServesWhatWasLost has a write with an Idempotency-Key get lost, and then no host
// have its directory. It may have been made: only otherwise the answer says that it was not.
func TestNobodyServesWhatWasLost(t *testing.T) {
	for path, want := range map[string]error{"/lost": errLostRead, "/refused": errNoOwner} {
		b := &bucket{owner: "b"}
		a := b.join(t, "a", tell)
		b.join(t, "b", func(w http.ResponseWriter, r *http.Request) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.owner = "nobody"
			if r.URL.Path == "/lost" {
				panic(http.ErrAbortHandler)
			}
			RefuseNotOwner(w)
		})
		if _, err := a.ask(t, httptest.NewRequest("POST", path, strings.NewReader("text")), true, never(t)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

// TestAHostDiesMeanwhile has a request wait for a host that has stopped. Run ends that.
func TestAHostDiesMeanwhile(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", tell)
	asked, end := make(chan struct{}), make(chan struct{})
	b.join(t, "b", func(http.ResponseWriter, *http.Request) { close(asked); <-end })
	defer close(end)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { a.Run(ctx) })
	go func() {
		<-asked
		b.mu.Lock()
		defer b.mu.Unlock()
		b.peers[1].Alive, b.owner = false, "a"
	}()
	served := false
	_, err := a.ask(t, httptest.NewRequest("GET", "/r", nil), true, func(http.ResponseWriter, *http.Request) bool { served = true; return false })
	if err != nil || !served || a.Counts()[Lost] != 1 {
		t.Errorf("%v, served at the door: %v, %v", err, served, a.Counts())
	}
}

// TestAnAnswerBreaksOff has the owner die in the middle of it. The client must not take it
// for whole.
func TestAnAnswerBreaksOff(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", tell)
	b.join(t, "b", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("the client was not told: %v", v)
		}
	}()
	_, err := a.ask(t, httptest.NewRequest("GET", "/r", nil), true, never(t))
	t.Errorf("it went on: %v", err)
}

// TestABodyIsCutShort sends nothing on: nothing was changed.
func TestABodyIsCutShort(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", tell)
	b.join(t, "b", func(http.ResponseWriter, *http.Request) { t.Error("it was sent on") })
	r := httptest.NewRequest("POST", "/u", strings.NewReader("short"))
	r.ContentLength = 10
	_, err := a.ask(t, r, false, never(t))
	var e *apierror.Error
	if !errors.As(err, &e) || e.Kind != apierror.BadRequest {
		t.Errorf("%v", err)
	}
}

// TestALargeBodyIsCutShort while it is sent on, which says nothing against the owner.
func TestALargeBodyIsCutShort(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", tell)
	b.join(t, "b", func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Error("the owner got a body that ends")
		}
	})
	r := httptest.NewRequest("POST", "/u", io.MultiReader(strings.NewReader("short"), errorReader{}))
	r.ContentLength = -1
	_, err := a.ask(t, r, false, never(t))
	if e := apierror.From(err); e == nil || e.Kind != apierror.BadRequest {
		t.Errorf("%v", err)
	}
	if n := a.Counts(); n[Lost] != 0 {
		t.Errorf("%v", n)
	}
}

// errorReader is a client that sends what is no chunk.
type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("malformed chunk") }

// TestStrangersOfTheDoor has requests that no host sends.
func TestStrangersOfTheDoor(t *testing.T) {
	for _, id := range []string{"", "0123456789ABCDEF", "0123456789abcdef\n", "x"} {
		r := httptest.NewRequest("POST", "/u", nil)
		r.Header[headerID], r.Header[headerMethod] = []string{id}, []string{"GET"}
		if _, _, ok := Received(r); ok {
			t.Errorf("id %q was taken", id)
		}
	}
}
