package sqclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// stream is a connection to SQ. Closing it resets the connection: SQ must see
// an error after an exchange that was cut, or it would take the end of the stream
// for the end of the body and store what has come. After a complete exchange,
// neither side is left in TIME_WAIT.
type stream interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
}

// dialTimeout is the longest wait for a connection. On this host there is one
// at once, unless SQ has all its 512 connections.
const dialTimeout = 5 * time.Second

// dial connects to a child on this host. Such a connection is there when
// connect(2) has returned, so nothing waits for it, and nobody asks for the
// addresses of both ends: net.Dialer does, which costs a forwarded read a tenth.
// A child that does not accept at once is left to net.Dialer.
func dial(ctx context.Context, address string) (stream, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	if !to.Addr().Is4() {
		return dialSlowly(ctx, address)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	sockaddr := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	if err = unix.Connect(fd, sockaddr); err == unix.EINPROGRESS {
		err = unix.Connect(fd, sockaddr) // says whether it is there by now
	}
	if err == nil || err == unix.EISCONN {
		err = errors.Join(
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		)
		if err == nil {
			return os.NewFile(uintptr(fd), "SQ"), nil // not blocking, so it has deadlines
		}
	}
	_ = unix.Close(fd) // nothing was sent on it
	if err == unix.EALREADY || err == unix.EINTR {
		return dialSlowly(ctx, address)
	}
	return nil, fmt.Errorf("connecting to %s: %w", address, err)
}

func dialSlowly(ctx context.Context, address string) (stream, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), conn.(*net.TCPConn).SetLinger(0)
}
