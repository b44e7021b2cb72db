package sqclient

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

	"mirrorborn.us/sqgate/internal/apierror"
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

// noticing is a context that tells when somebody waits for it.
type noticing struct {
	context.Context
	once    sync.Once
	noticed chan struct{}
}

func newNoticing(ctx context.Context) *noticing {
	return &noticing{Context: ctx, noticed: make(chan struct{})}
}

func (n *noticing) Done() <-chan struct{} {
	n.once.Do(func() { close(n.noticed) })
	return n.Context.Done()
}

// TestDialWaitsForRoom takes a second, since that is when the kernel tries again.
func TestDialWaitsForRoom(t *testing.T) {
	t.Parallel()
	fd, addr := fullBackend(t)
	ctx, dialled := newNoticing(t.Context()), make(chan error, 1)
	go func() {
		conn, err := dial(ctx, addr)
		if err == nil {
			_, err = io.WriteString(conn, "hello")
			err = errors.Join(err, conn.Close())
		}
		dialled <- err
	}()
	select {
	case err := <-dialled:
		t.Fatalf("it did not wait: %v", err)
	case <-ctx.noticed:
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
	t.Parallel()
	_, addr := fullBackend(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := dial(ctx, addr)
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" || !apierror.IsTimeout(err) {
		t.Errorf("%v", err)
	}
	parent, cancel := context.WithCancel(t.Context())
	waiting := newNoticing(parent)
	go func() { <-waiting.noticed; cancel() }()
	if _, err := dial(waiting, addr); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestAContextThatEndsIsNotTheChildsFault: the next child would not help.
func TestAContextThatEndsIsNotTheChildsFault(t *testing.T) {
	t.Parallel()
	_, full := fullBackend(t)
	child := childAt(t, full)
	parent, cancel := context.WithCancel(t.Context())
	waiting := newNoticing(parent)
	go func() { <-waiting.noticed; cancel() }()
	for _, ctx := range []context.Context{waiting, parent} { // the second has ended before
		if _, err := child.Dial(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreached) {
			t.Errorf("%v", err)
		}
	}
}

func TestNobodyIsThere(t *testing.T) {
	for _, addr := range []string{refusing(t), "localhost:1", "nowhere", "", "127.0.0.1:0", "[::1]:1"} {
		if _, err := childAt(t, addr).Dial(t.Context()); !errors.Is(err, ErrUnreached) {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
