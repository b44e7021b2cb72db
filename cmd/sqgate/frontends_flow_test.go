package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// protocols are the ways to speak to a frontend.
func (f *frontend) protocols() map[string]*http.Client {
	return map[string]*http.Client{"http1": f.h1, "http2": f.h2}
}

// TestFrontendsPassBodies sends and reads what is large, slow or cut off.
func TestFrontendsPassBodies(t *testing.T) {
	forEachFrontend(t, func(t *testing.T, start func(string) *frontend) {
		g := startGate(t, bestSQ(), "http1", "http2")
		f := start(strings.TrimPrefix(g.url, "http://"))
		for id, client := range f.protocols() {
			t.Run(id, func(t *testing.T) {
				g := &gate{t: t, url: "https://" + siteName, client: client, file: g.file, log: g.log}
				g.passesLarge(t, id)
				g.passesSlow(t, id)
				g.losesNothingToAnAbort(t, id)
			})
		}
	})
}

// passesLarge writes as much as --max-body allows, and reads it slowly while others
// are answered. One byte more is refused by sqgate itself.
func (g *gate) passesLarge(t *testing.T, id string) {
	t.Helper()
	const limit = 64 << 20
	large := strings.Repeat("0123456789abcde\n", limit/16)
	target := "/api/v2/update?p=large&c=" + origin
	if r := g.must(id, "POST", target, large, 200); r.body != fmt.Sprintf("Updated %d bytes", limit) {
		t.Errorf("64 MiB: %s", r.body)
	}
	for _, length := range []int64{limit + 1, -1} { // with its length and chunked
		r := newRequest(t, "POST", g.url, target, io.MultiReader(strings.NewReader(large), strings.NewReader("x")))
		r.ContentLength = length
		r.Header.Set("Authorization", "Bearer "+g.key(id))
		if answer, err := answerOf(g.client, r); err != nil || answer.status != 413 || !strings.Contains(answer.body, `"code":"too_large"`) {
			t.Errorf("64 MiB and a byte: %v %d %s", err, answer.status, answer.body)
		}
	}
	r := newRequest(t, "GET", g.url, "/api/v2/select?p=large&c="+origin, nil)
	r.Header.Set("Authorization", "Bearer "+g.key(id))
	resp, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	some := make([]byte, 1<<20)
	for from := 0; from < limit; from += len(some) {
		if _, err := io.ReadFull(resp.Body, some); err != nil || string(some) != large[from:from+len(some)] {
			t.Fatalf("the answer differs near %d: %v", from, err)
		}
		if from%(8<<20) == 0 {
			g.get(id, at("select", "small", origin))
		}
	}
}

// passesSlow stops in the middle of an upload until others have been answered.
func (g *gate) passesSlow(t *testing.T, id string) {
	t.Helper()
	body, upload := io.Pipe()
	r := newRequest(t, "POST", g.url, at("update", "slow", origin), body)
	r.ContentLength = 200 << 10
	r.Header.Set("Authorization", "Bearer "+g.key(id))
	type result struct {
		reply
		err error
	}
	done := make(chan result, 1)
	go func() { answer, err := answerOf(g.client, r); done <- result{answer, err} }()
	half := strings.Repeat("x", 100<<10)
	for range 2 {
		if _, err := io.WriteString(upload, half); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			g.must(id, "POST", at("update", "small", origin), "y", 200)
		}
	}
	_ = upload.Close() // a pipe's always succeeds
	if answer := <-done; answer.err != nil || answer.body != "Updated 204800 bytes" {
		t.Errorf("a slow upload: %v %d %s", answer.err, answer.status, answer.body)
	}
}

// losesNothingToAnAbort breaks uploads off. sqgate must see that they are not whole.
func (g *gate) losesNothingToAnAbort(t *testing.T, id string) {
	t.Helper()
	g.must(id, "POST", at("update", "cut", origin), "before", 200)
	for _, length := range []int64{200 << 10, -1} {
		seen := strings.Count(g.log.String(), "tenant="+id+" op=update")
		eventually(t, "sqgate sees a part of an upload", func() bool { // some are gone before anything was passed on
			body, upload := io.Pipe()
			ctx, abort := context.WithCancel(t.Context())
			r := newRequest(t, "POST", g.url, at("update", "cut", origin), body).WithContext(ctx)
			r.ContentLength = length
			r.Header.Set("Authorization", "Bearer "+g.key(id))
			done := make(chan error, 1)
			go func() { _, err := answerOf(g.client, r); done <- err }()
			if _, err := io.WriteString(upload, strings.Repeat("x", 100<<10)); err != nil {
				t.Fatal(err)
			}
			abort()
			_ = upload.CloseWithError(context.Canceled) // a pipe's always succeeds
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatalf("an aborted upload: %v", err)
			}
			return strings.Count(g.log.String(), "tenant="+id+" op=update") > seen
		})
		if got := g.get(id, at("select", "cut", origin)); got != "before" {
			t.Errorf("an aborted upload of length %d left %d bytes", length, len(got))
		}
	}
}

// TestFrontendsPassEventsAtOnce has a server send one event after the other, each
// when the client has the one before.
func TestFrontendsPassEventsAtOnce(t *testing.T) {
	forEachFrontend(t, func(t *testing.T, start func(string) *frontend) {
		received := make(chan struct{})
		var heartbeat <-chan time.Time
		if strings.HasSuffix(t.Name(), "/haproxy") { // which sees only then that the client has left
			ticker := time.NewTicker(10 * time.Millisecond)
			defer ticker.Stop()
			heartbeat = ticker.C
		}
		source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
			for i := range 20 {
				fmt.Fprintf(w, "id: %d\ndata: x\n\n", i)
				_ = http.NewResponseController(w).Flush() // if the client is gone, the next wait ends
				select {
				case <-received:
				case <-r.Context().Done():
					return
				}
			}
			for {
				select {
				case <-r.Context().Done(): // the client leaves, and the frontend has to say so
					received <- struct{}{}
					return
				case <-heartbeat:
					fmt.Fprint(w, ": still here\n\n")
					_ = http.NewResponseController(w).Flush() // as above
				}
			}
		}))
		defer source.Close()
		f := start(source.Listener.Addr().String())
		for protocol, client := range f.protocols() {
			ctx, leave := context.WithCancel(t.Context())
			r := newRequest(t, "GET", "https://"+siteName, "/api/v2/changes?p=n", nil).WithContext(ctx)
			r.Header.Set("Accept", "text/event-stream")
			r.Header.Set("Accept-Encoding", "gzip")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(resp.Body)
			for i := range 20 {
				for _, want := range []string{fmt.Sprintf("id: %d", i), "data: x", ""} {
					if !lines.Scan() || lines.Text() != want {
						t.Fatalf("%s: %q, %v; want %q", protocol, lines.Text(), lines.Err(), want)
					}
				}
				received <- struct{}{}
			}
			leave()
			_ = resp.Body.Close() // it was cut off
			<-received
		}
	})
}

// TestFrontendsSendOnce has a server that reads requests and closes the connection
// without an answer. No method may be sent twice, since SQ's clients write with GET.
func TestFrontendsSendOnce(t *testing.T) {
	forEachFrontend(t, func(t *testing.T, start func(string) *frontend) {
		var mu sync.Mutex
		seen := map[string]int{}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen[r.Header.Get("X-Name")]++
			mu.Unlock()
			_, _ = io.Copy(io.Discard, r.Body) // it may be cut off
			if r.URL.Path == "/lost" {
				panic(http.ErrAbortHandler)
			}
		}))
		defer server.Close()
		f := start(server.Listener.Addr().String())
		for protocol, client := range f.protocols() {
			for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"} {
				for _, body := range []string{"", "text"} {
					if body != "" && (method == "GET" || method == "HEAD") {
						continue
					}
					if answer, err := answerOf(client, newRequest(t, "GET", "https://"+siteName, "/kept", nil)); err != nil || answer.status != 200 {
						t.Fatalf("%s: %v %d", protocol, err, answer.status)
					}
					name := fmt.Sprintf("%s %s of %d bytes", protocol, method, len(body))
					r := newRequest(t, method, "https://"+siteName, "/lost", strings.NewReader(body))
					r.Header.Set("X-Name", name)
					r.Header.Set("Idempotency-Key", "x")
					answer, err := answerOf(client, r)
					mu.Lock()
					if err != nil || answer.status != 502 || seen[name] != 1 {
						t.Errorf("%s was sent %d times: %v %d", name, seen[name], err, answer.status)
					}
					mu.Unlock()
				}
			}
		}
	})
}

// TestFrontendsOutliveRestarts restarts sqgate behind its socket, as systemd does,
// while tenants write through a frontend. No write may fail. Then sqgate is killed:
// a write may fail, and none may be made twice.
func TestFrontendsOutliveRestarts(t *testing.T) {
	forEachFrontend(t, func(t *testing.T, start func(string) *frontend) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		socket, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		f := start(l.Addr().String())
		if err := l.Close(); err != nil { // the copy keeps the socket open
			t.Fatal(err)
		}
		g := newGate(t, bestSQ(), "http1", "http2")
		g.url, g.client = "https://"+siteName, f.h1
		g.activate(socket)
		var writers []*loadWriter
		for id, client := range f.protocols() {
			writers = append(writers, g.write(id, client.Transport))
		}
		for range 5 {
			for _, w := range writers {
				w.awaitMore(t, 30)
			}
			if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			g.wait()
			g.activate(socket)
		}
		for _, w := range writers {
			w.awaitMore(t, 30)
			w.end(t, g)
		}
		f.survivesKills(t, g, socket)
	})
}

func (f *frontend) survivesKills(t *testing.T, g *gate, socket *os.File) {
	t.Helper()
	stop := make(chan struct{})
	var group sync.WaitGroup
	var tries, acked [2]atomic.Int64
	ids := []string{"http1", "http2"}
	for i, client := range []*http.Client{f.h1, f.h2} {
		method := []string{"POST", "GET"}[i]
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := newRequest(t, method, g.url, "/api/v2/insert?p=killed&c="+origin+fmt.Sprintf("&s=%d%%20", tries[i].Add(1)), nil)
				r.Header.Set("Authorization", "Bearer "+g.key(ids[i]))
				answer, err := answerOf(client, r)
				switch {
				case err == nil && answer.status == 200:
					acked[i].Add(1)
				case err != nil || answer.status < 500:
					t.Errorf("%s while sqgate is killed: %v %d %s", ids[i], err, answer.status, answer.body)
				}
			}
		})
	}
	for range 3 {
		for i := range acked {
			from := acked[i].Load()
			eventually(t, ids[i]+" is being written", func() bool { return acked[i].Load() >= from+20 })
		}
		g.kill()
		g.activate(socket)
	}
	close(stop)
	group.Wait()
	for i, id := range ids {
		found := map[string]bool{}
		for _, one := range strings.Fields(g.get(id, at("select", "killed", origin))) {
			if found[one] {
				t.Errorf("%s: %s was written twice", id, one)
			}
			found[one] = true
		}
		if int64(len(found)) < acked[i].Load() {
			t.Errorf("%s: %d were acknowledged and %d are there", id, acked[i].Load(), len(found))
		}
	}
}
