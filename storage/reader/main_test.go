package reader

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fakesq"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/tenants"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Reader and one tenant, "will", with a phext "notes".
type world struct {
	*testing.T
	*Reader
	tenant *tenants.Tenant
	dir    *datadir.Dir
	sq     *fakeSQ
}

const notes = "\x17\x17the scroll"

func newWorld(t *testing.T, readMemory int64) *world {
	w := &world{T: t}
	root := t.TempDir()
	data := filepath.Join(root, "data")
	w.check(os.Mkdir(data, 0o700))
	snapshot, err := tenants.Parse(fmt.Appendf(nil, `{"tenants":[{"id":"will","api_key":"pmb-v1-00112233445566778899aabbccddeeff","data_dir":%q}]}`, data))
	w.check(err)
	log := slog.New(slog.DiscardHandler)
	set, err := journal.New(journal.Config{Dir: filepath.Join(root, "journal"), Quarantine: filepath.Join(root, "quarantine"), Logger: log})
	w.check(err)
	t.Cleanup(func() { w.check(set.Close()) })
	dirs := datadir.New(datadir.Config{Tenants: func() *tenants.Snapshot { return snapshot }, Journal: set, ReadMemory: readMemory,
		MaxBody: 1 << 20, Logger: log, StopChild: func(context.Context, string, string) error { return nil }})
	w.tenant, _ = snapshot.ByID("will")
	w.dir = dirs.Of(data)
	w.sq = newFakeSQ(t, w.dir.Path)
	w.Reader = New(Config{Dirs: dirs, SQ: sqclient.New(w.sq.lease, dirs.Reserve)})
	w.put("notes.phext", notes)
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) path(file string) string { return filepath.Join(w.dir.Path, file) }

func (w *world) put(file, text string) {
	w.Helper()
	w.check(os.WriteFile(w.path(file), []byte(text), 0o600))
}

func (w *world) version(file string) *cache.Version {
	w.Helper()
	v, err := w.Dirs.File(w.path(file))
	w.check(err)
	return v
}

// call is a client's, of "notes" if the query names no phext.
func (w *world) call(op, query string) *rewrite.Call {
	w.Helper()
	return w.callWith("GET", op, query, "")
}

func (w *world) callWith(method, op, query, body string) *rewrite.Call {
	w.Helper()
	if !strings.Contains(query, "p=") {
		query = "p=notes&" + query
	}
	head, err := rewrite.ParseHead(method, "/"+op, query, datadir.RewriteTenant(w.tenant))
	w.check(err)
	call, err := head.Call([]byte(body))
	w.check(err)
	return call
}

// read returns an answer whose memory is still reserved.
func (w *world) read(op, query string) (Answer, error) {
	w.Helper()
	return w.Read(w.Context(), w.dir, w.call(op, query), false)
}

func (w *world) wantError(err error, kind apierror.Kind) {
	w.Helper()
	if e := apierror.From(err); e == nil || e.Kind != kind {
		w.Errorf("%v, want %+v", err, kind)
	}
}

// leaveMemory has the directory hold all memory that it may, but for room bytes.
func (w *world) leaveMemory(room int64) (release func()) {
	held := w.dir.Reserve()
	for step := int64(1) << 40; step > 0; step /= 2 {
		for held.Grow(held.Size() + step) {
		}
	}
	if !held.Grow(held.Size() - room) {
		w.Fatal("what is held cannot be less")
	}
	return held.Release
}

// wantUsed checks how much memory is reserved for answers.
func (w *world) wantUsed(n int64) {
	w.Helper()
	if used := w.Dirs.Answers.Above(0); used != n {
		w.Errorf("%d bytes are reserved, want %d", used, n)
	}
}

// fakeSQ is the stand-in for SQ, behind leases that count.
type fakeSQ struct {
	*testing.T
	addr string

	mu      sync.Mutex
	lent    int
	at      int // leases that have not ended
	retired []string
	err     error // of the next leases
}

const childKey = "the child's key"

func newFakeSQ(t *testing.T, dataDir string) *fakeSQ {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeSQ{T: t, addr: l.Addr().String()}
	server := fakesq.New(fakesq.Config{Key: childKey, HasKey: true, DataDir: dataDir})
	served := make(chan struct{})
	go func() { server.Serve(l); close(served) }()
	t.Cleanup(func() {
		l.Close()
		<-served
		if f.at != 0 {
			t.Errorf("%d leases have not ended", f.at)
		}
	})
	return f
}

func (f *fakeSQ) lease(context.Context, string) (sqclient.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	f.lent++
	f.at++
	return &lease{f}, nil
}

type lease struct{ sq *fakeSQ }

func (l *lease) Addr() string       { return l.sq.addr }
func (l *lease) Key() string        { return childKey }
func (l *lease) Generation() uint64 { return 1 }
func (l *lease) Release()           { l.end("") }
func (l *lease) Retire(why string)  { l.end(why) }

func (l *lease) end(why string) {
	l.sq.mu.Lock()
	defer l.sq.mu.Unlock()
	l.sq.at--
	if why != "" {
		l.sq.retired = append(l.sq.retired, why)
	}
}

// forward has SQ answer a call as proxy does, and returns the response.
func (w *world) forward(call *rewrite.Call) (*http.Response, error) {
	w.Helper()
	return w.forwardWithin(w.Context(), call)
}

func (w *world) forwardWithin(ctx context.Context, call *rewrite.Call) (*http.Response, error) {
	w.Helper()
	out := call.Outgoing()
	r, err := http.NewRequestWithContext(ctx, out.Method, "http://sq"+out.Path+"?"+out.Query, strings.NewReader(string(out.Body)))
	w.check(err)
	return (&Forward{Reader: w.Reader, Dir: w.dir, Tenant: w.tenant, Call: call}).RoundTrip(r)
}

// noticing is a context that tells when somebody waits for it.
type noticing struct {
	context.Context
	once    sync.Once
	noticed chan struct{}
}

func (n *noticing) Done() <-chan struct{} {
	n.once.Do(func() { close(n.noticed) })
	return n.Context.Done()
}
