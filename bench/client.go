package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// side is one of the servers that do the same work.
type side struct {
	name      string
	addr      string
	key       string
	keepAlive bool // it may be asked again on a connection
	process   *process
}

// request is a request to a side, ready to be sent.
func (s side) request(method, target string, body []byte) []byte {
	text := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: sq\r\nAuthorization: Bearer %s\r\n", method, target, s.key)
	if method == "POST" {
		text = fmt.Appendf(text, "Content-Length: %d\r\n", len(body))
	}
	return append(append(text, "\r\n"...), body...)
}

// caller has one connection at most and asks one thing at a time.
type caller struct {
	side
	conn  *net.TCPConn
	in    *bufio.Reader
	until time.Time // requests still under way then are given up
}

var dialer = net.Dialer{KeepAlive: -1}

func newCaller(s side, until time.Time) *caller {
	return &caller{side: s, in: bufio.NewReaderSize(nil, 16<<10), until: until}
}

// call sends a request and reads its answer to the end.
func (c *caller) call(ctx context.Context, request []byte) (status, size int, err error) {
	if c.conn == nil {
		if err := c.dial(ctx); err != nil {
			return 0, 0, err
		}
	}
	if _, err = c.conn.Write(request); err == nil {
		var last bool
		status, size, last, err = readAnswer(c.in)
		if err == nil && c.keepAlive && !last {
			return status, size, nil
		}
	}
	c.close()
	return status, size, err
}

func (c *caller) dial(ctx context.Context) error {
	addr, err := netip.ParseAddrPort(c.addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, c.until)
	defer cancel()
	if c.conn, err = dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, addr); err != nil {
		return err
	}
	c.in.Reset(c.conn)
	return c.conn.SetDeadline(c.until)
}

// close leaves no TIME_WAIT behind, so that a run does not slow the next.
func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.SetLinger(0) // the worst is a socket in TIME_WAIT
		_ = c.conn.Close()      // all that was wanted was read
		c.conn = nil
	}
}

// readAnswer reads one answer; last says that the server closes behind it.
func readAnswer(in *bufio.Reader) (status, size int, last bool, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, 0, false, err
	}
	if len(line) < 12 {
		return 0, 0, false, fmt.Errorf("an answer begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, false, err
	}
	size = -1
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, 0, false, err
		}
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case len(name) == 0:
			if size < 0 {
				return 0, 0, false, errors.New("an answer has no Content-Length")
			}
			_, err = io.CopyN(io.Discard, in, int64(size))
			return status, size, last, err
		case bytes.EqualFold(name, []byte("Content-Length")):
			if size, err = strconv.Atoi(string(value)); err != nil {
				return 0, 0, false, err
			}
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(value, []byte("close"))
		}
	}
}

// once asks one thing on a connection of its own and says how long it took.
func (s side) once(ctx context.Context, patience time.Duration, request []byte) (took time.Duration, size int, err error) {
	c := newCaller(s, time.Now().Add(patience))
	defer c.close()
	start := time.Now()
	status, size, err := c.call(ctx, request)
	took = time.Since(start)
	if err == nil && status != 200 {
		err = fmt.Errorf("%s answered %d", s.name, status)
	}
	return took, size, err
}

// load is what a closed loop came to.
type load struct {
	rate     float64 // answers a second
	p50, p99 time.Duration
	errors   int
	firstErr error
}

// drive keeps n connections busy for as long as d: each sends its next request
// when it has the answer to the last. pick is given the connection and a count.
func drive(ctx context.Context, s side, n int, d time.Duration, pick func(conn, i int) []byte) load {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		all   []time.Duration
		l     load
	)
	start := time.Now()
	for conn := range n {
		group.Go(func() {
			times, failed, err := loop(ctx, newCaller(s, start.Add(d)), conn, pick)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			l.errors += failed
			if l.firstErr == nil {
				l.firstErr = err
			}
		})
	}
	group.Wait()
	slices.Sort(all)
	l.rate = float64(len(all)) / time.Since(start).Seconds()
	l.p50, l.p99 = quantile(all, .5), quantile(all, .99)
	return l
}

func loop(ctx context.Context, c *caller, conn int, pick func(conn, i int) []byte) (times []time.Duration, failed int, first error) {
	defer c.close()
	for i := 0; ctx.Err() == nil; i++ {
		start := time.Now()
		status, _, err := c.call(ctx, pick(conn, i))
		if time.Now().After(c.until) {
			return times, failed, first
		}
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
			continue
		}
		times = append(times, time.Since(start))
	}
	return times, failed, first
}

// quantile is of sorted times.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
