package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	shortestProbePause = time.Millisecond
	longestProbePause  = 50 * time.Millisecond
	probeTimeout       = 2 * time.Second
	probeBytes         = 4 << 10 // of the answer
)

var (
	errExited    = errors.New("SQ ended during its start")
	errStartTime = errors.New("SQ was not ready in time")
)

// awaitReady waits until the child has announced itself and answers as only the
// child can.
//
// The keys alone do not show who answers. Another process may have taken the
// port after we chose it. It could accept the first key it is sent and refuse
// the next one, and would get requests until SQ ends because it cannot have the
// port. SQ prints its announcement to our pipe after it has bound the port, and
// from then on the kernel lets nobody else listen on it.
func (s *Supervisor) awaitReady(c *child) error {
	ctx, cancel := context.WithTimeoutCause(c.life, s.config.StartTimeout, errStartTime)
	defer cancel()
	c.awaitAnnouncement(ctx, s.config.announceGrace)
	for pause := shortestProbePause; ; pause = min(2*pause, longestProbePause) {
		if ctx.Err() != nil {
			return c.notReady(ctx)
		}
		err := probe(ctx, c.port, c.key)
		if err == nil {
			return nil
		}
		if sleep(ctx, pause) != nil {
			return errors.Join(c.notReady(ctx), err)
		}
	}
}

// awaitAnnouncement returns early if ctx ends. An SQ that does not announce
// itself within the grace is probed all the same, and has no version.
func (c *child) awaitAnnouncement(ctx context.Context, grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.out.announced:
		c.version = c.out.version
	case <-timer.C:
	case <-ctx.Done():
	}
}

// notReady is why the wait has ended.
func (c *child) notReady(ctx context.Context) error {
	if c.leaving() {
		return c.ctx.Err()
	}
	select {
	case <-c.exited:
		return fmt.Errorf("%w (%s)", errExited, c.cmd.ProcessState)
	default:
		return context.Cause(ctx)
	}
}

// probe checks that whatever listens on the port accepts this key and refuses
// another one. SQ refuses the request itself after it has checked the key and
// before it touches a file; a request for a phext that does not exist would
// create it.
func probe(ctx context.Context, port int, key string) error {
	if err := expect(ctx, port, key, http.StatusForbidden, "Forbidden: invalid phext path"); err != nil {
		return err
	}
	return expect(ctx, port, newKey(), http.StatusUnauthorized, "Unauthorized")
}

func expect(ctx context.Context, port int, key string, status int, body string) error {
	gotStatus, gotBody, err := request(ctx, port, key)
	if err != nil {
		return err
	}
	if gotStatus != status || gotBody != body {
		return fmt.Errorf("%w: status %d on port %d instead of %d", errNotTheChild, gotStatus, port, status)
	}
	return nil
}

// request uses a connection of its own: SQ closes each after one answer, without
// saying so in the answer.
func request(ctx context.Context, port int, key string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp4", loopback(port))
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := fmt.Fprintf(conn, probeRequest, key); err != nil {
		return 0, "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, probeBytes)), nil)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

const probeRequest = "GET /api/v2/select?p=.. HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: %s\r\n\r\n"
