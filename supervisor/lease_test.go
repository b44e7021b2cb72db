package supervisor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLeaseServes(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	l := mustLease(t, s, dir)
	defer l.Release()
	if want := sqVersion(t); l.Version() != want || len(l.Key()) != 32 {
		t.Errorf("version %q, want %q; key %q", l.Version(), want, l.Key())
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("the start left %v in the data directory", entries)
	}
	if _, err := call(l.Addr(), l.Key(), "update", "hello", "p", "a", "c", "1.1.1/1.1.1/1.1.1"); err != nil {
		t.Fatal(err)
	}
	text, err := call(l.Addr(), l.Key(), "select", "", "p", "a", "c", "1.1.1/1.1.1/1.1.1")
	if err != nil || text != "hello" {
		t.Errorf("select: %q, %v", text, err)
	}
	if _, err := call(l.Addr(), "wrong", "select", "", "p", "a"); err == nil {
		t.Error("a wrong key passes")
	}
}

// TestAWorkingDirectoryThatIsRemoved is made again for the next child.
func TestAWorkingDirectoryThatIsRemoved(t *testing.T) {
	s := newSupervisor(t, nil)
	if err := os.RemoveAll(s.config.WorkDir); err != nil {
		t.Fatal(err)
	}
	mustLease(t, s, dataDir(t)).Release()
}

func TestLeaseEndsWithItsContext(t *testing.T) {
	s := newSupervisor(t, func(c *Config) { c.Command = self("silent") })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Lease(ctx, dataDir(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lease: %v", err)
	}
	if _, err := s.Lease(soon(t), "relative"); !errors.Is(err, errRelative) {
		t.Errorf("relative directory: %v", err)
	}
}

// sqVersion is what the SQ of these tests prints when it is asked for its version.
func sqVersion(t *testing.T) string {
	t.Helper()
	command := append(sqCommand(), "version")
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = t.TempDir() // SQ makes a folder where it is started
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestConcurrentLeasesShareOneStart(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	watch(t, dir)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			l, err := s.Lease(soon(t), dir)
			if err != nil {
				t.Error(err)
				return
			}
			l.Release()
			l.Release()
		})
	}
	all.Wait()
	if c := childOf(s, dir); c.Starts != 1 || c.InFlight != 0 || c.State != StateReady {
		t.Errorf("after 30 leases: %+v", c)
	}
}

func TestIdleChildStops(t *testing.T) {
	s, dir := newSupervisor(t, func(c *Config) { c.IdleTimeout = 50 * time.Millisecond }), dataDir(t)
	watch(t, dir)
	l := mustLease(t, s, dir)
	first := l.Generation()
	s.idleExpired(l.child, l.child.served) // as a timer that expired just before the lease
	if c := childOf(s, dir); c.State != StateReady {
		t.Fatalf("stopped with a lease in flight: %+v", c)
	}
	l.Release()
	eventually(t, "idle stop", func() bool { return len(s.Children()) == 0 && len(servers(dir)) == 0 })
	l = mustLease(t, s, dir)
	defer l.Release()
	if l.Generation() <= first {
		t.Errorf("generation %d after %d", l.Generation(), first)
	}
}

func TestRetireGivesAFreshChild(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	watch(t, dir)
	suspect, other := mustLease(t, s, dir), mustLease(t, s, dir)
	suspect.Retire("answered 500")
	if _, err := call(other.Addr(), other.Key(), "select", "", "p", "x"); err != nil {
		t.Errorf("the lease in flight was cut off: %v", err)
	}
	if c := childOf(s, dir); c.State != StateDraining {
		t.Errorf("state %s", c.State)
	}
	other.Release()
	fresh := mustLease(t, s, dir)
	defer fresh.Release()
	if fresh.Generation() == other.Generation() || fresh.Key() == other.Key() {
		t.Error("the same child again")
	}
}

func TestStop(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	watch(t, dir)
	l := mustLease(t, s, dir)
	stopped := make(chan error)
	go func() { stopped <- s.Stop(soon(t), dir, "disabled") }()
	eventually(t, "draining", func() bool { return childOf(s, dir).State == StateDraining })
	if len(servers(dir)) != 1 {
		t.Error("stopped with a lease in flight")
	}
	l.Release()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if pids := servers(dir); len(pids) != 0 {
		t.Errorf("Stop returned while %v live", pids)
	}
	if err := s.Stop(soon(t), filepath.Join(dir, "never-seen"), "x"); err != nil {
		t.Error(err)
	}
}

func TestCloseCutShort(t *testing.T) {
	s, err := New(quick(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	dir := dataDir(t)
	l := mustLease(t, s, dir)
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan error)
	go func() { closed <- s.Close(ctx) }()
	eventually(t, "draining", func() bool { return childOf(s, dir).State == StateDraining })
	if _, err := s.Lease(soon(t), dataDir(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("Lease while closing: %v", err)
	}
	cancel()
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	if pids := servers(dir); len(pids) != 0 {
		t.Errorf("left behind: %v", pids)
	}
	l.Release()
}

func TestKilledChildIsReplacedQuickly(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	watch(t, dir)
	l := mustLease(t, s, dir)
	l.Release()
	kill(t, childOf(s, dir).PID)
	begun := time.Now()
	eventually(t, "the death is noticed", func() bool { return childOf(s, dir).State != StateReady })
	mustLease(t, s, dir).Release()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if pid == 0 {
		return
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
}
