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
	"testing"
	"time"
)

func TestCrashLoop(t *testing.T) {
	s, dir := newSupervisor(t, func(c *Config) { c.Command = self("fails") }), dataDir(t)
	var failed *StartError
	for range loopFailures {
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
	eventually(t, "the trial", func() bool {
		_, err := s.Lease(soon(t), dir)
		return errors.As(err, &failed) && !errors.As(err, &loop)
	})
	if err := s.Stop(soon(t), dir, "reconfigured"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lease(soon(t), dir); !errors.As(err, &failed) {
		t.Errorf("Stop did not clear the history: %v", err)
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

// What listens on a port must be the child itself.
func TestImpostorsAreNotProven(t *testing.T) {
	s := newSupervisor(t, nil)
	l, other := mustLease(t, s, dataDir(t)), mustLease(t, s, dataDir(t))
	defer l.Release()
	defer other.Release()
	port, pid := l.child.port, l.child.proc.pid
	yes := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "Forbidden: invalid phext path")
	}
	impostor := &http.Server{Handler: http.HandlerFunc(yes)}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = impostor.Serve(listener) }()
	defer impostor.Close()
	cases := map[string]*child{
		"another server":       {port: listener.Addr().(*net.TCPAddr).Port, key: l.Key(), proc: process{pid: pid}},
		"another child":        {port: other.child.port, key: l.Key(), proc: process{pid: pid}},
		"another child's port": {port: other.child.port, key: other.Key(), proc: process{pid: pid}},
	}
	for name, c := range cases {
		if err := s.prove(soon(t), c); !errors.Is(err, errNotProven) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.prove(soon(t), &child{port: port, key: l.Key(), proc: process{pid: pid}}); err != nil {
		t.Errorf("the child itself: %v", err)
	}
}

func TestLostRaceForThePort(t *testing.T) {
	s, dir := newSupervisor(t, nil), dataDir(t)
	busy, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
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
	if err := s.spawn(c, busy.Addr().(*net.TCPAddr).Port, lock); err != nil {
		t.Fatal(err)
	}
	if err := s.awaitProof(c); err == nil {
		t.Error("proven on a port of somebody else's")
	}
	if !s.clean(c) {
		t.Errorf("not recognised as a taken port: %q", c.out.tail.last(5))
	}
	s.despawned(c, 0)
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
