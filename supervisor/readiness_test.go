package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// impostor answers on a port as SQ would. accepts decides which keys it takes.
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

func TestImpostorsFailTheProbe(t *testing.T) {
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
		if err := probe(soon(t), port, l.Key()); !errors.Is(err, errNotTheChild) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := probe(soon(t), l.child.port, l.Key()); err != nil {
		t.Errorf("the child itself: %v", err)
	}
}

// Another process takes the port before SQ can. One that accepts the first key it
// is sent passes the probe. Only the announcement tells it from the child.
func TestLostRaceForThePort(t *testing.T) {
	for name, accepts := range map[string]func(string) bool{
		"accepts no key":        func(string) bool { return false },
		"accepts the first key": firstKey(),
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newSupervisor(t, nil), dataDir(t)
			c := &child{dir: dir, slot: s.slotLocked(dir)}
			c.ctx, c.cancel = context.WithCancel(context.Background())
			defer c.cancel()
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
			if err := s.awaitReady(c); err == nil {
				t.Error("ready on another process's port")
			}
			if !s.cleanUp(c) {
				t.Errorf("not recognised as a taken port: %q", c.out.tail.last(5))
			}
			s.forgetProcess(c, 0)
		})
	}
	if port := impostor(t, "127.0.0.1:0", firstKey()); probe(soon(t), port, newKey()) != nil {
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

func TestStartDeadline(t *testing.T) {
	s := newSupervisor(t, func(c *Config) {
		c.Command, c.StartTimeout = self("silent"), 100*time.Millisecond
	})
	if _, err := s.Lease(soon(t), dataDir(t)); !errors.Is(err, errStartTime) {
		t.Errorf("Lease: %v", err)
	}
}
