package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// What SQ gets of a select of the scroll, and before it of a file that it has not seen.
var (
	selectAtSQ = atSQ("GET /api/v2/select?p=notes&c=will.1.1.1/1.1.1/1.1.3")
	loadAtSQ   = atSQ("GET /api/v2/load?p=notes&c=will.1.1.1/1.1.1/1.1.3")
)

func atSQ(line string) string {
	return line + " HTTP/1.1\r\nHost: sq\r\nUser-Agent: sqgate\r\nConnection: close\r\nAuthorization: Bearer " + childKey + "\r\n\r\n"
}

// TestNothingOfTheClientsReachesSQ: whatever a client sends, SQ gets the same bytes.
func TestNothingOfTheClientsReachesSQ(t *testing.T) {
	w := newWorld(t, options{})
	w.ask("GET", third, "") // SQ has seen the file now
	w.sq.seen()
	const query = "p=notes&c=1.1.1/1.1.1/1.1.3"
	for name, r := range map[string]*http.Request{
		"as a rule":        w.request("GET", third, ""),
		"the head alone":   w.request("HEAD", third, ""),
		"another spelling": w.request("GET", "/select?c=1.1.1%2F1.1.1/1.1.3&%70=notes", ""),
		"the path key":     w.request("GET", "/k/"+pathKey+third, ""),
		"its id":           w.request("GET", "/will/select/1.1.1/1.1.1/1.1.3?p=notes", ""),
		"other parameters": w.request("GET", "/api/v2/select?"+query+"&x=y&algo=z", ""),
		"a body":           w.request("GET", third, "a body that means nothing"),
		"headers": w.request("GET", third, "", "Cookie", "a=b", "Host", "evil", "User-Agent", "curl", "Accept", "text/html", "X-Forwarded-For", "1.2.3.4",
			"Forwarded", "for=1.2.3.4", "Via", "1.1 x", "Te", "trailers", "Accept-Encoding", "gzip", "Range", "bytes=0-1", "If-None-Match", "*",
			"Expect", "100-continue", "Proxy-Authorization", "Basic x", "Content-Type", "x/y", "Transfer-Encoding", "chunked"),
		"an upgrade":      w.request("GET", third, "", "Connection", "Upgrade, X-Mine", "Upgrade", "websocket", "X-Mine", "x"),
		"an early client": withHost(w.request("GET", third, ""), "evil.example:99"),
		"a trailer":       withTrailer(w.request("GET", third, "x")),
	} {
		t.Run(name, func(t *testing.T) {
			answer := w.serve(r)
			if answer.Code != 200 || r.Method == "GET" && answer.Body.String() != "the scroll" {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
			if got := w.sq.seen(); !slices.Equal(got, []string{selectAtSQ}) {
				t.Errorf("SQ got %q, want %q", got, selectAtSQ)
			}
		})
	}
	w.wantAllFree()
}

// TestRebuild looks at the request before sqclient sees it.
func TestRebuild(t *testing.T) {
	r := httptest.NewRequest("POST", "http://evil.example:99/k/secret/api/v2/select?x=y", strings.NewReader("the client's"))
	r.Header.Set("Cookie", "a=b")
	rebuild(r, rewrite.Outgoing{Method: "POST", Path: "/api/v2/delta", Query: "p=n", Body: []byte("text")})
	body, err := io.ReadAll(r.Body)
	if r.Method != "POST" || r.URL.String() != "http://sq/api/v2/delta?p=n" || r.Host != "" || len(r.Header) > 0 || string(body) != "text" || r.ContentLength != 4 || err != nil {
		t.Errorf("%+v, %q, %v", r, body, err)
	}
	rebuild(r, rewrite.Outgoing{Method: "GET", Path: "/api/v2/get", Query: "p=n"})
	if r.Method != "GET" || r.Body != http.NoBody || r.ContentLength != 0 {
		t.Errorf("%+v", r)
	}
}

func withHost(r *http.Request, host string) *http.Request { r.Host = host; return r }

func withTrailer(r *http.Request) *http.Request {
	r.Trailer = http.Header{"X-Trailer": {"x"}}
	return r
}

// TestTheAnswersHeadersAreSqgates, and only the body is SQ's.
func TestTheAnswersHeadersAreSqgates(t *testing.T) {
	w := newWorld(t, options{})
	w.ask("GET", third, "")
	w.sq.answers("HTTP/1.1 200 OK\r\nServer: SQ\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: http://x\r\nSet-Cookie: a=b\r\n" +
		"Cache-Control: public\r\nETag: \"x\"\r\nConnection: X-Mine\r\nX-Request-Id: x\r\nX-Mine: x\r\nContent-Length: 5\r\n\r\nhello")
	answer := w.ask("GET", third, "")
	if answer.Code != 200 || answer.Body.String() != "hello" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	h := answer.Header()
	id := h.Get("X-Request-Id")
	h.Del("X-Request-Id")
	want := map[string]string{"Content-Length": "5"}
	for _, c := range slices.Concat(commonHeaders, corsHeaders) {
		want[c.name] = c.value[0]
	}
	for name, values := range h {
		if len(values) != 1 || values[0] != want[name] {
			t.Errorf("%s: %q, want %q", name, values, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 || len(id) != 16 {
		t.Errorf("%v are missing, id %q", want, id)
	}
}

// TestForwardedAnswers name the phext as the client does, not as SQ does.
func TestForwardedAnswers(t *testing.T) {
	w := newWorld(t, options{})
	for target, want := range map[string]string{
		"/api/v2/load?p=notes": "Loaded notes",
		"/api/v2/get?p=notes":  notes,
		third:                  "the scroll",
	} {
		if answer := w.ask("GET", target, ""); answer.Code != 200 || answer.Body.String() != want || answer.Header().Get("ETag") != "" {
			t.Errorf("%s: %d %q %v", target, answer.Code, answer.Body, answer.Header())
		}
	}
	w.sq.seen()

	// Where SQ is not to be trusted, or there is no file, it is not asked.
	for target, want := range map[string]string{
		"/api/v2/toc?p=notes":                       "* 1.1.1/1.1.1/1.1.3: the scroll\n",
		"/api/v2/json-export?p=notes":               "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.3\", \"scroll\": \"the scroll\" }\n]\n",
		"/api/v2/status?p=notes":                    fmt.Sprintf("Hosting: notes\nConnection ID: 0\nPhext Size: %d\nScrolls: 1", len(notes)), // SQ counts the requests of all
		"/api/v2/select?p=none":                     "",
		"/api/v2/status?p=none":                     "Hosting: none\nConnection ID: 0\nPhext Size: 0\nScrolls: 1",
		"/api/v2/select?p=none&c=1.1.1/1.1.1/2.1.1": "",
	} {
		if answer := w.ask("GET", target, ""); answer.Code != 200 || answer.Body.String() != want {
			t.Errorf("%s: %d %q", target, answer.Code, answer.Body)
		}
	}
	if requests := w.sq.seen(); len(requests) > 0 {
		t.Errorf("SQ was asked for %q", requests)
	}
	if _, err := os.Stat(w.path("none.phext")); !os.IsNotExist(err) {
		t.Errorf("a read has made a file: %v", err)
	}
	w.wantAllFree()
}

// TestAChangedFileIsLoadedFirst.
func TestAChangedFileIsLoadedFirst(t *testing.T) {
	w := newWorld(t, options{})
	for _, text := range []string{"the scroll", "by another's hand"} {
		w.put("notes.phext", "\x17\x17"+text)
		if answer := w.ask("GET", third, ""); answer.Body.String() != text {
			t.Errorf("%q, want %q", answer.Body, text)
		}
		if got := w.sq.seen(); !slices.Equal(got, []string{loadAtSQ, selectAtSQ}) {
			t.Errorf("SQ got %q", got)
		}
	}
}

// TestForwardErrors come before any part of the answer, so that they have the
// right status, headers and body.
func TestForwardErrors(t *testing.T) {
	status := func(s string) func(w *world) {
		return func(w *world) { w.sq.answers("HTTP/1.1 " + s + "\r\nContent-Length: 5\r\nX-Mine: x\r\n\r\nhello") }
	}
	for _, test := range []struct {
		name    string
		prepare func(w *world)
		status  int
		code    string
		retry   string
	}{
		{"SQ fails", status("500 No"), 502, "backend_failed", ""},
		{"SQ is full", status("503 Full"), 502, "backend_failed", ""},
		{"SQ does not know it", status("404 Not Found"), 502, "backend_failed", ""},
		{"SQ does not take the key", status("401 Unauthorized"), 502, "backend_failed", ""},
		{"SQ redirects", status("302 Found"), 502, "backend_failed", ""},
		{"SQ has nothing", status("204 No Content"), 502, "backend_failed", ""},
		{"SQ switches protocols", status("101 Switching Protocols"), 502, "backend_failed", ""},
		{"SQ's answer is cut", func(w *world) { w.sq.answers("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello") }, 502, "backend_failed", ""},
		{"SQ's answer has no length", func(w *world) { w.sq.answers("HTTP/1.1 200 OK\r\n\r\nhello") }, 502, "backend_failed", ""},
		{"SQ says something else", func(w *world) { w.sq.answers("SSH-2.0\r\n\r\n") }, 502, "backend_failed", ""},
		{"SQ takes too long", func(w *world) { w.sq.leaseErr = context.DeadlineExceeded }, 504, "backend_timeout", ""},
		{"SQ does not start", func(w *world) { w.sq.leaseErr = errors.New("no") }, 502, "backend_failed", ""},
		{"SQ starts later", func(w *world) {
			w.sq.leaseErr = fmt.Errorf("around it: %w", apierror.RetryIn(7*time.Second, apierror.Unavailable, "wait"))
		}, 503, "unavailable", "7"},
		{"nobody listens", func(w *world) { w.sq.front.Close() }, 502, "backend_failed", ""},
		{"there is no memory", func(w *world) {
			w.sq.answers(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", w.Dirs.Answers.Limit()+1))
		}, 503, "unavailable", "1"},
		{"the file is not UTF-8", func(w *world) { w.put("notes.phext", "caf\xe9") }, 502, "backend_failed", ""},
		{"the tenant was disabled meanwhile", func(w *world) { w.disableDuring() }, 403, "tenant_disabled", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, options{})
			test.prepare(w)
			answer := w.ask("GET", third, "")
			w.wantError(answer, test.status, test.code)
			h := answer.Header()
			if h.Get("X-Mine") != "" || h.Get("Content-Length") != "" || h.Get("Retry-After") != test.retry || h.Get("Cache-Control") != "no-store" {
				t.Errorf("%v", h)
			}
			if strings.Contains(answer.Body.String(), "hello") {
				t.Errorf("%s", answer.Body)
			}
			log := w.log.String()
			if !strings.Contains(log, "the database did not answer") || !strings.Contains(log, "op=select") || !strings.Contains(log, "tenant=will") {
				t.Errorf("the log says nothing of it: %s", log)
			}
			if strings.Contains(log, childKey) || strings.Contains(log, key) {
				t.Errorf("the log holds a key: %s", log)
			}
			w.wantAllFree()
		})
	}
}

// disableDuring disables will after the request was let in.
func (w *world) disableDuring() {
	allowed := w.Dirs.Tenants
	disabled := false
	w.Dirs.Tenants = func() *tenants.Snapshot { // seen after the lock
		if !disabled {
			disabled = true
			w.setTenant(map[string]any{"enabled": false})
			w.check(w.store.Reload())
		}
		return allowed()
	}
}

// TestHeadOfAForwardedRead has the headers of a GET, and no body, on a real connection.
func TestHeadOfAForwardedRead(t *testing.T) {
	w := newWorld(t, options{})
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	ask := func(method string) (http.Header, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+third, nil)
		w.check(err)
		r.Header.Set("Authorization", "Bearer "+key)
		resp, err := client.Do(r)
		w.check(err)
		body, err := io.ReadAll(resp.Body)
		w.check(errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != 200 || resp.ContentLength != int64(len("the scroll")) {
			t.Errorf("%s: %d, %d bytes", method, resp.StatusCode, resp.ContentLength)
		}
		resp.Header.Del("X-Request-Id")
		resp.Header.Del("Date")
		return resp.Header, string(body)
	}
	full, text := ask("GET")
	head, nothing := ask("HEAD")
	if text != "the scroll" || nothing != "" || fmt.Sprint(full) != fmt.Sprint(head) {
		t.Errorf("%q and %q, %v and %v", text, nothing, full, head)
	}
	w.wantAllFree()
}

// goneWriter is the connection of a client that has gone.
type goneWriter struct {
	header http.Header
	wrote  bool
}

func (w *goneWriter) Header() http.Header       { return w.header }
func (w *goneWriter) WriteHeader(int)           {}
func (w *goneWriter) Write([]byte) (int, error) { w.wrote = true; return 0, net.ErrClosed }

// TestAClientThatGoes leaves nothing behind, as a server sees it and as a test does.
func TestAClientThatGoes(t *testing.T) {
	for _, served := range []bool{true, false} {
		w := newWorld(t, options{})
		r := w.request("GET", third, "")
		if served {
			r = r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, &http.Server{}))
		}
		out := &goneWriter{header: http.Header{}}
		func() {
			defer func() {
				if v := recover(); v != nil && v != http.ErrAbortHandler { // which ends the connection
					t.Errorf("%v", v)
				}
			}()
			w.Handler().ServeHTTP(out, r)
		}()
		if !out.wrote {
			t.Error("nothing was written")
		}
		w.wantAllFree()
		if !strings.Contains(w.requestLine(), "op=select") {
			t.Error("it is not in the access log")
		}
	}
}

// TestManyForwardedAtOnce: no answer is another's, although buffers are shared.
func TestManyForwardedAtOnce(t *testing.T) {
	w := newWorld(t, options{})
	text := func(i int) string { return strings.Repeat(fmt.Sprint(i), 1+20000*i) }
	var all strings.Builder
	for i := range 8 {
		all.WriteString(text(i) + "\x17")
	}
	w.put("notes.phext", all.String())
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			for range 10 {
				answer := w.ask("GET", fmt.Sprintf("/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.%d", i+1), "")
				if answer.Code != 200 || answer.Body.String() != text(i) {
					t.Errorf("%d: %d, %d bytes", i, answer.Code, answer.Body.Len())
				}
			}
		})
	}
	readers.Wait()
	w.wantAllFree()
}

// TestASlowClientHoldsTheAnswersMemory, and nothing else: neither SQ nor the directory.
func TestASlowClientHoldsTheAnswersMemory(t *testing.T) {
	w := newWorld(t, options{})
	out := &slowWriter{header: http.Header{}, began: make(chan struct{}), goOn: make(chan struct{})}
	done := make(chan struct{})
	go func() { w.Handler().ServeHTTP(out, w.request("GET", third, "")); close(done) }()
	<-out.began
	unlock, err := w.Dirs.LockExclusive(t.Context(), w.dir.Path)
	w.check(err)
	unlock()
	if w.Dirs.Answers.Take(w.Dirs.Answers.Limit() - int64(len("the scroll")) + 1) {
		t.Error("the answer is in memory, and not counted")
	}
	close(out.goOn)
	<-done
	w.wantAllFree()
}

// slowWriter waits before it takes an answer. It notes its deadline.
type slowWriter struct {
	header      http.Header
	began, goOn chan struct{}
	deadline    time.Time
}

func (w *slowWriter) Header() http.Header                 { return w.header }
func (w *slowWriter) WriteHeader(int)                     {}
func (w *slowWriter) SetWriteDeadline(at time.Time) error { w.deadline = at; return nil }
func (w *slowWriter) Write(b []byte) (int, error) {
	if w.deadline.IsZero() {
		return 0, errors.New("no deadline was set")
	}
	close(w.began)
	<-w.goOn
	return len(b), nil
}
