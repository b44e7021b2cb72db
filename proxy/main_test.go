package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/fakesq"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/testtmp"
	"mirrorborn.us/sqgate/storage/changes"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/reader"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/storage/writer"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	goleak.VerifyTestMain(m)
}

const (
	key     = "pmb-v1-00112233445566778899aabbccddeeff"
	pathKey = "pk-00112233445566778899aabbccddeeff00112233"
)

// world is a Gateway for one tenant "will", with all that it takes but processes.
type world struct {
	testing.TB
	*Gateway
	store *tenants.Store
	root  string
	dir   *datadir.Dir
	sq    *fakeSQ
	log   *lines
	leave []func() // of requests that are inside

	mu       sync.Mutex
	observed []string
}

// options are what differs between worlds.
type options struct {
	readMemory int64
	tenant     map[string]any   // fields of will's in the tenants file
	others     []map[string]any // more tenants
	log        io.Writer        // nil = world.log
	observe    func(store *tenants.Store) func(tenant, op string, status int, code string, took time.Duration)
}

// newWorld has a phext "notes" with one scroll.
func newWorld(t testing.TB, o options) *world {
	w := &world{TB: t, root: t.TempDir(), log: &lines{}}
	w.check(os.Mkdir(filepath.Join(w.root, "data"), 0o700))
	w.setTenant(o.tenant, o.others...)
	if o.log == nil {
		o.log = w.log
	}
	log := slog.New(slog.NewTextHandler(o.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	w.store, err = tenants.Open(tenants.Options{Path: filepath.Join(w.root, "tenants.json"), Logger: log})
	w.check(err)
	set, err := journal.New(journal.Config{Dir: filepath.Join(w.root, "journal"), Quarantine: filepath.Join(w.root, "quarantine"),
		Sync: journal.Batch, History: time.Hour, Logger: log, Datasync: func(*os.File) error { return nil }})
	w.check(err)
	t.Cleanup(func() { w.check(set.Close()) })
	dirs := datadir.New(datadir.Config{Tenants: w.store.Current, Journal: set, ReadMemory: o.readMemory, MaxBody: 1 << 20, Logger: log, MarkDir: filepath.Join(w.root, "marks"),
		StopChild: func(context.Context, string, string) error { return nil }})
	w.dir = dirs.Of(filepath.Join(w.root, "data"))
	w.sq = newFakeSQ(t, w.dir.Path)
	client := sqclient.New(w.sq.lease, dirs.Reserve)
	observe := w.observe
	if o.observe != nil {
		observe = o.observe(w.store)
	}
	ledger := quota.NewLedger(w.store.Current, log)
	w.Gateway = New(Config{
		Tenants: w.store.Current, Dirs: dirs, Reader: reader.New(reader.Config{Dirs: dirs, SQ: client}),
		Writer:  writer.New(writer.Config{Dirs: dirs, SQ: client, Ledger: ledger, Logger: log}),
		History: &history.Service{Dirs: dirs, Ledger: ledger, SpoolDir: w.root}, Ledger: ledger,
		Calls: quota.OpenCalls("", log), KeyLimit: keylimit.New(time.Now), PublicLimit: keylimit.PerMinute(100, time.Now), Observe: observe, BackendVersion: "0.6.0", Logger: log,
		Changes: changes.New(dirs),
	})
	w.put("notes.phext", notes)
	return w
}

const notes = "\x17\x17the scroll"

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// setTenant writes the tenants file.
func (w *world) setTenant(fields map[string]any, others ...map[string]any) {
	w.Helper()
	entry := map[string]any{"id": "will", "api_key": key, "path_key": pathKey, "data_dir": filepath.Join(w.root, "data"), "requests_per_minute": 1 << 30}
	for name, value := range fields {
		entry[name] = value
	}
	text, err := json.Marshal(map[string]any{"tenants": append([]map[string]any{entry}, others...)})
	w.check(err)
	w.check(os.WriteFile(filepath.Join(w.root, "tenants.json"), text, 0o600))
}

func (w *world) path(file string) string { return filepath.Join(w.dir.Path, file) }

func (w *world) put(file, text string) {
	w.Helper()
	w.check(os.WriteFile(w.path(file), []byte(text), 0o600))
}

// request is will's, with more headers.
func (w *world) request(method, target, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func (w *world) serve(r *http.Request) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	w.Handler().ServeHTTP(answer, r)
	return answer
}

func (w *world) ask(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	return w.serve(w.request(method, target, body, headers...))
}

// wantError checks status and code of an answer.
func (w *world) wantError(answer *httptest.ResponseRecorder, status int, code string) {
	w.Helper()
	var body struct{ Error, Code string }
	err := json.Unmarshal(answer.Body.Bytes(), &body)
	if err != nil || answer.Code != status || body.Code != code || body.Error == "" || answer.Header().Get("Content-Type") != "application/json" {
		w.Errorf("%d %s %v, want %d %s (%v)", answer.Code, answer.Body, answer.Header(), status, code, err)
	}
}

// wantAllFree checks that a request has kept nothing: no memory, no place in
// the directory, no lock and no child.
func (w *world) wantAllFree() {
	w.Helper()
	for until := time.Now().Add(10 * time.Second); !w.Dirs.Answers.Take(w.Dirs.Answers.Limit()); runtime.GC() {
		if time.Now().After(until) { // a version that was not kept counts until it is collected
			w.Fatal("memory is still reserved")
		}
	}
	if w.Dirs.Bodies.Used() != 0 || w.dir.Bodies.Used() != 0 {
		w.Error("memory is still reserved")
	}
	w.Dirs.Answers.Give(w.Dirs.Answers.Limit())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	unlock, err := w.Dirs.LockExclusive(ctx, w.dir.Path)
	if err != nil {
		w.Errorf("the directory is still locked: %v", err)
		return
	}
	unlock()
	w.sq.mu.Lock()
	defer w.sq.mu.Unlock()
	if w.sq.leased != 0 {
		w.Errorf("%d leases have not ended", w.sq.leased)
	}
}

func (w *world) observe(tenant, op string, status int, code string, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observed = append(w.observed, strings.Join([]string{tenant, op, http.StatusText(status), code}, "|"))
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// fakeSQ is the stand-in for SQ, behind a listener that notes every request and
// may answer something else.
type fakeSQ struct {
	testing.TB
	front, back net.Listener

	mu       sync.Mutex
	requests []string          // byte for byte
	answer   string            // instead of the stand-in's; "" = that
	leaseErr error             // of the next leases
	leased   int               // leases that have not ended
	meantime func(path string) // is called before an answer
}

const childKey = "the child's key"

func newFakeSQ(t testing.TB, dataDir string) *fakeSQ {
	f := &fakeSQ{TB: t}
	var err error
	if f.front, err = net.Listen("tcp4", "127.0.0.1:0"); err == nil {
		f.back, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	server := fakesq.New(fakesq.Config{Key: childKey, HasKey: true, DataDir: dataDir})
	var group sync.WaitGroup
	group.Go(func() { server.Serve(f.back) })
	group.Go(func() {
		for {
			conn, err := f.front.Accept()
			if err != nil {
				return
			}
			group.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		f.front.Close()
		f.back.Close()
		group.Wait()
	})
	return f
}

func (f *fakeSQ) serve(conn net.Conn) {
	defer conn.Close()
	var raw strings.Builder
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &raw)))
	if err != nil {
		return // it was given up before it was complete
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	f.mu.Lock()
	f.requests = append(f.requests, raw.String())
	answer, meantime := f.answer, f.meantime
	f.mu.Unlock()
	if meantime != nil {
		meantime(r.URL.Path)
	}
	if answer == "" {
		answer = f.pass(raw.String())
	}
	_, _ = io.WriteString(conn, answer) // the gateway may have given up
}

// pass has the stand-in answer.
func (f *fakeSQ) pass(raw string) string {
	conn, err := net.Dial("tcp4", f.back.Addr().String())
	if err != nil {
		return ""
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, raw)
	b, _ := io.ReadAll(conn) // as far as it goes
	return string(b)
}

// answers has SQ answer this from now on, whatever it is asked.
func (f *fakeSQ) answers(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = text
}

// seen are the requests since the last call.
func (f *fakeSQ) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.requests
	f.requests = nil
	return all
}

func (f *fakeSQ) lease(context.Context, string) (sqclient.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaseErr != nil {
		return nil, f.leaseErr
	}
	f.leased++
	return lease{f}, nil
}

type lease struct{ sq *fakeSQ }

func (l lease) Addr() string       { return l.sq.front.Addr().String() }
func (l lease) Key() string        { return childKey }
func (l lease) Generation() uint64 { return 1 }
func (l lease) Retire(string)      { l.Release() }
func (l lease) Release() {
	l.sq.mu.Lock()
	defer l.sq.mu.Unlock()
	l.sq.leased--
}
