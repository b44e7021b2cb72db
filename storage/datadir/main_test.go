package datadir

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/testtmp"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	goleak.VerifyTestMain(m)
}

// world is Dirs with the directory of one tenant "will".
type world struct {
	testing.TB
	*Dirs
	dir    *Dir
	tenant *tenants.Tenant
	root   string
	log    *strings.Builder

	current atomic.Pointer[tenants.Snapshot]

	mu      sync.Mutex
	stops   int   // how often the child was to be stopped
	stopErr error // of the next stops
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, root: t.TempDir(), log: &strings.Builder{}}
	w.check(os.Mkdir(filepath.Join(w.root, "data"), 0o700))
	w.setTenants(w.entry(""))
	log := slog.New(slog.NewTextHandler(w.log, nil))
	set, err := journal.New(journal.Config{Dir: filepath.Join(w.root, "journal"), Quarantine: filepath.Join(w.root, "quarantine"),
		BootID: "this boot", Logger: log, Datasync: func(*os.File) error { return nil }})
	w.check(err)
	t.Cleanup(func() { w.check(set.Close()) })
	w.Dirs = New(Config{Tenants: w.current.Load, Journal: set, ReadMemory: 1 << 20, MaxBody: 1 << 20, Logger: log,
		StopChild: func(context.Context, string, string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.stops++
			return w.stopErr
		}})
	w.tenant, _ = w.current.Load().ByID("will")
	w.dir = w.Of(w.tenant.DataDir)
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// entry is will's in the tenants file, with more fields.
func (w *world) entry(more string) string {
	return fmt.Sprintf(`{"id":"will","api_key":"pmb-v1-00112233445566778899aabbccddeeff","data_dir":%q%s}`, filepath.Join(w.root, "data"), more)
}

// setTenants is a reload of the tenants file.
func (w *world) setTenants(entries ...string) {
	w.Helper()
	s, err := tenants.Parse([]byte(`{"tenants":[` + strings.Join(entries, ",") + `]}`))
	w.check(err)
	w.current.Store(s)
}

// share has will share his directory, in which he has a phext, with mary if her entry is there, too. It
// returns both entries.
func (w *world) share() (will, mary string) {
	w.Helper()
	w.keepMarks()
	will = w.entry(`,"shared_data_dir":true`)
	w.setTenants(will)
	w.check(w.dir.Recover(w.Context()))
	w.journalled("will.n.phext", "will's")
	return will, strings.NewReplacer("will", "mary", "v1-0011", "v1-9911").Replace(will)
}

func (w *world) path(file string) string { return filepath.Join(w.dir.Path, file) }

func (w *world) put(file, text string) {
	w.Helper()
	w.check(os.WriteFile(w.path(file), []byte(text), 0o600))
}

func (w *world) call(op, query string) *rewrite.Call {
	w.Helper()
	head, err := rewrite.ParseHead("GET", "/"+op, query, RewriteTenant(w.tenant))
	w.check(err)
	call, err := head.Call(nil)
	w.check(err)
	return call
}

// wantError checks what a caller is told, and a part of the sentence.
func (w *world) wantError(err error, kind apierror.Kind, words string) {
	w.Helper()
	e := apierror.From(err)
	if e == nil || e.Kind != kind || !strings.Contains(e.Message, words) {
		w.Errorf("%v, want %+v: ...%s...", err, kind, words)
	}
}

// lock is one request that has, or waits for, a lock. got is closed when it has it.
type lock struct {
	got    chan struct{}
	err    error
	unlock func()
}

// acquire has a request wait for a lock in its own goroutine.
func acquire(ctx context.Context, how func(context.Context) (func(), error)) *lock {
	l := &lock{got: make(chan struct{})}
	go func() {
		l.unlock, l.err = how(ctx)
		close(l.got)
	}()
	return l
}

func (l *lock) has() bool {
	select {
	case <-l.got:
		return l.err == nil
	default:
		return false
	}
}
