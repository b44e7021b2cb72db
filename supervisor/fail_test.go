package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestCrashLoop(t *testing.T) {
	var clock atomic.Int64
	s, dir := newSupervisor(t, func(c *Config) {
		c.Command = self("fails")
		c.now = func() time.Time { return time.Unix(1e9, clock.Load()) }
	}), dataDir(t)
	pass := func() { clock.Add(int64(longestDelay)) }
	var failed *StartError
	for range loopFailures {
		pass()
		if _, err := s.Lease(soon(t), dir); !errors.As(err, &failed) {
			t.Fatalf("Lease: %v", err)
		}
	}
	if !slices.Contains(failed.Lines, "something is broken") {
		t.Errorf("lines: %q", failed.Lines)
	}
	var loop *CrashLoopError
	if _, err := s.Lease(soon(t), dir); !errors.As(err, &loop) || loop.RetryAfter <= 0 || !strings.Contains(loop.Last, "broken") {
		t.Fatalf("after %d failures: %v", loopFailures, err)
	}
	if c := childOf(s, dir); c.State != StateCrashLooping || c.Starts != loopFailures {
		t.Errorf("%+v", c)
	}
	pass()
	if _, err := s.Lease(soon(t), dir); !errors.As(err, &failed) || errors.As(err, &loop) {
		t.Errorf("no trial when the time is up: %v", err)
	}
	if err := s.Stop(soon(t), dir, "reconfigured"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lease(soon(t), dir); !errors.As(err, &failed) {
		t.Errorf("Stop did not clear the history: %v", err)
	}
}

// The delay between two starts is waited for, not only noted.
func TestBackoffDelaysTheNextStart(t *testing.T) {
	s, dir := newSupervisor(t, func(c *Config) { c.Command = self("fails") }), dataDir(t)
	begun := time.Now()
	var failed *StartError
	for range 2 {
		if _, err := s.Lease(soon(t), dir); !errors.As(err, &failed) {
			t.Fatalf("Lease: %v", err)
		}
	}
	if took := time.Since(begun); took < firstDelay/2 {
		t.Errorf("two failed starts took %s", took)
	}
}

func TestStartDeadline(t *testing.T) {
	s := newSupervisor(t, func(c *Config) {
		c.Command, c.StartTimeout = self("silent"), 100*time.Millisecond
	})
	if _, err := s.Lease(soon(t), dataDir(t)); !errors.Is(err, errStartTime) {
		t.Errorf("Lease: %v", err)
	}
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

func TestHistory(t *testing.T) {
	now := time.Unix(1e9, 0)
	var h history
	h.failed(now, "one")
	if wait := h.until.Sub(now); wait <= 0 || wait > firstDelay {
		t.Errorf("first delay %s", wait)
	}
	for range 20 {
		h.failed(now, "more")
	}
	if wait := h.until.Sub(now); wait > longestDelay || wait < longestDelay/2 {
		t.Errorf("longest delay %s", wait)
	}
	if h.refusal("d", now) == nil || h.refusal("d", h.until) != nil {
		t.Error("a crash loop refuses until its time is up, then allows a trial")
	}
	h.failed(now.Add(2*forgetAfter), "much later")
	if h.failures != 1 {
		t.Errorf("%d failures", h.failures)
	}
}

func TestRetiringAgainAndAgainIsAFailure(t *testing.T) {
	var h history
	for range toleratedDoubts {
		h.suspected(time.Now(), false)
	}
	if h.failures != 0 {
		t.Error("counted too early")
	}
	h.suspected(time.Now(), false)
	if h.failures != 1 {
		t.Error("never counted")
	}
}

// impostor serves on a port as SQ would, with keys that accepts decides on.
func impostor(t *testing.T, address string, accepts func(key string) bool) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !accepts(r.Header.Get("Authorization")) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "Unauthorized")
			return
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "Forbidden: invalid phext path")
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with Close
	}()
	t.Cleanup(func() { server.Close(); <-served })
	return listener.Addr().(*net.TCPAddr).Port
}

// firstKey accepts the first key that it sees, and no other.
func firstKey() func(key string) bool {
	var first atomic.Pointer[string]
	return func(key string) bool { return first.CompareAndSwap(nil, &key) || *first.Load() == key }
}

func TestImpostorsAreNotProven(t *testing.T) {
	s := newSupervisor(t, nil)
	l, other := mustLease(t, s, dataDir(t)), mustLease(t, s, dataDir(t))
	defer l.Release()
	defer other.Release()
	ports := map[string]int{
		"takes any key": impostor(t, "127.0.0.1:0", func(string) bool { return true }),
		"takes no key":  impostor(t, "127.0.0.1:0", func(string) bool { return false }),
		"another child": other.child.port,
	}
	for name, port := range ports {
		if err := prove(soon(t), port, l.Key()); !errors.Is(err, errNotProven) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := prove(soon(t), l.child.port, l.Key()); err != nil {
		t.Errorf("the child itself: %v", err)
	}
}

// Another process takes the port before SQ can. One that accepts the first key
// that it is sent passes the probe: only the announcement tells it from the child.
func TestLostRaceForThePort(t *testing.T) {
	for name, accepts := range map[string]func(string) bool{
		"accepts no key":        func(string) bool { return false },
		"accepts the first key": firstKey(),
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newSupervisor(t, nil), dataDir(t)
			c := &child{dir: dir, place: s.placeLocked(dir)}
			c.ctx, c.leave = context.WithCancel(context.Background())
			defer c.leave()
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			lock, err := s.lockDir(c.ctx, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if err := s.spawn(c, impostor(t, "0.0.0.0:0", accepts), lock); err != nil {
				t.Fatal(err)
			}
			if err := s.awaitProof(c); err == nil {
				t.Error("proven on another process's port")
			}
			if !s.clean(c) {
				t.Errorf("not recognised as a taken port: %q", c.out.tail.last(5))
			}
			s.despawned(c, 0)
		})
	}
	if port := impostor(t, "127.0.0.1:0", firstKey()); prove(soon(t), port, newKey()) != nil {
		t.Error("the impostor does not pass the probe: the test above shows nothing")
	}
}

// SQ that does not announce itself is served all the same.
func TestNoAnnouncement(t *testing.T) {
	s := newSupervisor(t, func(c *Config) {
		c.Command, c.announceGrace = self("unannounced"), 50*time.Millisecond
	})
	l := mustLease(t, s, dataDir(t))
	defer l.Release()
	if l.Version() != "" {
		t.Errorf("version %q", l.Version())
	}
}

func TestOutputIsKeptAndLogged(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	l := mustLease(t, s, dir)
	defer l.Release()
	said := strings.Join(s.Lines(dir), "\n")
	if !strings.Contains(said, "listening on port") || strings.Contains(said, l.Key()) {
		t.Errorf("lines: %q", said)
	}
	file, err := os.ReadFile(s.logs.name(dir))
	if err != nil || !strings.Contains(string(file), "listening on port") {
		t.Errorf("log %s: %q, %v", filepath.Base(s.logs.name(dir)), file, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	place := &lines{most: ringLines, bytes: ringBytes}
	o := newOutput("SECRET", place, func(string) {})
	for range 1000 {
		fmt.Fprintf(o, "%s SECRET\nshort\n", strings.Repeat("x", 3*lineBytes))
	}
	size := 0
	for _, line := range place.last(ringLines) {
		size += len(line)
		if len(line) > lineBytes || strings.Contains(line, "SECRET") {
			t.Fatalf("line of %d bytes", len(line))
		}
	}
	if size > ringBytes || size < ringBytes/2 {
		t.Errorf("%d bytes kept", size)
	}
}
