package cluster

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// guests counts connections of which it is not known whose they are.
type guests struct {
	sync.Mutex
	now, most int
	left      chan bool
}

func (g *guests) admit(net.Addr) (decided func()) {
	g.Lock()
	defer g.Unlock()
	if g.now == g.most {
		return nil
	}
	g.now++
	return func() {
		g.Lock()
		defer g.Unlock()
		g.now--
		g.left <- true
	}
}

// TestStrangersAreCountedUntilTheyAreKnown has one who says nothing: hosts are let in
// meanwhile, and take nothing of what strangers may have.
func TestStrangersAreCountedUntilTheyAreKnown(t *testing.T) {
	b := &bucket{}
	a := b.join(t, "a", nil)
	raw, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &guests{most: 2, left: make(chan bool, 4)}
	l := a.Listener(raw, g.admit)
	dial := func() net.Conn {
		c, err := net.Dial("tcp4", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	ended := func(c net.Conn) {
		t.Helper()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("it was not closed: %v", err)
		}
	}
	silent := dial()
	for range 3 { // more than there are strangers
		host := tls.Client(dial(), a.Identity.config(func(string) bool { return true }))
		go func() { _ = host.Handshake() }() // or Accept returns nothing
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		<-g.left
		t.Cleanup(func() { _ = c.Close() })
	}
	also := dial()
	ended(dial()) // of two strangers
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	ended(silent)
	ended(also)
	if _, err := l.Accept(); err != net.ErrClosed {
		t.Errorf("%v", err)
	}
	<-g.left
	<-g.left
	if g.now != 0 {
		t.Errorf("%d are counted", g.now)
	}
}
