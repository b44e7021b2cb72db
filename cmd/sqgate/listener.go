package main

import (
	"fmt"
	"net"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
)

// inheritedListener is a socket that systemd opened and keeps open. After sqgate
// has closed its own copy, new connections wait in the socket for the next sqgate.
type inheritedListener struct {
	net.Listener
	close func() error
}

func (l *inheritedListener) Close() error { return l.close() }

func inherit(l net.Listener) *inheritedListener {
	return &inheritedListener{Listener: l, close: sync.OnceValue(l.Close)}
}

// openListener takes the socket that systemd or enterOwnNetwork hands over. Without
// one it listens on addr.
func openListener(addr string) (net.Listener, error) {
	if l, err := passedOn(); l != nil || err != nil {
		return l, err
	}
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("the socket handed over by systemd: %w", err)
	}
	switch len(passed) {
	case 0:
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("--listen: %w", err)
		}
		return l, nil
	case 1:
		if passed[0] == nil {
			return nil, usageError{fmt.Errorf("what systemd handed over is no listening stream socket: use ListenStream= in sq.socket")}
		}
		return inherit(passed[0]), nil
	}
	for _, l := range passed {
		if l != nil {
			_ = l.Close() // nothing was accepted from it
		}
	}
	return nil, usageError{fmt.Errorf("systemd handed over %d sockets and one is wanted: empty ListenStream= before setting it in a drop-in of sq.socket", len(passed))}
}
