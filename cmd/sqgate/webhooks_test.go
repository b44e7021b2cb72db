package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// webhookReceiver keeps what it has taken, each once and in the order of its first coming.
type webhookReceiver struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	verifier *standardwebhooks.Webhook
	taken    []string          // bodies, without the cursors in them
	seen     map[string]string // the same by webhook-id
	hold     chan struct{}     // closed when requests are to be answered; nil = they are
	status   int
}

func newWebhookReceiver(t *testing.T) *webhookReceiver {
	r := &webhookReceiver{t: t, seen: map[string]string{}, status: http.StatusNoContent}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	r.url = server.URL + "/hook"
	return r
}

func (r *webhookReceiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	r.mu.Lock()
	hold, verifier, status := r.hold, r.verifier, r.status
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-q.Context().Done():
			return
		}
	}
	if err == nil && verifier != nil {
		err = verifier.Verify(body, q.Header)
	}
	if err != nil {
		r.t.Errorf("%s: %v", body, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if id, text := q.Header.Get("webhook-id"), aCursor.ReplaceAllString(string(body), ""); status < 300 {
		if before, repeated := r.seen[id]; !repeated {
			r.seen[id], r.taken = text, append(r.taken, text)
		} else if before != text {
			r.t.Errorf("%s was repeated as %s", before, text)
		}
	}
	w.WriteHeader(status)
}

func (r *webhookReceiver) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *webhookReceiver) await(what string, n int) []string {
	r.t.Helper()
	var taken []string
	eventually(r.t, what, func() bool { r.set(func() { taken = r.taken }); return len(taken) >= n })
	return taken
}

// aCursor is the id of a change, which can be another one each time.
var aCursor = regexp.MustCompile(`(?m)^{"id":"[\w-]+",`)

// wantSame waits until a receiver has got all that the changes feed has, behind the first
// request, and compares them.
func (g *gate) wantSame(what string, r *webhookReceiver, feed string) {
	g.t.Helper()
	feed = aCursor.ReplaceAllString(feed, "")
	taken := r.await(what, 1+strings.Count(feed, "\n"))
	if got := strings.Join(taken[1:], "\n") + "\n"; !strings.Contains(taken[0], `"op":"resync"`) || got != feed {
		g.t.Fatalf("%s: the receiver got\n%s\n%sand the changes are\n%s", what, taken[0], got, feed)
	}
}

// TestWebhooks has a receiver that verifies signatures: it gets every acknowledged write in
// order, though sqgate is killed and started again, and writes do not wait for it.
func TestWebhooks(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will")
		g.args = append(g.args, "--webhook-allow", "127.0.0.0/8", reachable)
		g.start()
		r := newWebhookReceiver(t)
		made := g.manage("POST", "tenants/will/webhooks", fmt.Sprintf(`{"id": "all", "url": %q}`, r.url), 201)
		secret, _ := made["secret"].(string)
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil || !strings.HasPrefix(secret, "whsec_") {
			t.Fatalf("%v: %v", made, err)
		}
		r.set(func() { r.verifier = verifier })
		r.await("the beginning", 1)
		since := g.must("will", "GET", "/api/v2/changes", "", 200).header.Get("X-SQ-Cursor")
		g.must("will", "POST", at("update", "notes", origin), "one", 200)
		g.must("will", "POST", at("insert", "notes", origin), " & two", 200)
		g.must("will", "POST", at("update", "diary", "my.name"), "three", 200)
		g.must("will", "POST", at("delete", "notes", origin), "", 200)
		g.wantSame("writes", r, g.get("will", "/api/v2/changes?since="+since))

		acknowledged := 0
		for round := range rounds(3, 6) {
			hold := make(chan struct{})
			r.set(func() {
				if r.hold = nil; round%2 == 0 { // no write waits for the receiver
					r.hold = hold
				}
			})
			wrote := make(chan struct{}, 1000)
			go func() {
				defer close(wrote)
				for {
					if reply, err := g.do("will", "POST", at("insert", "notes", origin), "x"); err != nil || reply.status != 200 {
						return
					}
					wrote <- struct{}{}
				}
			}()
			for range 20 + round {
				<-wrote
			}
			g.kill()
			acknowledged += 20 + round
			for range wrote {
				acknowledged++
			}
			close(hold)
			g.start()
		}
		r.set(func() { r.hold = nil })
		g.must("will", "POST", at("update", "notes", origin), "at last", 200)
		all := g.get("will", "/api/v2/changes?since="+since)
		if told := strings.Count(all, `"op":"insert"`); told < acknowledged {
			t.Errorf("%d of %d writes are among the changes", told, acknowledged)
		}
		g.wantSame("after kills", r, all)
		eventually(t, "the list says that it does well", func() bool {
			list := g.manage("GET", "tenants/will/webhooks", "", 200)["webhooks"].([]any)
			one := list[0].(map[string]any)
			return len(list) == 1 && one["state"] == "active" && one["last_delivered"] != nil && one["secret"] == nil
		})
		if metrics := g.metrics(t); !regexp.MustCompile(`sq_webhooks_total{result="delivered",tenant="will"} \d\d`).MatchString(metrics) || !strings.Contains(metrics, `sq_webhook_lag_seconds{tenant="will"} 0`) {
			t.Error("the metrics do not count what was delivered")
		}

		r.set(func() { r.status = http.StatusGone })
		g.must("will", "POST", at("update", "notes", origin), "the last one", 200)
		eventually(t, "it has ended", func() bool {
			return g.manage("GET", "tenants/will/webhooks", "", 200)["webhooks"].([]any)[0].(map[string]any)["state"] == "gone"
		})
		g.manage("DELETE", "tenants/will/webhooks/all", "", 200)
		g.manage("DELETE", "tenants/will/webhooks/all", "", 404)
		if found := append(g.filesWith(strings.TrimPrefix(secret, "whsec_")), g.log.String()); strings.Contains(strings.Join(found, "\n"), secret) || len(found) > 1 {
			t.Error("the secret stands in the log, or in ", found[:len(found)-1])
		}
	})
}

// TestWebhookCalls is about what the calls refuse, and the commands.
func TestWebhookCalls(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	g.args = append(g.args, "--webhook-allow", "public", reachable)
	g.start()
	for body, says := range map[string]string{
		`{}`:                          `"url" is missing`,
		`{"url": "receiver.example"}`: "webhooks.url",
		`{"url": "https://u:p@receiver.example"}`:                    "webhooks.url",
		`{"url": "https://receiver.example", "secret": "my secret"}`: "webhooks.secret",
		`{"url": "https://receiver.example", "phexts": []}`:          "webhooks.phexts",
		`{"url": "https://receiver.example", "id": "A"}`:             "webhooks.id",
	} {
		if said := fmt.Sprint(g.manage("POST", "tenants/will/webhooks", body, 400)); !strings.Contains(said, says) || strings.Contains(said, "my secret") {
			t.Errorf("%s: %s", body, said)
		}
	}
	r := newWebhookReceiver(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"add", "will", r.url, "--phexts", "log-*", "--phexts", "notes", "--secret-file", file, "--note", "for a test"}, 0, `(?m)^id +hook-[a-z2-7]{8}$`},
		{[]string{"add", "will", "https://127.0.0.1:9/hidden?token=hidden", "--id", "two"}, 0, `secret +whsec_`},
		{[]string{"add", "will", "https://127.0.0.1:9/", "--id", "two"}, 1, `has a webhook with this id already`},
		{[]string{"add", "nobody", "https://127.0.0.1:9/"}, 1, `no such tenant`},
		{[]string{"list", "will"}, 0, `(?s)^WEBHOOK +STATE +LAST DELIVERED +PHEXTS +URL, ERROR AND NOTE\nhook-.*log-\*, notes`},
		{[]string{"remove", "will", "two"}, 0, `status +removed`},
		{[]string{"remove", "will", "two"}, 1, `no webhook with this id`},
	} {
		out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey, "SQGATE_URL=" + g.url}, append([]string{"webhook"}, c.args...)...)
		if status != c.status || !regexp.MustCompile(c.says).MatchString(out) || strings.Contains(out, "whsec_MfKQ") {
			t.Errorf("%v: status %d, %s\nwant %d and %s", c.args, status, out, c.status, c.says)
		}
	}
	audit, err := os.ReadFile(filepath.Join(g.dir, "state", "audit.log"))
	if err != nil || strings.Count(string(audit), `"https://127.0.0.1:9"`) != 2 || strings.Contains(string(audit)+g.log.String(), "hidden") {
		t.Errorf("%v: the audit log lacks the server, or it or the log has the URL:\n%s", err, audit)
	}
	eventually(t, "the address is refused", func() bool {
		return strings.Contains(fmt.Sprint(g.manage("GET", "tenants/will/webhooks", "", 200)), "webhooks may not be sent to this address")
	})
	if taken := r.await("nothing", 0); len(taken) > 0 {
		t.Error(taken)
	}
	g.args[1] = "none"
	g.stop()
	g.start()
	g.manage("POST", "tenants/will/webhooks", `{"url": "https://receiver.example"}`, 409)
}

// TestWebhookDialer reaches a receiver from a network of sqgate's own.
func TestWebhookDialer(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	g.asSomebody()
	g.makeDataDir("will")
	g.args = []string{"--webhook-allow", "127.0.0.1"}
	g.start()
	if !g.inOwnNetwork() {
		t.Fatal("sqgate has no network of its own")
	}
	r := newWebhookReceiver(t)
	g.manage("POST", "tenants/will/webhooks", fmt.Sprintf(`{"url": %q}`, r.url), 201)
	r.await("the beginning", 1)
	socket := filepath.Join(g.dir, "state", ".dialer")
	if c, err := askDialer(t.Context(), socket, plainWebhookWord+strings.TrimPrefix(r.url, "http://")); err == nil {
		t.Errorf("the dialer connects for another process: %v", c)
	}
	g.kill()
	eventually(t, "the dialer ends with sqgate", func() bool { return len(processesWith("cmdline", "\x00"+socket+"\x00")) == 0 })
}

// TestWebhooksMove has a tenant move to another host, which tells the receiver that it
// may not know of everything, and goes on. The first one stops.
func TestWebhooksMove(t *testing.T) {
	t.Parallel()
	all := newHosts(t, builtin, "file://"+t.TempDir(), 2, "will")
	for _, g := range all {
		g.args = append(g.args, "--webhook-allow", "127.0.0.0/8")
		g.start()
	}
	for _, g := range all {
		g.sees(2)
	}
	r := newWebhookReceiver(t)
	all[0].must("will", "POST", at("update", "n", origin), "before", 200)
	all[0].manage("POST", "tenants/will/webhooks", fmt.Sprintf(`{"url": %q, "id": "all"}`, r.url), 201)
	r.await("the beginning", 1)
	all[0].must("will", "POST", at("update", "n", origin), "here", 200)
	r.await("a write", 2)
	all[1].managed("POST", "tenants/will/move", `{"host":"h1"}`, 200)
	all[0].must("will", "POST", at("update", "n", origin), "there", 200)
	r.await("the beginning there", 3)
	all[1].must("will", "POST", at("update", "m", origin), "and then", 200)
	var taken []string
	eventually(t, "a write there", func() bool {
		r.set(func() { taken = r.taken })
		return strings.Contains(taken[len(taken)-1], `"phext":"m"`)
	})
	// The write that has the other host take the tenant over comes before its resync, or is told.
	if len(taken) == 5 && strings.Contains(taken[3], `"phext":"n","op":"update"`) {
		taken = append(taken[:3:3], taken[4])
	}
	for i, part := range []string{`"op":"resync"`, `"phext":"n","op":"update"`, `"op":"resync"`, `"phext":"m","op":"update"`} {
		if len(taken) != 4 || !strings.Contains(taken[i], part) {
			t.Fatalf("%d is not %s: %s", i, part, strings.Join(taken, "\n"))
		}
	}
	for _, g := range all { // whichever host is asked
		if said := fmt.Sprint(g.manage("GET", "tenants/will/webhooks", "", 200)); !strings.Contains(said, "last_delivered") {
			t.Error(said)
		}
	}
}

// TestWebhookReceiver runs the receiver that webhooks.md shows.
func TestWebhookReceiver(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("NO PYTHON: the receiver in webhooks.md is written in it")
	}
	page, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(page), "<!-- receiver:begin -->\n```python\n")
	program, _, found := strings.Cut(program, "```\n<!-- receiver:end -->")
	if !found {
		t.Fatal("webhooks.md shows no receiver")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), python, "-c", program)
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+secret, "PORT="+port)
	said := &logBuffer{grown: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it never ends by itself
	forged := func() (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address, strings.NewReader("{}"))
		if err != nil {
			return 0, err
		}
		for name, value := range map[string]string{"id": "m", "timestamp": fmt.Sprint(time.Now().Unix()), "signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="} {
			req.Header.Set("webhook-"+name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	eventually(t, "the receiver refuses what is not signed", func() bool { status, err := forged(); return err == nil && status == http.StatusForbidden })
	g := newGate(t, builtin, "will")
	g.args = append(g.args, "--webhook-allow", "127.0.0.1", reachable)
	g.start()
	g.manage("POST", "tenants/will/webhooks", fmt.Sprintf(`{"url": "http://%s", "secret": %q}`, address, secret), 201)
	g.must("will", "POST", at("update", "notes", origin), "a text", 200)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	if _, err := said.await(ctx, regexp.MustCompile(`'op': 'resync'(?s:.*)`)); err != nil {
		t.Error(err)
	}
	g.must("will", "POST", at("update", "notes", origin), "another", 200)
	if _, err := said.await(ctx, regexp.MustCompile(`'phext': 'notes', 'op': 'update'`)); err != nil {
		t.Error(err)
	}
}
