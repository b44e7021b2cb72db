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
// Closing the connection resets it: see exchange.end. how is that of the request.
func dial(ctx context.Context, host string, how way) (*socket, error) {
	addr, err := netip.ParseAddrPort(host)
	if err != nil {
		return nil, dialError(err)
	}
	to, family := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, dialError(os.NewSyscallError("socket", err))
	}
	s := &socket{ctx: ctx, busy: how.busy, fd: fd}
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err == nil {
		s.beginTurn(how.turn)
		err = s.connect(to)
	}
	if err != nil {
		s.endTurn()
		_ = s.Close() // nothing was sent on it
		return nil, dialError(err)
	}
	return s, nil
}

func dialError(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }

func sockaddr(addr netip.AddrPort) (to unix.Sockaddr, family int) {
	if ip := addr.Addr().Unmap(); ip.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}, unix.AF_INET6
}

// connect begins a connection and asks at once whether it is there.
func (s *socket) connect(to unix.Sockaddr) error {
	err := unix.Connect(s.fd, to)
	if underway(err) {
		err = unix.Connect(s.fd, to)
	}
	if underway(err) {
		return s.awaitConnection(to)
	}
	return os.NewSyscallError("connect", err)
}

func underway(err error) bool {
	return err == unix.EINPROGRESS || err == unix.EALREADY || err == unix.EINTR
}

// awaitConnection waits for a backend whose queue is full.
func (s *socket) awaitConnection(to unix.Sockaddr) error {
	f, err := s.watched()
	if err != nil {
		return err
	}
	_ = f.SetWriteDeadline(time.Now().Add(dialPatience)) // it has just been made
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var state error
	err = raw.Write(func(fd uintptr) bool { state = unix.Connect(int(fd), to); return !underway(state) })
	switch {
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case err != nil:
		return err
	case state == nil, errors.Is(state, unix.EISCONN):
		return errors.Join(f.SetWriteDeadline(time.Time{}), s.ctx.Err()) // in this order: ctx may have ended in between
	}
	return os.NewSyscallError("connect", state)
}
