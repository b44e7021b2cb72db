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
	shortestProbe = time.Millisecond
	longestProbe  = 50 * time.Millisecond
	probeTimeout  = 2 * time.Second
	probeBytes    = 4 << 10
)

var (
	errExited    = errors.New("SQ ended during its start")
	errStartTime = errors.New("SQ was not ready in time")
)

// awaitProof waits until the child has announced itself and answers as only
// the child can.
//
// The keys alone do not show who answers. Another process may have taken the
// port after we chose it: it could accept the first key it is sent, refuse
// the next one, and get requests until SQ has ended for want of the port. SQ
// prints its announcement to our pipe after it has bound the port, and from
// then on the kernel lets nobody else listen there.
func (s *Supervisor) awaitProof(c *child) error {
	ctx, cancel := context.WithTimeoutCause(c.life, s.config.StartTimeout, errStartTime)
	defer cancel()
	c.awaitAnnouncement(ctx, s.config.announceGrace)
	for pause := shortestProbe; ; pause = min(2*pause, longestProbe) {
		if ctx.Err() != nil {
			return c.unready(ctx)
		}
		failure := prove(ctx, c.port, c.key)
		if failure == nil {
			return nil
		}
		if sleep(ctx, pause) != nil {
			return errors.Join(c.unready(ctx), failure)
		}
	}
}

// awaitAnnouncement returns early if ctx ends. An SQ that never announces
// itself is probed after grace all the same, and has no version.
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

// unready says why the wait for the proof has ended.
func (c *child) unready(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	select {
	case <-c.exited:
		return fmt.Errorf("%w (%s)", errExited, c.cmd.ProcessState)
	default:
		return context.Cause(ctx)
	}
}

// prove shows that what listens on the port has the child's key: it takes that
// one and refuses another. The request is one that SQ refuses after it has
// checked the key and before it touches a file; reading any real phext would
// create it.
func prove(ctx context.Context, port int, key string) error {
	if err := expect(ctx, port, key, http.StatusForbidden, "Forbidden: invalid phext path"); err != nil {
		return err
	}
	return expect(ctx, port, newKey(), http.StatusUnauthorized, "Unauthorized")
}

func expect(ctx context.Context, port int, key string, status int, body string) error {
	gotStatus, gotBody, err := ask(ctx, port, key)
	if err != nil {
		return err
	}
	if gotStatus != status || gotBody != body {
		return fmt.Errorf("%w: status %d on port %d instead of %d", errNotProven, gotStatus, port, status)
	}
	return nil
}

// ask makes one request on a connection of its own, as SQ closes each after
// one answer without saying so.
func ask(ctx context.Context, port int, key string) (int, string, error) {
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
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

const probeRequest = "GET /api/v2/select?p=.. HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: %s\r\n\r\n"
