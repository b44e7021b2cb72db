package cluster

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/host"
)

// Listener is l for hosts of the bucket alone. admit counts a connection until it is known
// whose it is, and nil refuses it: so strangers take nothing of what hosts may have.
func (f *Forwarder) Listener(l net.Listener, admit func(remote net.Addr) (decided func())) net.Listener {
	ctx, cancel := context.WithCancel(context.Background())
	in := &listener{Listener: l, admit: admit, config: f.Identity.config(f.admits), open: ctx, close: cancel, conns: make(chan net.Conn), failed: make(chan error)}
	go in.run()
	return in
}

type listener struct {
	net.Listener
	admit  func(remote net.Addr) (decided func())
	config *tls.Config
	open   context.Context
	close  context.CancelFunc
	conns  chan net.Conn // of hosts
	failed chan error    // from the Listener's Accept
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.open.Done():
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.close()
	return l.Listener.Close()
}

// run accepts connections until the listener is closed. A failure is Accept's caller's to
// wait after.
func (l *listener) run() {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			l.receive(c)
			continue
		}
		select {
		case l.failed <- err:
		case <-l.open.Done():
			return
		}
	}
}

// receive passes a connection on if it turns out to be a host's.
func (l *listener) receive(c net.Conn) {
	decided := l.admit(c.RemoteAddr())
	if decided == nil {
		_ = c.Close() // nothing was read from it
		return
	}
	go func() {
		secure := tls.Server(c, l.config)
		err := l.handshake(secure)
		decided()
		if err == nil {
			select {
			case l.conns <- secure:
				return
			case <-l.open.Done():
			}
		}
		_ = c.Close() // nobody is told anything
	}()
}

func (l *listener) handshake(c *tls.Conn) error {
	ctx, cancel := context.WithTimeout(l.open, dialTimeout)
	defer cancel()
	return c.HandshakeContext(ctx)
}

// admits says whether a host may come in. If it is not known, it may have just started.
func (f *Forwarder) admits(fingerprint string) bool {
	if f.knows(fingerprint) {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	if err := f.Hosts.Refresh(ctx); err != nil {
		f.Logger.Warn("the hosts in the bucket could not be looked at", logkey.Error, err)
	}
	return f.knows(fingerprint)
}

func (f *Forwarder) knows(fingerprint string) bool {
	return slices.ContainsFunc(f.Hosts.Peers(), func(p host.Peer) bool { return p.Fingerprint == fingerprint })
}
