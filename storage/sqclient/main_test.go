package sqclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend serves each connection with serve, and closes it after that. It
// returns its address. Everything has ended when the test has.
func backend(t testing.TB, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String()
}

// answering reads a request and answers text, whatever was asked.
func answering(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(c, text)
		}
	}
}

// empty is the shortest answer that SQ gives.
const empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// recorded reads one request, and returns its bytes.
func recorded(t *testing.T, c *net.TCPConn) string {
	var all strings.Builder
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, &all)))
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	if err != nil {
		t.Error(err)
	}
	return all.String()
}

// silent takes the beginning of a request, answers text, and says nothing more
// until the other side goes. began says that text was sent, ended why the
// reading ended.
func silent(t *testing.T, text string) (addr string, began chan struct{}, ended chan error) {
	began, ended = make(chan struct{}, 1), make(chan error, 1)
	addr = backend(t, func(c *net.TCPConn) {
		if _, err := c.Read(make([]byte, 64<<10)); err != nil {
			return
		}
		_, _ = io.WriteString(c, text)
		began <- struct{}{}
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	return addr, began, ended
}

// refusing is an address at which nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const childKey = "k"

// leases lends children at these addresses one after the other, and the last
// of them for ever.
type leases struct {
	addrs []string
	lent  []*fakeLease
	err   error
}

func (l *leases) lease(ctx context.Context, dir string) (Lease, error) {
	if l.err != nil {
		return nil, l.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	next := &fakeLease{addr: l.addrs[min(len(l.lent), len(l.addrs)-1)], dir: dir, generation: uint64(len(l.lent) + 1)}
	l.lent = append(l.lent, next)
	return next, nil
}

// ends is how each lease ended, in their order.
func (l *leases) ends() string {
	var all []string
	for _, one := range l.lent {
		all = append(all, one.end)
	}
	return strings.Join(all, ", ")
}

// fakeLease notes how it ended.
type fakeLease struct {
	addr, dir  string
	generation uint64
	end        string // "" = it has not
}

func (l *fakeLease) Addr() string         { return l.addr }
func (l *fakeLease) Key() string          { return childKey }
func (l *fakeLease) Generation() uint64   { return l.generation }
func (l *fakeLease) Release()             { l.end += "released" }
func (l *fakeLease) Retire(reason string) { l.end += "retired: " + reason }

// How a lease ends.
const (
	released  = "released"
	unreached = "retired: it accepts no connections"
	failed    = "retired: an exchange with it failed"
)

const memory = 1 << 20 // bytes, for the answers of a client

func client(addrs ...string) (*Client, *leases) {
	l := &leases{addrs: addrs}
	answers := memlimit.NewBudget(memory)
	return New(l.lease, func(string) *memlimit.Reservation { return memlimit.Reserve(answers) }), l
}

// childAt leases the child at an address.
func childAt(t testing.TB, addr string) *Child {
	t.Helper()
	c, _ := client(addr)
	child, err := c.Lease(t.Context(), "/data")
	if err != nil {
		t.Fatal(err)
	}
	return child
}

// do is Child.Do, with memory that is given back at once.
func do(ctx context.Context, child *Child, out rewrite.Outgoing) (string, error) {
	held := child.client.Hold("/data")
	defer held.Release()
	body, err := child.Do(ctx, out, held)
	return string(body), err
}

func get() rewrite.Outgoing {
	return rewrite.Outgoing{Method: "GET", Path: "/api/v2/select", Query: "p=a%20b"}
}

func post(body []byte) rewrite.Outgoing {
	return rewrite.Outgoing{Method: "POST", Path: "/api/v2/update", Query: "p=a%20b", Body: body}
}

// wantAllFree checks that no memory of a client is reserved any more.
func wantAllFree(t *testing.T, c *Client) {
	t.Helper()
	held := c.Hold("/data")
	defer held.Release()
	if !held.Grow(memory) {
		t.Error("memory is still reserved")
	}
}

func isStatus(err error, status int) bool {
	var s StatusError
	return errors.As(err, &s) && int(s) == status
}
