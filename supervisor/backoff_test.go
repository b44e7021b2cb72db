package supervisor

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	now := time.Unix(1e9, 0)
	var b backoff
	b.failed(now, "one")
	if wait := b.notBefore.Sub(now); wait <= 0 || wait > firstDelay {
		t.Errorf("first delay %s", wait)
	}
	for range 20 {
		b.failed(now, "more")
	}
	if wait := b.notBefore.Sub(now); wait > longestDelay || wait < longestDelay/2 {
		t.Errorf("longest delay %s", wait)
	}
	if b.check("d", now) == nil || b.check("d", b.notBefore) != nil {
		t.Error("a crash loop refuses until its time is up, then allows a trial")
	}
	b.failed(now.Add(2*forgetAfter), "much later")
	if b.failures != 1 {
		t.Errorf("%d failures", b.failures)
	}
}

func TestRetiringAgainAndAgainIsAFailure(t *testing.T) {
	var b backoff
	for range toleratedRetired {
		b.retired(time.Now(), false)
	}
	if b.failures != 0 {
		t.Error("counted too early")
	}
	b.retired(time.Now(), false)
	if b.failures != 1 {
		t.Error("never counted")
	}
}

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
