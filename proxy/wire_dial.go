package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// dialPatience is the longest wait for a connection. On this host one is made
// at once, unless the backend's queue is full.
const dialPatience = 5 * time.Second

// dial connects to host, an IP address and a port. It is net.Dialer without
// what an exchange on this host pays for and has no use for: looking up both
// ends' addresses, options, and a turn of the scheduler for a handshake that is
// over when connect returns. An error is a *net.OpError with Op "dial".
//
// Closing the connection resets it: see exchange.end.
func dial(ctx context.Context, host string) (*os.File, error) {
	addr, err := netip.ParseAddrPort(host)
	if err != nil {
		return nil, dialError(err)
	}
	to, family := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, dialError(os.NewSyscallError("socket", err))
	}
	conn := os.NewFile(uintptr(fd), "SQ") // not blocking, so that its reads and writes have deadlines
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err == nil {
		err = connect(ctx, conn, fd, to)
	}
	if err != nil {
		_ = conn.Close() // nothing was sent on it
		return nil, dialError(err)
	}
	return conn, nil
}

func dialError(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }

func sockaddr(addr netip.AddrPort) (to unix.Sockaddr, family int) {
	if ip := addr.Addr().Unmap(); ip.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}, unix.AF_INET6
}

// connect begins a connection and asks at once whether it is there.
func connect(ctx context.Context, conn *os.File, fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if underway(err) {
		err = unix.Connect(fd, to)
	}
	if underway(err) {
		return awaitConnection(ctx, conn, to)
	}
	return os.NewSyscallError("connect", err)
}

func underway(err error) bool {
	return err == unix.EINPROGRESS || err == unix.EALREADY || err == unix.EINTR
}

// awaitConnection waits for a backend whose queue is full.
func awaitConnection(ctx context.Context, conn *os.File, to unix.Sockaddr) error {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) }) // fails only if it is closed already
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var state error
	err = raw.Write(func(fd uintptr) bool { state = unix.Connect(int(fd), to); return !underway(state) })
	switch {
	case !stop():
		return ctx.Err()
	case err != nil:
		return err
	case errors.Is(state, unix.EISCONN):
		return nil
	}
	return os.NewSyscallError("connect", state)
}

// noDelay has the end of a request go out although its beginning is not
// acknowledged yet. It costs a request that is one packet more than it gives.
func noDelay(conn *os.File) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // it is closed, which the next write tells
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // without it the request takes longer, no more
	})
}
