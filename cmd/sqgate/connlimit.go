package main

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// mostConnections is the most of one limiter: more would take gigabytes of memory.
const mostConnections = 16 << 10

// Parts of the descriptors. A quarter stays for files, and for connections to SQ and to
// other hosts.
const (
	clientPart     = 3. / 4  // of clients, if this host is alone
	clientPartMany = 1. / 2  // of clients, if it is not
	hostPart       = 3. / 16 // of other hosts, so that neither they nor clients keep the others out
	watchdogPart   = 1. / 64 // of the watchdog's check, which clients must not keep out
	strangerPart   = 1. / 16 // of those of whom it is not known yet whether they are hosts
)

// Parts of a limiter's connections that one address may have.
const (
	ofEachClient   = 1. / 8
	ofEachStranger = 1. / 2 // a host that starts comes with many
	ofEachHost     = 0      // no limit: behind the address of a host are its clients
)

// connLimiter refuses connections before they take the descriptors that the
// gateway itself needs. Loopback addresses have no limit of their own: behind one
// of them may be a proxy with all clients.
type connLimiter struct {
	all, each int // each = 0: an address has no limit
	now       func() time.Time
	log       *slog.Logger

	mu        sync.Mutex
	open      int
	byAddress map[netip.Addr]*addressUse
	warned    time.Time

	headers *memlimit.Budget
}

// addressUse is what one client address has: connections, and memory of large headers
// on them. Those of loopback are in it too, but have no limit.
type addressUse struct {
	open    int
	headers *memlimit.Budget
}

// Memory for large headers, and for requests whose rest is waited for, in all and
// for one address.
const (
	headerMemory       = 64 << 20
	headerMemoryOfEach = 16 << 20
)

// newConnLimiter makes a limiter for a part of the descriptors, of which one address may
// have a part.
func newConnLimiter(part, ofEach float64, log *slog.Logger) (*connLimiter, error) {
	var files unix.Rlimit // Go has raised the soft limit to the hard one
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	all := min(part*float64(files.Cur), mostConnections)
	return &connLimiter{all: int(all), each: int(ofEach * all), now: time.Now, log: log, byAddress: map[netip.Addr]*addressUse{}, headers: memlimit.NewBudget(headerMemory)}, nil
}

// take counts a connection in, and returns what counts it out again; nil refuses
// the connection.
func (l *connLimiter) take(remote net.Addr) (release func()) {
	address := l.limitedAddress(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if use := l.byAddress[address]; l.open >= l.all || address.IsValid() && use != nil && use.open >= l.each {
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
	use := l.byAddress[address]
	if use == nil {
		use = &addressUse{headers: memlimit.NewBudget(headerMemoryOfEach)}
		l.byAddress[address] = use
	}
	l.open += by
	if use.open += by; use.open == 0 {
		delete(l.byAddress, address)
	}
}

// headerMemory returns the budgets of large headers on a connection that is counted.
func (l *connLimiter) headerMemory(remote net.Addr) []*memlimit.Budget {
	l.mu.Lock()
	defer l.mu.Unlock()
	budgets := []*memlimit.Budget{l.headers}
	if address := l.limitedAddress(remote); address.IsValid() {
		budgets = append(budgets, l.byAddress[address].headers)
	}
	return budgets
}

// limitedAddress is the client address that has limits of its own; it is invalid if
// there is none.
func (l *connLimiter) limitedAddress(remote net.Addr) (address netip.Addr) {
	if tcp, ok := remote.(*net.TCPAddr); ok && l.each > 0 && !tcp.IP.IsLoopback() {
		address = keylimit.Network(tcp.AddrPort().Addr())
	}
	return address
}

// warnLocked says once a minute that connections are refused.
func (l *connLimiter) warnLocked(remote net.Addr) {
	if now := l.now(); now.Sub(l.warned) >= time.Minute {
		l.warned = now
		l.log.Warn("connections are refused: too many are open", "remote", remote, "open", l.open, "limit", l.all, "limit_per_address", l.each)
	}
}
