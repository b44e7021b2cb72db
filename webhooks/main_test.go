package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/storage/changes"
	"mirrorborn.us/sqgate/tenants"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// world is a Service with changes and receivers of its own.
type world struct {
	*Service
	t     *testing.T
	log   *strings.Builder
	stop  func() // ends Run, and waits
	state string

	mu       sync.Mutex
	file     *tenants.Snapshot
	changes  []changes.Change
	news     chan struct{}
	seals    int
	kept     int // cursors before it are not known any more
	moved    bool
	counts   map[Result]int
	requests []request
	answer   func(request) (status int, header http.Header)
}

// request is one that a receiver got. Its id is that in the body, behind "resync-" if it is
// one.
type request struct {
	id, host, body string
	at             time.Time
	header         http.Header
}

// newWorld has one tenant, will, with the given webhooks.
func newWorld(t *testing.T, hooks ...string) *world {
	w := &world{t: t, log: &strings.Builder{}, news: make(chan struct{}), counts: map[Result]int{}, state: t.TempDir()}
	w.answer = func(request) (int, http.Header) { return 204, nil }
	w.file = fileWith(t, true, hooks...)
	w.start()
	t.Cleanup(func() { w.stop() })
	synctest.Wait()
	return w
}

func fileWith(t *testing.T, enabled bool, hooks ...string) *tenants.Snapshot {
	t.Helper()
	s, err := tenants.Parse(fmt.Appendf(nil, `{"tenants": [{"id": "will", "api_key": "key-of-will", "data_dir": "/d/w", "enabled": %v, "webhooks": [%s]}]}`, enabled, strings.Join(hooks, ",")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hookTo(id, url string) string {
	return fmt.Sprintf(`{"id": %q, "url": %q, "secret": %q}`, id, url, secret)
}

// start begins a Service, as after a restart.
func (w *world) start() {
	w.Service = New(Config{
		Tenants: func() *tenants.Snapshot { w.mu.Lock(); defer w.mu.Unlock(); return w.file },
		Dial:    (&Allowed{}).Dial, StateDir: w.state,
		Count:  func(_ string, r Result) { w.mu.Lock(); defer w.mu.Unlock(); w.counts[r]++ },
		Logger: slog.New(slog.NewTextHandler(lockedWriter{w}, nil)),
	})
	w.open = func(_ context.Context, _ *tenants.Tenant, hook *tenants.Webhook, since string) (feed, error) {
		return w.openFeed(since)
	}
	w.transport = w
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	w.stop = func() { w.End(); <-ended; cancel() }
}

// lockedWriter is the log.
type lockedWriter struct{ *world }

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) load(file *tenants.Snapshot) {
	w.mu.Lock()
	w.file = file
	w.mu.Unlock()
	w.Changed()
}

// change makes changes with the numbers from a first to a last one.
func (w *world) change(first, last int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := first; n <= last; n++ {
		w.changes = append(w.changes, changes.Change{Time: time.Now(), Phext: "notes", Op: "update", C: fmt.Sprintf("<a.%d>", n)})
	}
	close(w.news)
	w.news = make(chan struct{})
}

// RoundTrip is a method of http.RoundTripper: it is all receivers.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var in struct{ ID, Op string }
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	in.ID, _, _ = strings.Cut(in.ID, "~")
	if in.Op == "resync" {
		in.ID = "resync-" + in.ID
	}
	one := request{in.ID, r.URL.Host, string(body), time.Now(), r.Header}
	w.mu.Lock()
	w.requests = append(w.requests, one)
	answer := w.answer
	w.mu.Unlock()
	status, header := answer(one)
	if status == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: r}, nil
}

// answers is what receivers answer from now on; 0 = nothing.
func (w *world) answers(answer func(request) (status int, header http.Header)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// sent is all requests until now.
func (w *world) sent() []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

// got is the ids that were sent to a receiver, in order.
func (w *world) got(host string) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if r.host == host {
			ids = append(ids, r.id)
		}
	}
	return ids
}

func (w *world) want(what, host string, ids ...string) {
	w.t.Helper()
	w.settle()
	if got := w.got(host); strings.Join(got, " ") != strings.Join(ids, " ") {
		w.t.Fatalf("%s: %s was sent %v, want %v", what, host, got, ids)
	}
}

// settle lets the pace of requests have an end.
func (w *world) settle() {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

func (w *world) wantCounts(delivered, failed, dropped int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[Delivered] != delivered || w.counts[Failed] != failed || w.counts[Dropped] != dropped {
		w.t.Errorf("%v, want %d delivered, %d failed, %d dropped", w.counts, delivered, failed, dropped)
	}
}

func (w *world) statusOf(id string) Status {
	for _, t := range w.Tenants().All() {
		for _, hook := range t.Webhooks() {
			if hook.ID == id {
				return w.Status(t, hook)
			}
		}
	}
	return Status{}
}

// worldFeed is a place in world.changes. Its cursors are others each time.
type worldFeed struct {
	*world
	next int
}

func (w *world) seal(n int) string {
	w.seals++
	return fmt.Sprintf("c%d~%d", n, w.seals)
}

var errLost = apierror.New(apierror.Gone, "lost")

func (w *world) openFeed(since string) (feed, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := &worldFeed{w, len(w.changes)}
	if since != "" {
		number, _, _ := strings.Cut(since[1:], "~")
		n, err := strconv.Atoi(number)
		if err != nil || n < w.kept {
			return nil, errLost
		}
		f.next = n
	}
	return f, nil
}

func (f *worldFeed) Next(_ context.Context, _ *fairqueue.Turn, visit func(changes.Change)) (bool, time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.moved {
		return false, 0, errors.New("moved")
	}
	end := min(len(f.changes), f.next+3)
	for i, c := range f.changes[f.next:end] {
		c.ID = f.seal(f.next + i + 1)
		visit(c)
	}
	f.next = end
	return f.next < len(f.changes), 0, nil
}

func (f *worldFeed) News() <-chan struct{} { f.mu.Lock(); defer f.mu.Unlock(); return f.news }
func (f *worldFeed) Cursor() string        { f.mu.Lock(); defer f.mu.Unlock(); return f.seal(f.next) }
func (f *worldFeed) Moved() bool           { f.mu.Lock(); defer f.mu.Unlock(); return f.moved }
