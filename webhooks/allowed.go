package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// Allowed says which addresses webhooks may be sent to. It is a flag: a list of
// "public", addresses and networks, or "none". The zero Allowed is none.
type Allowed struct {
	public bool
	listed []netip.Prefix
	own    func(netip.Addr) bool // whether it is one of this machine; nil = isOwn
}

const (
	publicWord = "public"
	noneWord   = "none"
)

// Public allows all addresses of the Internet.
func Public() Allowed { return Allowed{public: true} }

// Set reads the flag.
func (a *Allowed) Set(text string) error {
	read := Allowed{own: a.own}
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		network, err := netip.ParsePrefix(word)
		if address, e := netip.ParseAddr(word); e == nil && address.Zone() == "" {
			network, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		switch {
		case word == publicWord:
			read.public = true
		case word == noneWord && text == word:
		case err != nil || network != network.Masked() || network.Addr().Is4In6():
			return fmt.Errorf(`%.80q is no network: use "public", or addresses and networks such as 10.1.0.0/16, or "none"`, word)
		default:
			read.listed = append(read.listed, network)
		}
	}
	*a = read
	return nil
}

func (a *Allowed) String() string {
	var words []string
	if a.public {
		words = append(words, publicWord)
	}
	for _, network := range a.listed {
		words = append(words, network.String())
	}
	if words == nil {
		return noneWord
	}
	return strings.Join(words, ",")
}

// Type is for help.
func (*Allowed) Type() string { return "networks" }

// None says whether there are to be no webhooks.
func (a *Allowed) None() bool { return !a.public && a.listed == nil }

// Why a webhook may not be sent to an address.
var (
	errNotPublic = errors.New("webhooks may not be sent to this address: it is none of the public Internet, and --webhook-allow does not name it")
	errNotListed = errors.New("webhooks may not be sent to this address: --webhook-allow does not name it")
	errOwn       = errors.New("webhooks may not be sent to this address: it is one of this machine, and --webhook-allow does not name it")
	errPlain     = errors.New("webhooks may not be sent to this address without TLS: use https, or have --webhook-allow name the address")
)

// Dial connects to the address HOST:PORT of a webhook, if it may be sent there. secure says
// that TLS is to follow. What is checked is the address that is connected to, so a name
// that is resolved to another address each time gets nowhere else.
func (a *Allowed) Dial(ctx context.Context, address string, secure bool) (net.Conn, error) {
	d := net.Dialer{Timeout: attemptTimeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return a.check(to.Addr(), secure)
	}}
	return d.DialContext(ctx, "tcp", address)
}

func (a *Allowed) check(to netip.Addr, secure bool) error {
	to = to.Unmap()
	for _, network := range a.listed {
		if network.Contains(to) { // never of one with a zone
			return nil
		}
	}
	switch {
	case !a.public:
		return errNotListed
	case !isPublic(to):
		return errNotPublic
	case a.own == nil && isOwn(to), a.own != nil && a.own(to):
		return errOwn
	case !secure:
		return errPlain
	}
	return nil
}

// isOwn says whether an address is one of this machine, so that webhooks do not get to
// services that listen on all addresses, and that a firewall closes to everybody else. To
// itself, a machine speaks from the same address. Nothing is sent for that, and it takes
// no list of interfaces, which the dialer's unit may not read.
func isOwn(to netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return false // it cannot be reached
	}
	defer func() { _ = c.Close() }() // it was never used
	from, ok := c.LocalAddr().(*net.UDPAddr)
	return !ok || from.AddrPort().Addr().Unmap() == to
}

// special are the networks that are not of the public Internet, though isPublic might
// take them for it: those of the IANA registries of special-purpose addresses, and a
// metadata service of a cloud. In the IPv6 ones, an IPv4 address can hide.
var special = func() (all []netip.Prefix) {
	for _, network := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"168.63.129.16/32",                                     // Azure
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", // Teredo is in the first one; 2002 is 6to4
	} {
		all = append(all, netip.MustParsePrefix(network))
	}
	return all
}()

// global has the IPv6 addresses of the Internet. Outside are the translations of IPv4
// (64:ff9b::/96, ::/96), and all that is local.
var global = netip.MustParsePrefix("2000::/3")

func isPublic(to netip.Addr) bool {
	if !to.IsGlobalUnicast() || to.IsPrivate() || to.Zone() != "" || to.Is6() && !global.Contains(to) {
		return false
	}
	for _, network := range special {
		if network.Contains(to) {
			return false
		}
	}
	return true
}
