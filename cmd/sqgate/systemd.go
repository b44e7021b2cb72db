package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/supervisor"
)

// statusInterval is how often the status line of `systemctl status` is renewed.
const statusInterval = time.Second

// notifier tells systemd how the service is doing. Without systemd its messages
// go nowhere.
type notifier struct {
	log              *slog.Logger
	send             func(state string) error
	status           func() string
	checkHealth      func(context.Context) error // asks the gateway over HTTP
	watchdogInterval time.Duration               // how often to notify the watchdog; 0 = there is none
	lastStatus       string
	isStopping       atomic.Bool
}

// startedBySystemd says whether a unit has started sqgate, and not a person, who is
// better told at once that something is wrong.
func startedBySystemd() bool {
	return os.Getenv("NOTIFY_SOCKET") != "" || os.Getenv("LISTEN_FDS") != ""
}

func (s *service) newNotifier() *notifier {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("systemd's watchdog is not served", "error", err)
	}
	n := &notifier{log: s.log, send: sendToSystemd, status: s.statusLine, watchdogInterval: limit / 3}
	if s.health != nil {
		n.checkHealth = healthCheck(s.health.Addr())
	}
	return n
}

// notifyTimeout is how long systemd may take to accept a message. The library's
// SdNotify waits forever, which could keep the gateway from stopping.
const notifyTimeout = 2 * time.Second

func sendToSystemd(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}

// notify sends lines to systemd. A failure must not stop the gateway, so it is
// only logged.
func (n *notifier) notify(lines ...string) {
	if err := n.send(strings.Join(lines, "\n")); err != nil {
		n.log.Warn("systemd was not told", "error", err)
	}
}

func (n *notifier) ready() {
	n.lastStatus = n.status()
	n.notify(daemon.SdNotifyReady, "STATUS="+n.lastStatus)
}

// reloading tells systemd when a reload begins and ends. READY follows even if
// the reload failed: the gateway goes on with the tenants that it had, and the
// status line says what is wrong.
func (n *notifier) reloading(reload func()) {
	n.notify(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
	reload()
	n.notify(daemon.SdNotifyReady, "STATUS="+n.status())
}

func (n *notifier) stopping() {
	n.isStopping.Store(true)
	n.notify(daemon.SdNotifyStopping, "STATUS=stopping: requests in flight finish")
}

// keepStatus sends the status line whenever it has changed, until ctx ends.
func (n *notifier) keepStatus(ctx context.Context) {
	every(ctx, statusInterval, func() {
		if now := n.status(); now != n.lastStatus {
			n.lastStatus = now
			n.notify("STATUS=" + now)
		}
	})
}

// keepWatchdog notifies the watchdog each time the gateway has just answered a
// request, until it stops or ctx ends. systemd then replaces a process that runs but
// answers nobody. It has no watchdog for one that stops.
func (n *notifier) keepWatchdog(ctx context.Context) {
	if n.watchdogInterval <= 0 {
		return
	}
	every(ctx, n.watchdogInterval, func() {
		checkCtx, cancel := context.WithTimeout(ctx, n.watchdogInterval)
		defer cancel()
		switch err := n.checkHealth(checkCtx); {
		case err == nil:
			n.notify(daemon.SdNotifyWatchdog)
		case !n.isStopping.Load():
			n.log.Error("the gateway does not answer itself", "error", err)
		}
	})
}

// every calls do once per interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// healthCheck returns a function that sends GET /health to a listener of this
// host. It opens a new connection each time, so that it checks accepting too.
func healthCheck(addr net.Addr) func(context.Context) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, addr.Network(), addr.String())
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sqgate/health", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		// A gateway that drains answers 503, which is healthy.
		if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("/health answers %s", answer.Status)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
}

// statusLine is the line that `systemctl status` shows. It contains no secrets.
func (s *service) statusLine() string {
	states := map[supervisor.State]int{}
	for _, c := range s.children.Children() {
		states[c.State]++
	}
	parts := []string{counted(s.store.Current().Len(), "tenant")}
	for _, state := range supervisor.States() {
		if n := states[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d SQ %s", n, state))
		}
	}
	if s.host != nil && !s.o.bucket.sync {
		parts = append(parts, "acknowledged before it is in the bucket")
	}
	line := strings.Join(append(parts, "sqgate "+buildVersion()), ", ")
	if s.host != nil && !s.host.Holds() {
		line = "NOTHING IS SERVED until the bucket can be reached (" + line + ")"
	}
	switch err := s.store.Status().Err; {
	case err == nil:
	case s.store.Current().Refusal() != nil:
		line = "NO TENANT IS SERVED until the tenants file is mended: " + err.Error()
	default:
		line = "TENANTS FILE REFUSED, the one before it stays in force: " + err.Error() + " (" + line + ")"
	}
	// A file system can be read-only without saying so.
	if err := cmp.Or(fsutil.CheckWritable(s.o.stateDir), s.writer.NotRecorded()); err != nil {
		line = "NO WRITE IS POSSIBLE, since the state directory cannot be written: " + err.Error() + "; reads go on, and a restart would end them (" + line + ")"
	}
	return oneLine(line)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
