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
	"strconv"
	"time"
)

// side is one of the servers that do the same work.
type side struct {
	name      string
	addr      string
	key       string
	keepAlive bool // it may be asked again on a connection
	status    int  // of the answers that count; 200 if it is zero
	process   *process
}

// expecting is the same side, asked for what it answers with another status.
func (s side) expecting(status int) side {
	s.status = status
	return s
}

// check says whether a status is the one that was asked for.
func (s side) check(status int) error {
	if status != cmp.Or(s.status, http.StatusOK) {
		return fmt.Errorf("%s answered %d", s.name, status)
	}
	return nil
}

// request is a request to a side, ready to be sent, with further header lines.
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
			if status == http.StatusNotModified {
				return status, 0, last, nil // whatever length it tells is that of what it does not send
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
