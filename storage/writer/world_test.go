package writer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fakesq"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/testtmp"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	goleak.VerifyTestMain(m)
}

// world is a Writer with a fake SQ and a fake disk, for one tenant "will".
type world struct {
	*testing.T
	root string
	*Writer
	snapshot atomic.Pointer[tenants.Snapshot]
	tenant   *tenants.Tenant
	bob      *tenants.Tenant // may write to will
	sq       *fakeSQ
	journal  *journal.Set
	log      *lines
	disk     *faults
	boot     string
	bucket   *bucketWorld // nil = there is none
}

// newWorld has a phext n of three scrolls, of which SQ knows and the checkpoint
// is on the disk: the next write recreates the file.
func newWorld(t *testing.T) *world { return newWorldWith(t, nil) }

func newWorldWith(t *testing.T, b *bucketWorld) *world {
	w := &world{bucket: b, T: t, root: t.TempDir(), log: &lines{}, disk: &faults{}, boot: "this boot"}
	if err := os.Mkdir(filepath.Join(w.root, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if log := w.log.String(); strings.Contains(log, "/proc/self/fd/") {
			t.Errorf("the log names a file as nobody can find it: %s", log)
		}
	})
	w.open()
	w.must(update(1, "one"), update(2, "two"), update(3, "three"))
	return w
}

// start is what newWorld leaves.
const start = "one\x17two\x17three"

// open makes everything that a start of sqgate makes. The disk is whole again.
func (w *world) open() {
	w.Helper()
	w.disk = &faults{}
	text, err := json.Marshal(map[string]any{"tenants": []any{map[string]any{
		"id": "will", "api_key": "pmb-v1-00112233445566778899aabbccddeeff", "data_dir": filepath.Join(w.root, "data"), "quota_mb": 1, "writers": []string{"bob"}},
		map[string]any{"id": "bob", "api_key": "key-of-bob", "data_dir": filepath.Join(w.root, "bob")}}})
	if err != nil {
		w.Fatal(err)
	}
	snapshot, err := tenants.Parse(text)
	if err != nil {
		w.Fatal(err)
	}
	w.snapshot.Store(snapshot)
	current := w.snapshot.Load
	w.tenant, _ = snapshot.ByID("will")
	w.bob, _ = snapshot.ByID("bob")
	log := slog.New(slog.NewTextHandler(w.log, nil))
	disk := w.disk
	w.journal, err = journal.New(journal.Config{
		Dir: filepath.Join(w.root, "journal"), Quarantine: filepath.Join(w.root, "quarantine"), Sync: journal.Batch, BootID: w.boot, Logger: log,
		Write: func(f *os.File, b []byte, off int64) (int, error) {
			if err := disk.at("journal"); err != nil {
				return 0, err
			}
			return f.WriteAt(b, off)
		},
		Datasync: disk.sync,
	})
	if err != nil {
		w.Fatal(err)
	}
	opened := w.journal
	w.Cleanup(func() { _ = opened.Close() }) // some of these tests break it
	w.sq = newFakeSQ(w.T, filepath.Join(w.root, "data"))
	dirs := datadir.New(datadir.Config{
		TakeOver: w.bucket.takeOver(), Leased: w.bucket.holds, Tenants: current, Journal: w.journal, MarkDir: filepath.Join(w.root, "directories"), ReadMemory: 4 << 20, MaxBody: 1 << 20, Logger: log,
		StopChild: func(context.Context, string, string) error {
			if err := disk.at("stop"); err != nil {
				return err
			}
			w.sq.stop()
			return nil
		},
	})
	client := sqclient.New(w.sq.lease, dirs.Reserve)
	w.Writer = New(Config{Dirs: dirs, SQ: client, Ledger: quota.NewLedger(current, log), Logger: log})
	w.Writer.files = disk.around(w.Writer.files)
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

// mutate makes a request as proxy would.
func (w *world) mutate(op rewrite.Op, p, c, text string) Request {
	w.Helper()
	return requestOf(w.T, w.tenant, op, p, c, text)
}

func requestOf(t *testing.T, tenant *tenants.Tenant, op rewrite.Op, p, c, text string) Request {
	t.Helper()
	head, err := rewrite.ParseHead("POST", "/"+string(op), "p="+p+"&c="+rewrite.Escape(c), datadir.RewriteTenant(tenant))
	if err != nil {
		t.Fatal(err)
	}
	call, err := head.Call([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Request{ID: "a request", Tenant: tenant, KeyName: "a key", Call: call}
}

// step is one mutation of the phext n.
type step struct {
	op      rewrite.Op
	c, text string
}

func scroll(n int) string { return fmt.Sprintf("1.1.1/1.1.1/1.1.%d", n) }

func update(n int, text string) step { return step{rewrite.Update, scroll(n), text} }

func (w *world) commit(s step) (Result, error) {
	w.Helper()
	return w.Commit(context.Background(), w.mutate(s.op, "n", s.c, s.text))
}

// must commits steps one by one.
func (w *world) must(steps ...step) {
	w.Helper()
	for _, s := range steps {
		if _, err := w.commit(s); err != nil {
			w.Fatalf("%s %s: %v", s.op, s.c, err)
		}
	}
}

func (w *world) path(file string) string { return filepath.Join(w.root, "data", file) }

// file is what the file of a phext holds; "-" is none.
func (w *world) file(name string) string {
	w.Helper()
	text, err := os.ReadFile(w.path(name))
	if os.IsNotExist(err) {
		return "-"
	}
	if err != nil {
		w.Fatal(err)
	}
	return string(text)
}

// seen is what a reader sees of the phext n. It recovers the directory, if that is due.
func (w *world) seen() string {
	w.Helper()
	call := w.mutate(rewrite.Update, "n", scroll(1), "").Call
	v, err := w.Dirs.Of(w.tenant.DataDir).RecoveredView(context.Background(), call)
	if err != nil {
		w.Fatal(err)
	}
	return v.Phext.Text()
}

// want checks the file, what readers see, and that nothing is left beside it.
func (w *world) want(text string) {
	w.Helper()
	if got := w.seen(); got != text {
		w.Errorf("readers see %q, want %q", got, text)
	}
	if got := w.file("n.phext"); got != text {
		w.Errorf("the file holds %q, want %q", got, text)
	}
	entries, err := os.ReadDir(filepath.Join(w.root, "data"))
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			w.Errorf("%s is left over", e.Name())
		}
	}
}

// wantError checks status and code of an error as a client is told of it.
func (w *world) wantError(err error, kind apierror.Kind) {
	w.Helper()
	e := apierror.From(err)
	if e == nil && err != nil {
		e = apierror.New(apierror.BackendFailed, "%v", err) // as proxy does
	}
	if e == nil || e.Kind != kind {
		w.Errorf("error %v (%+v), want %+v", err, e, kind)
	}
}

// recover is a new start of sqgate.
func (w *world) restart() {
	w.Helper()
	w.sq.stop()
	w.open()
}

// faults lets operations on the disk fail. The zero value lets none.
type faults struct {
	mu    sync.Mutex
	fail  map[string]error // by operation; every time, until it is taken away
	calls int              // how many operations there were
	crash int              // panics at that call; 0 = never
	each  func(call int)   // is called before each operation, if it is set

	syncing chan struct{} // if not nil, receives at the start of each sync, which then waits for that again
}

func (f *faults) sync(*os.File) error {
	f.mu.Lock()
	syncing := f.syncing
	f.mu.Unlock()
	if syncing != nil {
		syncing <- struct{}{}
		syncing <- struct{}{}
	}
	return f.at("sync")
}

func (f *faults) holdSyncs(syncing chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncing = syncing
}

// errCrash is what a crash of sqgate leaves of a commit: nothing that comes after.
type errCrash struct{}

// at counts an operation, and lets it fail or crash.
func (f *faults) at(operation string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if operation == "sync" { // it is called without the lock that its caller's defer gives back
		return f.fail[operation]
	}
	f.calls++
	if f.each != nil {
		f.each(f.calls)
	}
	if f.calls == f.crash {
		panic(errCrash{})
	}
	return f.fail[operation]
}

func (f *faults) set(operation string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.fail = map[string]error{}
	}
	f.fail[operation] = err
}

// around puts the faults in front of a file system.
func (f *faults) around(real fileSystem) fileSystem {
	guarded := real
	guarded.rename = func(from, to string) error {
		operation := "rename aside"
		if strings.HasSuffix(from, ".before") {
			operation = "rename back"
		}
		if err := f.at(operation); err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return real.rename(from, to)
	}
	guarded.remove = func(path string) error {
		operation := "remove between"
		if strings.HasSuffix(path, ".before") {
			operation = "remove before"
		}
		if err := f.at(operation); err != nil {
			return &os.PathError{Op: "remove", Path: path, Err: err}
		}
		return real.remove(path)
	}
	guarded.same = func(path string, v *cache.Version, pace phext.Pace) (fsutil.FileID, bool, error) {
		if err := f.at("same"); err != nil {
			return fsutil.FileID{}, false, &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		return real.same(path, v, pace)
	}
	guarded.identify = func(path string) (fsutil.FileID, error) {
		if err := f.at("identify"); err != nil {
			return fsutil.FileID{}, &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		return real.identify(path)
	}
	guarded.replace = func(path string, content io.WriterTo) error {
		if err := f.at("replace"); err != nil {
			return fmt.Errorf("writing: %w", &os.PathError{Op: "open", Path: path, Err: err})
		}
		return real.replace(path, content)
	}
	guarded.storeNames = func(path string, now, next *cache.Version, at phext.Coordinate) error {
		if err := f.at("names"); err != nil {
			return fmt.Errorf("writing: %w", &os.PathError{Op: "open", Path: path, Err: err})
		}
		return real.storeNames(path, now, next, at)
	}
	guarded.space = func(dir string) (diskSpace, error) {
		if err := f.at("space"); err != nil {
			return diskSpace{free: 1 << 10}, nil // a disk that could be full in a moment
		}
		return real.space(dir)
	}
	return guarded
}

// fakeSQ is the stand-in for SQ behind a listener that can spoil an exchange.
type fakeSQ struct {
	*testing.T
	dataDir string

	mu         sync.Mutex
	generation uint64
	child      *child
	refuse     int           // so many leases get a child that accepts no connection
	leaseErr   error         // of the next leases
	spoil      func(*attack) // every exchange of a mutation, if it is set
	exchanges  []string      // the operations that SQ was asked for
}

// child is one SQ process.
type child struct {
	sq       *fakeSQ
	gen      uint64
	front    net.Listener // what the gateway talks to
	back     net.Listener // the stand-in
	group    sync.WaitGroup
	dir      string // the data directory, which it keeps as the real SQ does
	letGo    func() // of dir
	retired  bool
	stopOnce sync.Once
}

func newFakeSQ(t *testing.T, dataDir string) *fakeSQ {
	f := &fakeSQ{T: t, dataDir: dataDir}
	t.Cleanup(f.stop)
	return f
}

// lease is the child, which is started if there is none, as a supervisor does it.
func (f *fakeSQ) lease(context.Context, string) (sqclient.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaseErr != nil {
		return nil, f.leaseErr
	}
	if f.refuse > 0 {
		f.refuse--
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			f.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		return &lease{addr: addr}, nil
	}
	if f.child == nil || f.child.retired {
		f.startLocked()
	}
	return &lease{addr: f.child.front.Addr().String(), gen: f.child.gen, retire: f.retire(f.child)}, nil
}

func (f *fakeSQ) startLocked() {
	if f.child != nil {
		f.child.stop()
	}
	f.generation++
	c := &child{sq: f, gen: f.generation}
	var err error
	if c.front, err = net.Listen("tcp4", "127.0.0.1:0"); err == nil {
		c.back, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		f.Fatal(err)
	}
	if c.dir, c.letGo, err = fsutil.HoldDir(f.dataDir); err != nil {
		c.dir = f.dataDir // it is not there yet
	}
	sq := fakesq.New(fakesq.Config{Key: childKey, HasKey: true, DataDir: c.dir})
	c.group.Go(func() { sq.Serve(c.back) })
	c.group.Go(c.accept)
	f.child = c
}

const childKey = "the child's key"

type lease struct {
	addr   string
	gen    uint64
	retire func()
}

func (l *lease) Addr() string       { return l.addr }
func (l *lease) Key() string        { return childKey }
func (l *lease) Generation() uint64 { return l.gen }
func (l *lease) Release()           {}
func (l *lease) Retire(string) {
	if l.retire != nil {
		l.retire()
	}
}

func (f *fakeSQ) retire(c *child) func() {
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		c.retired = true
	}
}

// stop returns when nothing of SQ runs any more.
func (f *fakeSQ) stop() {
	f.mu.Lock()
	c := f.child
	f.child = nil
	f.mu.Unlock()
	if c != nil {
		c.stop()
	}
}

func (c *child) stop() {
	c.stopOnce.Do(func() {
		_ = c.front.Close() // this is what ends the loops
		_ = c.back.Close()
		c.group.Wait()
		c.letGo()
	})
}

func (c *child) accept() {
	for {
		conn, err := c.front.Accept()
		if err != nil {
			return
		}
		c.group.Go(func() { c.serve(conn.(*net.TCPConn)) })
	}
}

// attack is one exchange in the hands of a test.
type attack struct {
	sq   *fakeSQ
	c    *child
	conn *net.TCPConn
	raw  []byte // the request
	n    int    // mutations so far, this one included
}

// pass has the stand-in do what it is asked for, and returns its answer.
func (a *attack) pass() []byte {
	back, err := net.Dial("tcp4", a.c.back.Addr().String())
	if err != nil {
		return nil // the child was stopped
	}
	defer back.Close()
	if _, err := back.Write(a.raw); err != nil {
		return nil
	}
	answer, _ := io.ReadAll(back) // as far as it goes
	return answer
}

// answer sends bytes to the gateway.
func (a *attack) answer(b []byte) { _, _ = a.conn.Write(b) }

func (a *attack) path() string { return filepath.Join(a.c.dir, "n.phext") }

func (c *child) serve(conn *net.TCPConn) {
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return // the gateway gave the exchange up before it was complete
	}
	raw, err := httputil.DumpRequest(r, true)
	if err != nil {
		return
	}
	op := strings.TrimPrefix(r.URL.Path, "/api/v2/")
	c.sq.mu.Lock()
	c.sq.exchanges = append(c.sq.exchanges, op)
	n := 0
	for _, e := range c.sq.exchanges {
		if e != "load" {
			n++
		}
	}
	spoil := c.sq.spoil
	c.sq.mu.Unlock()
	a := &attack{sq: c.sq, c: c, conn: conn, raw: raw, n: n}
	if spoil == nil || op == "load" {
		a.answer(a.pass())
		return
	}
	spoil(a)
}

// during has every mutation spoilt while f runs.
func (w *world) during(spoil func(*attack), f func()) {
	w.sq.mu.Lock()
	w.sq.spoil, w.sq.exchanges = spoil, nil
	w.sq.mu.Unlock()
	f()
	w.sq.mu.Lock()
	w.sq.spoil = nil
	w.sq.mu.Unlock()
}
