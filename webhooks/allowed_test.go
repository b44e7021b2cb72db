package webhooks

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func allow(t *testing.T, text string) *Allowed {
	t.Helper()
	a := Allowed{own: func(to netip.Addr) bool {
		return to == netip.MustParseAddr("8.8.4.4") || to == netip.MustParseAddr("2600::1")
	}}
	if err := a.Set(text); err != nil {
		t.Fatal(err)
	}
	return &a
}

// TestAllowed is about each kind of address that is not the Internet, in every form in
// which it can be written.
func TestAllowed(t *testing.T) {
	for _, test := range []struct {
		flag, addresses string
		want            error
	}{
		{"public", "8.8.8.8 1.1.1.1 172.15.0.1 172.32.0.1 100.63.255.255 100.128.0.1 169.253.0.1 ::ffff:8.8.8.8 2606:4700::1111 2a00:1450::1", nil},
		{"public", "127.0.0.1 127.8.8.8 ::1 ::ffff:127.0.0.1", errNotPublic},
		{"public", "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 ::ffff:10.0.0.1 fc00::1 fd00:ec2::254", errNotPublic},
		{"public", "169.254.169.254 ::ffff:169.254.169.254 fe80::1 fe80::1%eth0 2600::1%eth0 febf::1 fec0::1", errNotPublic},
		{"public", "0.0.0.0 :: 0.1.2.3 255.255.255.255 240.0.0.1 ::ffff:0.0.0.0", errNotPublic},
		{"public", "224.0.0.1 239.1.1.1 ff02::1 ff0e::1", errNotPublic},
		{"public", "100.64.0.1 100.100.100.200 100.127.255.255 192.0.0.192 168.63.129.16 198.18.0.1 198.19.255.255", errNotPublic},
		{"public", "192.0.2.1 198.51.100.1 203.0.113.1 192.88.99.1 2001:db8::1 3fff::1", errNotPublic},
		{"public", "64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::a00:1 2002:7f00:1:: 2002:a00:1::1 2001::1 ::7f00:1 ::127.0.0.1 ::ffff:0:127.0.0.1 4000::1", errNotPublic},
		{"public", "8.8.4.4 ::ffff:8.8.4.4 2600::1", errOwn},
		{"none", "8.8.8.8 127.0.0.1 ::1", errNotListed},
		{"10.1.0.0/16", "10.1.2.3 ::ffff:10.1.2.3", nil},
		{"10.1.0.0/16", "10.2.0.1 8.8.8.8 64:ff9b::a01:203", errNotListed},
		{"public,10.1.0.0/16,8.8.4.4, fd00::/8", "10.1.2.3 8.8.8.8 8.8.4.4 fd00::1", nil},
		{"public,10.1.0.0/16", "10.2.0.1 127.0.0.1 fd00::1", errNotPublic},
		{"127.0.0.0/8", "::1 127.0.0.1%lo", errNotListed},
	} {
		a := allow(t, test.flag)
		for text := range strings.FieldsSeq(test.addresses) {
			to, err := netip.ParseAddr(text)
			if err != nil && strings.HasPrefix(text, "127.0.0.1%") {
				continue // nobody can write it
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := a.check(to, true); !errors.Is(got, test.want) {
				t.Errorf("%s: %s: %v, want %v", test.flag, text, got, test.want)
			}
		}
	}
	a := allow(t, "public,10.0.0.0/8")
	if err := a.check(netip.MustParseAddr("8.8.8.8"), false); !errors.Is(err, errPlain) {
		t.Errorf("without TLS: %v", err)
	}
	if err := a.check(netip.MustParseAddr("10.0.0.1"), false); err != nil {
		t.Errorf("without TLS, to an address that is named: %v", err)
	}
}

func TestAllowedFlag(t *testing.T) {
	for _, text := range []string{"public", "none", "10.0.0.0/8", "public,10.0.0.0/8,fd00::/8"} {
		if got := allow(t, text).String(); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
	if a := allow(t, "192.168.1.7"); a.String() != "192.168.1.7/32" || a.None() {
		t.Error(a)
	}
	if a := (Allowed{}); !a.None() || a.String() != "none" {
		t.Error(a.String())
	}
	for _, text := range []string{"", "all", "10.0.0.1/8", "10.0.0.0/33", "none,public", "::ffff:10.0.0.0/104", "fe80::1%eth0", "public,"} {
		if err := new(Allowed).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestDial checks what a name stands for, and not the name.
func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"} {
		if c, err := allow(t, "public").Dial(t.Context(), net.JoinHostPort(host, port), true); err == nil {
			t.Errorf("%s: connected to %v", host, c.RemoteAddr())
		}
	}
	c, err := allow(t, "127.0.0.0/8").Dial(t.Context(), net.JoinHostPort("localhost", port), false)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close() // nothing was sent
}

// TestOwn asks for each address of this machine, and for one that it does not have.
func TestOwn(t *testing.T) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		to, ok := netip.AddrFromSlice(one.(*net.IPNet).IP)
		if !ok || to.Unmap().IsLinkLocalUnicast() {
			continue // without a zone, it cannot be reached
		}
		if !isOwn(to.Unmap()) {
			t.Errorf("%v is not this machine's", to)
		}
	}
	if isOwn(netip.MustParseAddr("198.51.100.1")) {
		t.Error("198.51.100.1 is this machine's")
	}
}
