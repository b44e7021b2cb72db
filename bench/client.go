package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// side is one of the servers that are asked to do the same work.
type side struct {
	name      string
	binary    string // name of the sqgate binary that it is; empty for others
	detail    string // how that differs from other sides of the same binary; may be empty
	addr      string
	key       string
	keepAlive bool // a connection may be used for more than one request
	status    int  // the status that is expected of answers; 0 = 200
	process   *process
}

// expecting is the same side, with another status expected of its answers.
func (s side) expecting(status int) side {
	s.status = status
	return s
}

// check returns an error unless the status is the expected one.
func (s side) check(status int) error {
	if status != cmp.Or(s.status, http.StatusOK) {
		return fmt.Errorf("%s answered %d", s.name, status)
	}
	return nil
}

// request is the text of a request to a side; headers are further header lines.
func (s side) request(method, target string, body []byte, headers ...string) []byte {
	text := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: sq\r\nAuthorization: Bearer %s\r\n", method, target, s.key)
	for _, h := range headers {
		text = fmt.Appendf(text, "%s\r\n", h)
	}
	if method == "POST" {
		text = fmt.Appendf(text, "Content-Length: %d\r\n", len(body))
	}
	return append(append(text, "\r\n"...), body...)
}

// caller sends one request at a time, on at most one connection.
type caller struct {
	side
	conn  *net.TCPConn
	in    *bufio.Reader
	until time.Time // requests that are not answered by then are given up
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

// close resets the connection, so that no socket in TIME_WAIT slows later turns.
func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.SetLinger(0) // the worst is a socket in TIME_WAIT
		_ = c.conn.Close()      // all that was wanted was read
		c.conn = nil
	}
}

// readAnswer reads one answer and returns its status and the size of its body.
// last means that the server closes the connection after it.
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
			if status == http.StatusNotModified {
				return status, 0, last, nil // its Content-Length is that of the body which is not sent
			}
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

// once asks one thing on a connection of its own, and returns how long it took
// and how large the answer's body was.
func (s side) once(ctx context.Context, patience time.Duration, request []byte) (took time.Duration, size int, err error) {
	c := newCaller(s, time.Now().Add(patience))
	defer c.close()
	start := time.Now()
	status, size, err := c.call(ctx, request)
	took = time.Since(start)
	if err == nil {
		err = s.check(status)
	}
	return took, size, err
}

// tagOf asks for something and returns the ETag of the answer.
func (s side) tagOf(ctx context.Context, request []byte) (string, error) {
	c := newCaller(s, time.Now().Add(patience))
	defer c.close()
	if err := c.dial(ctx); err != nil {
		return "", err
	}
	if _, err := c.conn.Write(request); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return "", err
	}
	if tag := answer.Header.Get("ETag"); tag != "" {
		return tag, s.check(answer.StatusCode)
	}
	return "", fmt.Errorf("%s answered %d without an ETag", s.name, answer.StatusCode)
}

// load is the result of one turn of a side.
type load struct {
	rate     float64 // answers a second
	p50, p99 time.Duration
	errors   int
	firstErr error
}

// drive keeps n connections busy for the time d: each sends its next request
// when it has the answer to the last. pick makes the request number i of a
// connection.
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

// loop keeps one connection busy. An answer that comes after the end is not counted.
func loop(ctx context.Context, c *caller, conn int, pick func(conn, i int) []byte) (times []time.Duration, failed int, first error) {
	defer c.close()
	for i := 0; ctx.Err() == nil; i++ {
		start := time.Now()
		status, _, err := c.call(ctx, pick(conn, i))
		if time.Now().After(c.until) {
			return times, failed, first
		}
		if err == nil {
			err = c.check(status)
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

// quantile returns the quantile q, from 0 to 1, of sorted times.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
