package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fullBackend listens, and has room for no more connections.
func fullBackend(t *testing.T) (fd int, addr string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr = "127.0.0.1:" + strconv.Itoa(name.(*unix.SockaddrInet4).Port)
	conn, err := net.Dial("tcp", addr) // a backlog of 0 takes one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return fd, addr
}

func TestDialWaitsForRoom(t *testing.T) {
	fd, addr := fullBackend(t)
	dialled := make(chan error)
	go func() {
		conn, err := dial(t.Context(), addr, way{})
		if err == nil {
			_, err = io.WriteString(conn, "hello")
			err = errors.Join(err, conn.Close())
		}
		dialled <- err
	}()
	select {
	case err := <-dialled:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(100 * time.Millisecond): // of a dial that waits there is nothing to be seen
	}
	taken, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(taken)
	if err := <-dialled; err != nil {
		t.Error(err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	_, addr := fullBackend(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := dial(ctx, addr, way{})
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" || !errors.Is(err, context.DeadlineExceeded) || !isTimeout(err) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := dial(ctx, addr, way{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// noticing is a context that tells when somebody waits for it.
type noticing struct {
	context.Context
	once    sync.Once
	noticed chan struct{}
}

func (n *noticing) Done() <-chan struct{} {
	n.once.Do(func() { close(n.noticed) })
	return n.Context.Done()
}

// TestATurnIsHeldWhileNobodyWaits: whoever has to wait for SQ must keep no other
// read from it, and nobody must keep the turn.
func TestATurnIsHeldWhileNobodyWaits(t *testing.T) {
	var turn sync.Mutex
	w := newWire(time.Minute)
	_, full := fullBackend(t)
	parent, cancel := context.WithCancel(t.Context())
	ctx := &noticing{Context: parent, noticed: make(chan struct{})}
	sent := make(chan error, 1)
	request := wireRequest(t.Context(), full, nil)
	go func() {
		_, err := w.send(ctx, request, way{turn: &turn})
		sent <- err
	}()
	<-ctx.noticed
	if !turn.TryLock() {
		t.Fatal("somebody waits and has the turn")
	}
	turn.Unlock()
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("of a backend without room: %v", err)
	}
	for addr, sends := range map[string]bool{"127.0.0.1:1": false, "nowhere": false, benchSQ(t): true} {
		s, err := w.send(t.Context(), wireRequest(t.Context(), addr, nil), way{turn: &turn})
		if (err == nil) != sends {
			t.Errorf("%s: %v", addr, err)
		}
		if err == nil {
			s.end()
		}
		if !turn.TryLock() {
			t.Fatalf("%s: the turn was kept", addr)
		}
		turn.Unlock()
	}
}
