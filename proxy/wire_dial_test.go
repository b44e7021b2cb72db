package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
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
		conn, err := dial(t.Context(), addr, nil)
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
	_, err := dial(ctx, addr, nil)
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" || !errors.Is(err, context.DeadlineExceeded) || !isTimeout(err) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := dial(ctx, addr, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
