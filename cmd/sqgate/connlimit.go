package main

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/keylimit"
)

// Limits of connections. A quarter of the descriptors stays for files and for
// connections to SQ; more than mostConnections would take gigabytes of memory.
const (
	mostConnections = 16 << 10
	addressPart     = 8 // one address may have this part of all connections
)

// connLimiter refuses connections before they take the descriptors that the
// gateway itself needs. Loopback addresses have no limit of their own: behind one
// of them may be a proxy with all clients.
type connLimiter struct {
	all, each int
	now       func() time.Time
	log       *slog.Logger

	mu        sync.Mutex
	open      int
	byAddress map[netip.Addr]int
	warned    time.Time
}

func newConnLimiter(log *slog.Logger) (*connLimiter, error) {
	var files unix.Rlimit // Go has raised the soft limit to the hard one
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	all := int(min(files.Cur-files.Cur/4, mostConnections))
	return &connLimiter{all: all, each: all / addressPart, now: time.Now, log: log, byAddress: map[netip.Addr]int{}}, nil
}

// take counts a connection in, and returns what counts it out again; nil refuses
// the connection.
func (l *connLimiter) take(remote net.Addr) (release func()) {
	var address netip.Addr // stays zero if it has no limit
	if tcp, ok := remote.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		address = keylimit.Network(tcp.AddrPort().Addr())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.all || address.IsValid() && l.byAddress[address] >= l.each {
		l.warnLocked(remote)
		return nil
	}
	l.countLocked(address, 1)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.countLocked(address, -1)
	}
}

func (l *connLimiter) countLocked(address netip.Addr, by int) {
	l.open += by
	if l.byAddress[address] += by; l.byAddress[address] == 0 {
		delete(l.byAddress, address)
	}
}

// warnLocked says once a minute that connections are refused.
func (l *connLimiter) warnLocked(remote net.Addr) {
	if now := l.now(); now.Sub(l.warned) >= time.Minute {
		l.warned = now
		l.log.Warn("connections are refused: too many are open", "remote", remote, "open", l.open, "limit", l.all, "limit_per_address", l.each)
	}
}
