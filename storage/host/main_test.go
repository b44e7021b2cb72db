package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/testtmp"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	// The compressor has channels, which must not belong to the first test that uses it.
	b, err := object.Encode(&object.Owner{})
	if err == nil {
		_, err = object.Decode[object.Owner](b)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// machine is a disk, and the sqgate that runs on it.
type machine struct {
	testing.TB
	root   string
	bucket bucket.Bucket
	name   string

	*Host
	ds      *Directories
	dirs    *datadir.Dirs
	tenant  *tenants.Tenant
	journal *journal.Set
	calls   *quota.Calls
	ledger  *quota.Ledger
	stop    context.CancelFunc
	running sync.WaitGroup
	log     *lines
	killed  atomic.Bool
	cut     atomic.Bool            // the bucket cannot be reached for now
	lacking atomic.Pointer[string] // key of an object that the bucket does not give this machine
	clock   atomic.Pointer[func() time.Duration]
	stops   atomic.Int64 // how often the child was to be stopped
	history time.Duration
	// snapshot has will, with an incarnation, and as many idle tenants.
	snapshot    atomic.Pointer[tenants.Snapshot]
	incarnation string
	key         string // of will; "" = one
	dir         string // below srv; "" = data
	idle        int
	lag         time.Duration
	without     bool     // it serves without a bucket
	alone       *Without // then
	many        bool     // it is one of several hosts
	archived    bool     // will is
	presence    bool     // a volume that is missing is noticed
}

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

func newHost(b bucket.Bucket, name string) *Host {
	begun := time.Now()
	return &Host{Bucket: b, Name: name, Incarnation: rand.Text(), Logger: slog.New(slog.DiscardHandler), Clock: func() time.Duration { return time.Since(begun) }}
}

// newMachine has an empty disk. It is started in a bubble of synctest.
func newMachine(t testing.TB, b bucket.Bucket, name string) *machine {
	m := &machine{TB: t, root: t.TempDir(), bucket: b, name: name, history: 30 * 24 * time.Hour}
	m.start()
	return m
}

func (m *machine) start() {
	m.Helper()
	m.setTenants()
	m.log = &lines{}
	log := slog.New(slog.NewTextHandler(m.log, nil))
	var err error
	m.journal, err = journal.New(journal.Config{Dir: filepath.Join(m.root, "journal"), Quarantine: filepath.Join(m.root, "quarantine"),
		Sync: journal.Batch, BootID: "this boot", Logger: log, History: 30 * 24 * time.Hour, BootTime: time.Unix(1, 0), Datasync: func(*os.File) error { return nil }})
	m.check(err)
	m.Host = newHost(killable{m.bucket, m}, m.name)
	m.Host.Logger = log
	running := m.Host.Clock
	m.clock.Store(&running)
	m.Host.Clock = func() time.Duration { return (*m.clock.Load())() }
	if m.many {
		m.Many, m.URL, m.Fingerprint = true, "https://"+m.name, "print-"+m.name
	}
	m.calls = quota.OpenCalls("", log)
	m.ds = &Directories{Host: m.Host, Tenants: m.snapshot.Load, Journal: m.journal, MarkDir: filepath.Join(m.root, "bucket"), History: m.history, Lag: m.lag, Calls: m.calls}
	m.dirs = datadir.New(datadir.Config{Tenants: m.ds.Tenants, Journal: m.journal, TakeOver: m.ds.TakeOver, Leased: m.Holds, Lag: m.lag, ReadMemory: 1 << 20, MaxBody: 1 << 20, Logger: log,
		StopChild: func(context.Context, string, string) error { m.stops.Add(1); return nil }})
	m.ds.Dirs = m.dirs
	if m.presence {
		m.dirs.MarkDir = filepath.Join(m.root, "presence")
	}
	m.ledger = quota.NewLedger(m.snapshot.Load, log)
	m.ledger.FollowFetches(func(dataDir string) quota.Coming {
		if f := m.dirs.Of(dataDir).Coming(); f != nil {
			return f
		}
		return nil
	})
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	if m.without {
		m.alone, err = ServeWithout(m.ds.MarkDir, m.snapshot.Load, log)
		m.check(err)
		m.dirs.TakeOver, m.dirs.Refuse = nil, m.alone.Refuse
		return
	}
	m.check(m.ds.Lock())
	m.running.Go(func() { m.check(m.ds.KeepLease(ctx)) })
	m.running.Go(func() { m.dirs.Run(ctx) })
}

// setTenants is a reload of the tenants file.
func (m *machine) setTenants() {
	m.Helper()
	will := map[string]any{"id": "will", "api_key": "pmb-v1-00112233445566778899aabbccddeeff", "data_dir": m.path("")}
	if m.key != "" {
		will["api_key"] = m.key
	}
	if m.incarnation != "" {
		will["incarnation"] = m.incarnation
	}
	if m.archived {
		will["archived"], will["enabled"] = true, false
	}
	all := []any{will}
	for i := range m.idle {
		all = append(all, map[string]any{"id": fmt.Sprint("idle", i), "api_key": fmt.Sprintf("pmb-v1-%032x", i), "data_dir": filepath.Join(m.root, "srv", fmt.Sprint("idle", i))})
	}
	text, err := json.Marshal(map[string]any{"tenants": all})
	m.check(err)
	snapshot, err := tenants.Parse(text)
	m.check(err)
	m.snapshot.Store(snapshot)
	m.tenant, _ = snapshot.ByID("will")
}

// end is a clean end, and kill one after which nothing gets to the bucket, and that says
// nothing to anybody.
func (m *machine) end() {
	m.stop()
	m.running.Wait()
	m.check(m.journal.Close())
	if !m.without {
		m.check(m.ds.Close())
	}
}

func (m *machine) kill() {
	m.killed.Store(true) // its bucket is another one from now on, so it does not give its lease up
	m.endLease()
	m.end()
}

// killable is the bucket of a machine until it is killed.
type killable struct {
	bucket.Bucket
	machine *machine
}

func (k killable) Put(ctx context.Context, key string, body []byte, c bucket.Condition) (string, error) {
	if k.machine.killed.Load() || k.machine.cut.Load() {
		return "", bucket.ErrTemporary
	}
	return k.Bucket.Put(ctx, key, body, c)
}

func (k killable) Get(ctx context.Context, key, unless string) (bucket.Object, error) {
	if k.machine.cut.Load() {
		return bucket.Object{}, bucket.ErrTemporary
	}
	return k.Bucket.Get(ctx, key, unless)
}

func (k killable) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if lacking := k.machine.lacking.Load(); lacking != nil && *lacking == key {
		return nil, bucket.ErrTemporary
	}
	return k.Bucket.Open(ctx, key)
}

func (k killable) List(ctx context.Context, prefix, after string, limit int) ([]bucket.Entry, bool, error) {
	if k.machine.cut.Load() {
		return nil, false, bucket.ErrTemporary
	}
	return k.Bucket.List(ctx, prefix, after, limit)
}

// quarantined is what was set aside.
func (m *machine) quarantined() []string {
	all, err := filepath.Glob(filepath.Join(m.root, "quarantine", "*"))
	m.check(err)
	return all
}

func (m *machine) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) path(file string) string {
	return filepath.Join(m.root, "srv", cmp.Or(m.dir, "data"), file)
}

// lock takes the directory as a write of a file does.
func (m *machine) lock(file string) (d *datadir.Dir, j *journal.Journal, unlock func(), err error) {
	d = m.dirs.Of(m.tenant.DataDir)
	if unlock, err = d.LockForWrite(context.Background(), m.tenant, m.call(file)); err != nil {
		return nil, nil, nil, err
	}
	j, err = m.dirs.JournalOf(d)
	m.check(err)
	return d, j, unlock, nil
}

// write makes a file what text is. With upload false it crashes before the bucket has it.
func (m *machine) write(file, text, idempotency string, upload bool) {
	m.Helper()
	d, j, unlock, err := m.lock(file)
	m.check(err)
	defer unlock()
	mutation, v, p := m.journaled(j, file, text, idempotency)
	if !upload {
		return
	}
	r, err := d.Replica()
	m.check(err)
	r.Add([]journal.Mutation{mutation}, datadir.Known(v), p.Time())
	m.check(r.Uploaded().Wait())
}

// journaled makes a file what text is, and has the journal know.
func (m *machine) journaled(j *journal.Journal, file, text, idempotency string) (journal.Mutation, *cache.Version, *journal.Pending) {
	m.Helper()
	now, err := journal.ReadState(nil, m.path(file))
	m.check(err)
	mutation := journal.Mutation{File: file, Op: journal.Replace, Text: text, Tenant: m.tenant.UniqueID(), Idempotency: idempotency, Digest: "d", Answer: "done"}
	m.check(os.MkdirAll(m.path(""), 0o700))
	p, err := j.Begin(mutation, func() (journal.State, error) { return now, nil })
	m.check(err)
	m.check(os.WriteFile(m.path(file), []byte(text), 0o600))
	id, err := fsutil.Identify(m.path(file))
	m.check(err)
	m.check(p.Done(id))
	m.check(p.Sync())
	return mutation, cache.NewVersion(text, id), p
}

// call is a read of a file's phext.
func (m *machine) call(file string) *rewrite.Call {
	m.Helper()
	head, err := rewrite.ParseHead("GET", "/get", "p="+rewrite.Escape(strings.TrimSuffix(file, phext.Extension)), datadir.RewriteTenant(m.tenant))
	m.check(err)
	call, err := head.Call(nil)
	m.check(err)
	return call
}

// serve waits until the directory was taken over, and all its files are here.
func (m *machine) serve() error {
	release, err := m.dirs.LockExclusive(context.Background(), m.tenant.DataDir)
	if err == nil {
		release()
	}
	return err
}

func (m *machine) want(file, text string) {
	m.Helper()
	got, err := os.ReadFile(m.path(file))
	if string(got) != text || err != nil && text != "" {
		m.Errorf("%s is %q, %v; want %q", file, got, err, text)
	}
}
