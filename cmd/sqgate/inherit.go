package main

import (
	"fmt"
	"net"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
)

// inherited is a listener that systemd made and keeps. When sqgate has closed
// its own copy, connections wait in it for the next sqgate.
type inherited struct {
	net.Listener
	close func() error
}

func (l *inherited) Close() error { return l.close() }

// openListener takes the socket that systemd hands over, or else listens on addr.
func openListener(addr string) (net.Listener, error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("the socket handed over by systemd: %w", err)
	}
	switch len(handed) {
	case 0:
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("--listen: %w", err)
		}
		return l, nil
	case 1:
		if handed[0] == nil {
			return nil, usageError{fmt.Errorf("what systemd handed over is no listening stream socket: use ListenStream= in sq.socket")}
		}
		return &inherited{Listener: handed[0], close: sync.OnceValue(handed[0].Close)}, nil
	}
	for _, l := range handed {
		if l != nil {
			_ = l.Close() // it was never used
		}
	}
	return nil, usageError{fmt.Errorf("systemd handed over %d sockets and one is wanted: empty ListenStream= before setting it in a drop-in of sq.socket", len(handed))}
}
