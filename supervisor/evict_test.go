package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestEvictionOfTheLeastRecentlyUsed(t *testing.T) {
	s := newSupervisor(t, func(c *Config) { c.MaxChildren = 2 })
	a, b, c := dataDir(t), dataDir(t), dataDir(t)
	mustLease(t, s, a).Release()
	mustLease(t, s, b).Release()
	mustLease(t, s, a).Release()
	mustLease(t, s, c).Release()
	if len(servers(a)) != 1 || len(servers(b)) != 0 || len(servers(c)) != 1 {
		t.Errorf("alive: a %v, b %v, c %v", servers(a), servers(b), servers(c))
	}
}

func TestAllBusyWaitsForRoom(t *testing.T) {
	s := newSupervisor(t, func(c *Config) { c.MaxChildren = 1 })
	a, b := dataDir(t), dataDir(t)
	held := mustLease(t, s, a)
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lease(short, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Lease without room: %v", err)
	}
	got := make(chan error)
	go func() {
		l, err := s.Lease(soon(t), b)
		if err == nil {
			l.Release()
		}
		got <- err
	}()
	eventually(t, "a waiter", func() bool { return childOf(s, b).State == StateStarting })
	held.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// With more directories than MaxChildren, every lease is given in the end.
func TestContentionForRoom(t *testing.T) {
	s := newSupervisor(t, func(c *Config) { c.MaxChildren = 2 })
	var all sync.WaitGroup
	for range 6 {
		dir := dataDir(t)
		all.Go(func() {
			for range 4 {
				l, err := s.Lease(soon(t), dir)
				if err != nil {
					t.Error(err)
					return
				}
				if n := len(s.Children()); n == 0 {
					t.Error("leased, but no child")
				}
				l.Release()
			}
		})
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live > 2 || s.queued != 0 {
		t.Errorf("live %d, queued %d", s.live, s.queued)
	}
}

func TestPortsInUseAreSkipped(t *testing.T) {
	low := freeRange(t)
	busy, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", low))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	s := newSupervisor(t, func(c *Config) { c.PortLow, c.PortHigh = low, low+2 })
	name := filepath.Join(s.config.WorkDir, fmt.Sprint(low+1)) // SQ would take it for a phext
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := mustLease(t, s, dataDir(t))
	defer l.Release()
	if want := loopback(low + 2); l.Addr() != want {
		t.Errorf("%s, want %s", l.Addr(), want)
	}
	var failed *StartError
	if _, err := s.Lease(soon(t), dataDir(t)); !errors.As(err, &failed) || !errors.Is(err, errNoPort) {
		t.Errorf("no port left: %v", err)
	}
}

// freeRange returns the first of three ports in a row that are free.
func freeRange(t *testing.T) int {
	p := ports{low: 15000, high: 19990, inUse: map[int]bool{}, workDir: t.TempDir()}
	for {
		port, err := p.reserve()
		if err != nil {
			t.Fatal(err)
		}
		if p.available(port+1) && p.available(port+2) {
			return port
		}
	}
}
