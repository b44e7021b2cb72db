package supervisor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// An orphan that makes large writes is ended between two of them.
func TestOrphanIsNeverTorn(t *testing.T) {
	for range 3 {
		dir := dataDir(t)
		gateway, _, port, key := startGateway(t, dir)
		kill(t, gateway.Process.Pid)
		_ = gateway.Wait() // killed
		stop := writeForEver(t, loopback(port), key)
		s := newSupervisor(t, nil)
		awaitTruncation(t, dir)
		mustLease(t, s, dir).Release()
		stop()
		checkWhole(t, dir)
	}
}

const bigScroll = 6 << 20

// writeForEver updates a large phext until the child is gone or stop is called.
// It returns after the first write.
func writeForEver(t *testing.T, addr, key string) (stop func()) {
	t.Helper()
	update := func(i int) error {
		body := strings.Repeat(string(rune('a'+i%26)), bigScroll)
		_, err := call(addr, key, "update", body, "p", "big", "c", "1.1.1/1.1.1/1.1.1")
		return err
	}
	if err := update(0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for w := range 2 {
		done.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				if update(i) != nil {
					return
				}
			}
		})
	}
	return func() { cancel(); done.Wait() }
}

// awaitTruncation returns at the worst moment for a signal: SQ has emptied the
// phext for its next write.
func awaitTruncation(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		info, err := os.Stat(filepath.Join(dir, "big.phext"))
		if err == nil && info.Size() == 0 {
			return
		}
	}
	t.Fatal("no write was seen to begin")
}

// checkWhole fails if the phext is anything but one of the scrolls written.
func checkWhole(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "big.phext"))
	if err != nil {
		t.Fatal(err)
	}
	body := strings.TrimRight(string(text), "\x01\x17\x18\x19\x1a\x1c\x1d\x1e\x1f")
	if len(body) != bigScroll || strings.Trim(body, body[:1]) != "" {
		t.Fatalf("torn: %d bytes of %d", len(body), bigScroll)
	}
}

func TestStopNeverTears(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	for range 6 {
		l := mustLease(t, s, dir)
		stop := writeForEver(t, l.Addr(), l.Key())
		l.Release() // the writes go on, so Stop cannot rely on leases
		awaitTruncation(t, dir)
		if err := s.Stop(soon(t), dir, "test"); err != nil {
			t.Fatal(err)
		}
		stop()
		checkWhole(t, dir)
	}
}

// While a phext is open for writing, the process is not ended.
func TestEndWaitsForAWrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.phext")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sleep", "60")
	sleeper.ExtraFiles = []*os.File{f}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	p, err := procfs.Open(sleeper.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	end := terminator{stopTimeout: time.Second, writeLimit: 50 * time.Millisecond, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if signaled, err := end.terminate(context.Background(), p); signaled || !errors.Is(err, ErrStillWriting) || p.Gone() {
		t.Errorf("signaled %v, %v", signaled, err)
	}
	if s, err := procfs.ReadStat(p.PID); err != nil || s.State == "T" {
		t.Errorf("left frozen: %+v, %v", s, err)
	}
}
