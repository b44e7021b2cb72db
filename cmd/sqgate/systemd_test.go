package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// manager is systemd as a service sees it: a socket that receives its messages.
// await waits for a message that contains want, and returns it.
func manager(t *testing.T) (env string, await func(want string) string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return "NOTIFY_SOCKET=" + conn.LocalAddr().String(), func(want string) string {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(waitTimeout)) // on a closed socket the read fails
		for buf := make([]byte, 64<<10); ; {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("systemd is not told %q: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return string(buf[:n])
			}
		}
	}
}

func TestSystemdIsToldHowItGoes(t *testing.T) {
	t.Parallel()
	env, await := manager(t)
	g := newGate(t, builtin, "will", "ann")
	g.env = []string{env, "WATCHDOG_USEC=300000"}
	g.start()
	if told := await("READY=1"); !strings.Contains(told, "STATUS=2 tenants") {
		t.Errorf("ready with %q", told)
	}
	await("WATCHDOG=1")
	g.must("will", "POST", at("update", "n", origin), "x", 200)
	await("STATUS=2 tenants, 1 SQ ready, sqgate " + buildVersion())

	if err := os.WriteFile(g.configPath(), []byte(`{"tenants": [}`), 0o600); err != nil {
		t.Fatal(err)
	}
	await("STATUS=TENANTS FILE REFUSED")
	g.must("will", "GET", at("select", "n", origin), "", 200)
	g.writeFile()
	await("STATUS=2 tenants")

	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if told := await("RELOADING=1"); !strings.Contains(told, "MONOTONIC_USEC=") {
		t.Errorf("reloading with %q", told)
	}
	await("READY=1")
	g.stop()
	await("STOPPING=1")
}

// TestClientsLeaveTheWatchdogItsConnection, however many connections they have.
func TestClientsLeaveTheWatchdogItsConnection(t *testing.T) {
	for _, private := range []string{"true", "false"} {
		t.Run("private network "+private, func(t *testing.T) {
			t.Parallel()
			env, await := manager(t)
			g := newGate(t, builtin, "will")
			few := filepath.Join(g.dir, "few-descriptors")
			writeScript(t, few, "ulimit -n 256\nexec "+g.self+" \"$@\"\n")
			g.self, g.env, g.args = few, []string{env, "WATCHDOG_USEC=300000"}, []string{"--private-network=" + private}
			g.start()
			await("WATCHDOG=1")
			for opened := 0; ; opened++ {
				c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
				if err != nil || opened > 256 {
					t.Fatalf("after %d: %v", opened, err)
				}
				t.Cleanup(func() { _ = c.Close() })
				_ = c.SetDeadline(time.Now().Add(waitTimeout)) // on a closed socket the read fails
				_, _ = io.WriteString(c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
				if n, _ := c.Read(make([]byte, 1)); n == 0 {
					break // it was refused
				}
			}
			_ = g.cmd.Process.Signal(syscall.SIGHUP) // so that it is known what was sent before
			await("RELOADING=1")
			await("WATCHDOG=1") // the check may have begun before
			await("WATCHDOG=1")
			if strings.Contains(g.log.String(), "does not answer itself") {
				t.Error(g.log.String())
			}
		})
	}
}

func TestReadyFollowsAReloadThatFails(t *testing.T) {
	var told []string
	n := &notifier{log: slog.New(slog.DiscardHandler), send: func(s string) error { told = append(told, s); return nil }, status: func() string { return "bad" }}
	n.reloading(func() {})
	if len(told) != 2 || !strings.HasPrefix(told[0], "RELOADING=1\nMONOTONIC_USEC=") || told[1] != "READY=1\nSTATUS=bad" {
		t.Errorf("told %q", told)
	}
}

func TestTheWatchdogIsToldOnlyWhatIsTrue(t *testing.T) {
	no := errors.New("no")
	for _, c := range []struct {
		name         string
		answer       error
		stops        bool
		kicks, lines int
	}{{"answers", nil, false, 10, 0}, {"does not answer", no, false, 0, 10}, {"does not answer while it stops", no, true, 0, 0}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+1)
				defer cancel()
				kicks, log := 0, &bytes.Buffer{}
				n := &notifier{log: slog.New(slog.NewTextHandler(log, nil)), watchdogInterval: time.Second, checkHealth: func(context.Context) error { return c.answer },
					send: func(state string) error { kicks += strings.Count(state, daemon.SdNotifyWatchdog); return nil }}
				if c.stops {
					n.stopping()
				}
				n.keepWatchdog(ctx)
				if lines := strings.Count(log.String(), "\n"); kicks != c.kicks || lines != c.lines {
					t.Errorf("%d kicks and %d lines, want %d and %d", kicks, lines, c.kicks, c.lines)
				}
			})
		})
	}
}

func TestHealthIsAskedOverTheListener(t *testing.T) {
	status := atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	defer server.Close()
	ask := healthCheck(server.Listener.Addr())
	for code, good := range map[int]bool{200: true, 503: true, 500: false, 404: false} {
		status.Store(int64(code))
		if err := ask(t.Context()); (err == nil) != good {
			t.Errorf("status %d: %v", code, err)
		}
	}
	server.Close()
	if ask(t.Context()) == nil {
		t.Error("a closed listener answers")
	}
}

// activate starts sqgate as a socket unit does, with a socket that outlives it.
func (g *gate) activate(socket *os.File) {
	g.t.Helper()
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	g.cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, self, "serve", "--config", g.configPath(), "--sq", g.sq,
		"--listen", "127.0.0.1:1", "--state-dir", filepath.Join(g.dir, "state"), "--data-root", filepath.Join(g.dir, "data"))
	g.cmd.Env = append(append(os.Environ(), asSqgate+"=1", "SQ_ADMIN_KEY="+adminKey), g.env...)
	g.cmd.ExtraFiles = []*os.File{socket}
	g.log = &logBuffer{grown: make(chan struct{})}
	g.cmd.Stderr = g.log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait(); close(exited) }(g.cmd, g.exited)
}

func TestARestartBehindASocketLosesNothing(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		socket, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		g := newGate(t, sq, "kept", "fresh")
		g.url = "http://" + l.Addr().String()
		if err := l.Close(); err != nil { // the copy keeps the socket open
			t.Fatal(err)
		}
		g.activate(socket)
		kept, fresh := &http.Transport{MaxIdleConnsPerHost: 8}, &http.Transport{DisableKeepAlives: true}
		defer kept.CloseIdleConnections()
		writers := []*loadWriter{g.write("kept", kept), g.write("fresh", fresh)}
		for range 3 {
			for _, w := range writers {
				w.awaitMore(t, 30)
			}
			if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			g.wait()
			g.activate(socket)
		}
		for _, w := range writers {
			w.awaitMore(t, 30)
			w.end(t, g)
		}
	})
}

// writer inserts one character after the other, and counts those that are
// acknowledged.
type loadWriter struct {
	id     string
	client *http.Client
	stop   chan struct{}
	ended  chan struct{} // closed after the last write
	acked  atomic.Int64
	wrong  error // of the last write, to be read when it has ended
}

func (g *gate) write(id string, over http.RoundTripper) *loadWriter {
	w := &loadWriter{id: id, client: &http.Client{Transport: over, Timeout: waitTimeout}, stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		for w.wrong == nil {
			select {
			case <-w.stop:
				return
			default:
			}
			w.wrong = w.post(g)
		}
	}()
	return w
}

func (w *loadWriter) post(g *gate) error {
	r, err := http.NewRequest(http.MethodPost, g.url+at("insert", "n", origin), strings.NewReader("x"))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+g.key(w.id))
	answer, err := w.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%d %s, %v", answer.StatusCode, text, err)
	}
	w.acked.Add(1)
	return nil
}

func (w *loadWriter) awaitMore(t *testing.T, n int64) {
	t.Helper()
	from := w.acked.Load()
	eventually(t, w.id+" is being written", func() bool {
		select {
		case <-w.ended:
			t.Fatalf("%s: after %d writes: %v", w.id, w.acked.Load(), w.wrong)
		default:
		}
		return w.acked.Load() >= from+n
	})
}

// end stops the writer, and compares what was acknowledged with what is stored.
func (w *loadWriter) end(t *testing.T, g *gate) {
	t.Helper()
	close(w.stop)
	<-w.ended
	if w.wrong != nil {
		t.Errorf("%s: after %d writes: %v", w.id, w.acked.Load(), w.wrong)
	}
	if got := g.get(w.id, at("select", "n", origin)); int64(len(got)) != w.acked.Load() {
		t.Errorf("%s: %d writes were acknowledged and %d are there", w.id, w.acked.Load(), len(got))
	}
}
