package main

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestConnectionsAreLimited in all and for each address, with one line a minute
// in the log.
func TestConnectionsAreLimited(t *testing.T) {
	var log strings.Builder
	now := time.Unix(1_700_000_000, 0)
	l := &connLimiter{all: 8, each: 2, now: func() time.Time { return now }, log: slog.New(slog.NewTextHandler(&log, nil)), byAddress: map[netip.Addr]*addressUse{}}
	from := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	var releases []func()
	for i, step := range []struct {
		remote  net.Addr
		refused bool
	}{
		{from("192.0.2.1"), false},
		{from("192.0.2.1"), false},
		{from("192.0.2.1"), true},
		{from("2001:db8::1"), false},
		{from("2001:db8::2"), false},
		{from("2001:db8::3"), true}, // of the same /64
		{from("::1"), false},        // perhaps a proxy
		{from("::1"), false},
		{from("::1"), false},
		{&net.UnixAddr{}, false},
		{from("192.0.2.2"), true}, // in all
		{from("127.0.0.1"), true},
	} {
		release := l.take(step.remote)
		if (release == nil) != step.refused {
			t.Errorf("connection %d, from %v: refused: %v", i, step.remote, release == nil)
		}
		if release != nil {
			releases = append(releases, release)
		}
	}
	if n := strings.Count(log.String(), "connections are refused"); n != 1 {
		t.Errorf("%d lines in one minute:\n%s", n, &log)
	}
	for _, release := range releases {
		release()
	}
	if l.open != 0 || len(l.byAddress) != 0 || l.take(from("192.0.2.1")) == nil {
		t.Errorf("left: %d, %v", l.open, l.byAddress)
	}
	now = now.Add(time.Minute)
	for range 3 {
		l.take(from("192.0.2.1"))
	}
	if n := strings.Count(log.String(), "connections are refused"); n != 2 {
		t.Errorf("%d lines in two minutes:\n%s", n, &log)
	}
}

// TestBehindAHostAreItsClients, so its address has no limit, neither of connections nor of
// headers.
func TestBehindAHostAreItsClients(t *testing.T) {
	l, err := newConnLimiter(hostPart, ofEachHost, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	for i := range l.all {
		if l.take(remote) == nil {
			t.Fatalf("after %d of %d connections, the host was refused", i, l.all)
		}
	}
	if l.take(remote) != nil {
		t.Error("there is no limit")
	}
	if n := len(l.headerMemory(remote)); n != 1 {
		t.Errorf("%d budgets of headers", n)
	}
}

func TestConnectionsLeaveDescriptors(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	most := func(part, ofEach float64) int {
		l, err := newConnLimiter(part, ofEach, slog.Default())
		if err != nil || l.all < 1 || l.all > mostConnections || l.each > l.all || (l.each == 0) != (ofEach == 0) {
			t.Errorf("%v: %+v, %v", part, l, err)
		}
		return l.all
	}
	alone := most(clientPart, ofEachClient)
	many := most(clientPartMany, ofEachClient) + most(hostPart, ofEachHost) + most(strangerPart, ofEachStranger)
	if left := int(files.Cur / 4); alone > int(files.Cur)-left || many > int(files.Cur)-left {
		t.Errorf("%d alone, %d with other hosts, of %d descriptors", alone, many, files.Cur)
	}
}
