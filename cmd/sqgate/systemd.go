package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"mirrorborn.us/sqgate/supervisor"
)

// statusEvery is how often the status line of `systemctl status` is renewed.
const statusEvery = time.Second

// unit is what sqgate tells systemd about itself. Without systemd nobody
// listens, and telling costs nothing.
type unit struct {
	log     *slog.Logger
	send    func(state string) error
	status  func() string
	answers func(context.Context) error // asks the gateway over its own listener
	kick    time.Duration               // how often the watchdog wants to be told; 0 = there is none
	told    string                      // the last status line
}

func (s *service) newUnit() *unit {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("systemd's watchdog is not served", "error", err)
	}
	return &unit{
		log: s.log, send: notify, status: s.statusLine, kick: within / 3,
		answers: healthOf(s.listener.Addr()),
	}
}

// telling is how long systemd may take to make room for a message. The library's
// own SdNotify waits for ever, which would keep a gateway from ending.
const telling = 2 * time.Second

func notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(telling)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}

// tell sends lines to systemd. That it cannot be told must not stop the gateway.
func (u *unit) tell(lines ...string) {
	if err := u.send(strings.Join(lines, "\n")); err != nil {
		u.log.Warn("systemd was not told", "error", err)
	}
}

func (u *unit) ready() {
	u.told = u.status()
	u.tell(daemon.SdNotifyReady, "STATUS="+u.told)
}

// reloading brackets a reload. READY follows also when it failed, since the
// gateway goes on with what it had; the status line says what is wrong.
func (u *unit) reloading(reload func()) {
	u.tell(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
	reload()
	u.tell(daemon.SdNotifyReady, "STATUS="+u.status())
}

func (u *unit) stopping() {
	u.tell(daemon.SdNotifyStopping, "STATUS=stopping: requests in flight finish")
}

// keepStatus renews the status line when it has changed, until ctx ends.
func (u *unit) keepStatus(ctx context.Context) {
	every(ctx, statusEvery, func() {
		if now := u.status(); now != u.told {
			u.told = now
			u.tell("STATUS=" + now)
		}
	})
}

// keepWatchdog tells the watchdog that the gateway lives, only when it has just
// answered a request: a process that runs and answers nobody is to be replaced.
func (u *unit) keepWatchdog(ctx context.Context) {
	if u.kick <= 0 {
		return
	}
	every(ctx, u.kick, func() {
		asking, cancel := context.WithTimeout(ctx, u.kick)
		defer cancel()
		if err := u.answers(asking); err != nil {
			u.log.Error("the gateway does not answer itself", "error", err)
			return
		}
		u.tell(daemon.SdNotifyWatchdog)
	})
}

func every(ctx context.Context, pause time.Duration, do func()) {
	ticker := time.NewTicker(pause)
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

// healthOf asks GET /health at an address on this host, on a connection of its own.
func healthOf(addr net.Addr) func(context.Context) error {
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
		// 503 is an answer too: that of a gateway that drains.
		if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("/health answers %s", answer.Status)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
}

// statusLine is what `systemctl status` shows: one line, without secrets.
func (s *service) statusLine() string {
	states := map[supervisor.State]int{}
	for _, c := range s.children.Children() {
		states[c.State]++
	}
	parts := []string{fmt.Sprintf("%d tenants", s.store.Current().Len())}
	for _, state := range supervisor.States() {
		if n := states[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d SQ %s", n, state))
		}
	}
	line := strings.Join(parts, ", ")
	if err := s.store.Status().Err; err != nil {
		line = "TENANTS FILE REFUSED, the one before it stays in force: " + err.Error() + " (" + line + ")"
	}
	return strings.Join(strings.Fields(line), " ")
}
