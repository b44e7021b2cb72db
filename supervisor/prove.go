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
	versionGrace  = 100 * time.Millisecond
)

var (
	errExited    = errors.New("SQ ended during its start")
	errStartTime = errors.New("SQ was not ready in time")
)

// awaitProof waits until the child has proven itself: it is asked when it says
// that it listens, and now and then before, in case it never says so.
func (s *Supervisor) awaitProof(c *child) error {
	ctx, cancel := context.WithTimeoutCause(c.life, s.config.StartTimeout, errStartTime)
	defer cancel()
	announced, failure := c.out.announced, error(nil)
	for pause := shortestProbe; ; pause = min(2*pause, longestProbe) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			return errors.Join(c.unready(ctx), failure)
		case <-announced:
			announced = nil
		case <-timer.C:
		}
		timer.Stop()
		if failure = s.prove(ctx, c); failure == nil {
			c.awaitVersion()
			return nil
		}
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

// awaitVersion: SQ prints its version before it accepts anything, so the line
// is in the pipe already.
func (c *child) awaitVersion() {
	select {
	case <-c.out.announced:
		c.version = c.out.version
	case <-time.After(versionGrace):
	}
}

// prove shows that what listens on the port is this very child: it refuses a
// wrong key, takes the one only it knows, and the socket is its own. The
// request is one that SQ refuses after it has checked the key and before it
// touches a file; reading any real phext would create it.
func (s *Supervisor) prove(ctx context.Context, c *child) error {
	if err := expect(ctx, c.port, c.key, http.StatusForbidden, "Forbidden: invalid phext path"); err != nil {
		return err
	}
	if err := expect(ctx, c.port, newKey(), http.StatusUnauthorized, "Unauthorized"); err != nil {
		return err
	}
	return ownsListener(c.proc.pid, c.port)
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
